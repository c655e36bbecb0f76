use str0m::ice::{StunMessage, TransId};

use super::*;
use crate::direct::ufrag;

fn source(port: u16) -> SocketAddr {
    ([192, 0, 2, 1], port).into()
}

fn hmac(key: &[u8], payloads: &[&[u8]]) -> [u8; 20] {
    str0m::crypto::from_feature_flags().sha1_hmac_provider.sha1_hmac(key, payloads)
}

fn verify(message: &StunMessage<'_>, password: &str) -> bool {
    message.verify(password.as_bytes(), hmac)
}

/// A check as a client sends it.
fn check(name: &str, password: &str) -> Vec<u8> {
    let username = format!("{name}:{name}");
    let message = StunMessage::binding_request(&username, TransId::new(), true, 7, 1, false);
    let mut bytes = vec![0; 512];
    let length = message.to_bytes(Some(password.as_bytes()), &mut bytes, hmac).unwrap();
    bytes.truncate(length);
    bytes
}

#[test]
fn datagrams_find_their_connection_by_name_and_then_by_source() {
    let (a, b) = (ufrag([1; 16]), ufrag([2; 16]));
    let mut table = Table::new();
    assert_eq!(table.route(source(1), &check(&a, &a), verify), Route::New(a.clone()));
    table.insert(&a, source(1), 'a');
    table.insert(&b, source(2), 'b');
    assert_eq!(table.route(source(1), &[22, 0, 0], verify), Route::Known(vec![a.as_str().into()]));
    assert_eq!(table.route(source(3), &[22, 0, 0], verify), Route::Stray);
    assert_eq!(table.route(source(3), &check(&b, &b), verify), Route::Known(vec![b.as_str().into()]));
    assert_eq!(table.route(source(3), &[22, 0, 0], verify), Route::Known(vec![b.as_str().into()]), "another interface");
    assert_eq!(table.get(&a), Some(&'a'));

    table.retain(|to| *to == 'a');
    assert_eq!(table.len(), 1);
    assert_eq!(table.route(source(3), &[22, 0, 0], verify), Route::Stray);
    assert_eq!(table.by_source.len(), 1, "nothing is left of what was forgotten");
}

#[test]
fn a_source_cannot_be_taken_from_its_connection() {
    let mut table = Table::new();
    let names: Vec<String> = (0..4).map(|n| ufrag([n; 16])).collect();
    table.insert(&names[0], source(1), 0);
    assert!(table.has_room_at(source(1)));
    table.insert(&names[1], source(1), 1);
    assert!(!table.has_room_at(source(1)));
    let Route::Known(owners) = table.route(source(1), &[22, 0, 0], verify) else { panic!("nobody's") };
    assert_eq!(owners, [names[0].as_str().into(), names[1].as_str().into()]);
}

#[test]
fn sources_of_a_connection_are_bounded() {
    let name = ufrag([1; 16]);
    let mut table = Table::new();
    table.insert(&name, source(0), ());
    for port in 1..100 {
        assert!(matches!(table.route(source(port), &check(&name, &name), verify), Route::Known(_)));
    }
    assert_eq!(table.by_source.len(), MAX_SOURCES);
}

#[test]
fn checks_that_are_not_ours_or_not_signed_are_stray() {
    let name = ufrag([1; 16]);
    let mut table = Table::<()>::new();
    for (name, password) in [(name.as_str(), "wrong"), ("someone-elses-name-long-enough", "x"), ("", "")] {
        assert_eq!(table.route(source(1), &check(name, password), verify), Route::Stray, "{name}");
    }
    let mut changed = check(&name, &name);
    changed[30] ^= 1;
    assert_eq!(table.route(source(1), &changed, verify), Route::Stray);
}

proptest::proptest! {
    #[test]
    fn any_datagram_is_routed_without_a_panic(
        first in 0_u8..4, rest in proptest::collection::vec(0_u8.., 0..200),
    ) {
        let mut table = Table::<()>::new();
        let datagram: Vec<u8> = std::iter::once(first).chain(rest).collect();
        proptest::prop_assert_eq!(table.route(source(1), &datagram, verify), Route::Stray);
    }

    #[test]
    fn any_damage_to_a_check_is_noticed(at in 0_usize..100, bit in 0_u8..8) {
        let name = ufrag([1; 16]);
        let mut datagram = check(&name, &name);
        let at = at % datagram.len();
        datagram[at] ^= 1 << bit;
        let mut table = Table::<()>::new();
        // What follows the signature is not signed, and str0m does not look at the fingerprint there.
        if let Route::New(found) = table.route(source(1), &datagram, verify) {
            proptest::prop_assert_eq!(found, name);
        }
    }
}
