use super::*;

const PEER: &str = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X";

fn target() -> DialTarget {
    DialTarget {
        socket: "192.0.2.7:4002".parse().unwrap(),
        fingerprint: Fingerprint::new([0xAB; 32]),
        peer: Some(PEER.parse().unwrap()),
    }
}

#[test]
fn an_address_leads_back_to_its_server() {
    for socket in ["192.0.2.7:4002", "[2001:db8::1]:1"] {
        let socket: SocketAddr = socket.parse().unwrap();
        let address = dial_address(socket, target().fingerprint);
        assert!(is_direct(&address));
        assert_eq!(parse_dial_address(&address), Ok(DialTarget { socket, peer: None, ..target() }));
        let with_peer = address.with(Protocol::P2p(PEER.parse().unwrap()));
        assert_eq!(parse_dial_address(&with_peer), Ok(DialTarget { socket, ..target() }));
        assert_eq!(parse_listen_address(&address_of(socket)), Some(socket));
    }
}

#[test]
fn other_addresses_are_refused() {
    let hash = "/certhash/uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g";
    for text in [
        "/ip4/192.0.2.7/udp/1/webrtc-direct".to_owned(),
        format!("/ip4/192.0.2.7/tcp/1/webrtc-direct{hash}"),
        format!("/dns4/example.org/udp/1/webrtc-direct{hash}"),
        format!("/ip4/192.0.2.7/udp/1/quic-v1/webtransport{hash}"),
        format!("/ip4/192.0.2.7/udp/1/webrtc-direct{hash}{hash}"),
        format!("/ip4/192.0.2.7/udp/0/webrtc-direct{hash}"),
        format!("/ip4/0.0.0.0/udp/1/webrtc-direct{hash}"),
        format!("/ip4/192.0.2.7/udp/1/webrtc-direct{hash}/p2p/{PEER}/p2p-circuit"),
    ] {
        assert_eq!(parse_dial_address(&text.parse().unwrap()), Err(AddressError::Form), "{text}");
    }
    let md5 = Multiaddr::from(std::net::Ipv4Addr::LOCALHOST)
        .with(Protocol::Udp(1))
        .with(Protocol::WebRTCDirect)
        .with(Protocol::Certhash(libp2p_core::multiaddr::multihash::Multihash::wrap(0xd5, &[0; 16]).unwrap()));
    assert_eq!(parse_dial_address(&md5), Err(AddressError::Hash));
    assert_eq!(parse_listen_address(&md5), None);
    let behind = format!("/ip4/192.0.2.7/udp/1/webrtc-direct{hash}/p2p/{PEER}/p2p-circuit/webrtc/p2p/{PEER}");
    assert!(!is_direct(&behind.parse().unwrap()), "a tab behind such a relay is not one");
}

#[test]
fn names_are_ours_and_bounded() {
    assert!(is_ufrag(&ufrag([7; 16])));
    for name in ["", "short", UFRAG_PREFIX, &format!("{UFRAG_PREFIX}{}", "a".repeat(300)), &"a".repeat(40)] {
        assert!(!is_ufrag(name), "{name}");
    }
    assert!(!is_ufrag(&format!("{UFRAG_PREFIX}abc def")));
}

#[test]
fn an_offer_gets_the_common_name_and_message_size() {
    let offer = "v=0\r\na=ice-ufrag:abcd\r\na=ice-pwd:secret\r\na=mid:0\r\na=max-message-size:262144\r\n";
    let renamed = rename_offer(offer, "NAME");
    assert_eq!(renamed, "v=0\r\na=ice-ufrag:NAME\r\na=ice-pwd:NAME\r\na=mid:0\r\na=max-message-size:16384\r\n");
}

#[test]
fn the_answer_says_what_the_server_would() {
    let answer = server_answer(&target(), "NAME");
    for line in [
        "a=ice-lite",
        "a=setup:passive",
        "a=ice-ufrag:NAME",
        "a=ice-pwd:NAME",
        "a=max-message-size:16384",
        "c=IN IP4 192.0.2.7",
        "m=application 4002 UDP/DTLS/SCTP webrtc-datachannel",
    ] {
        assert!(answer.split("\r\n").any(|found| found == line), "{line}");
    }
    assert_eq!(Fingerprint::from_sdp(&answer), Some(target().fingerprint));
}

proptest::proptest! {
    #[test]
    fn any_multiaddr_is_read_without_a_panic(bytes in proptest::collection::vec(0_u8.., 0..80)) {
        if let Ok(address) = Multiaddr::try_from(bytes) {
            let _ = (parse_dial_address(&address), parse_listen_address(&address), is_direct(&address));
        }
    }

    #[test]
    fn any_hash_of_an_address_is_read_without_a_panic(code in 0_u64.., digest in proptest::collection::vec(0_u8.., 0..64)) {
        let hash = libp2p_core::multiaddr::multihash::Multihash::wrap(code, &digest).unwrap();
        let address = address_of("192.0.2.7:1".parse().unwrap()).with(Protocol::Certhash(hash));
        let is_sha_256 = code == 0x12 && digest.len() == 32;
        proptest::prop_assert_eq!(parse_dial_address(&address).is_ok(), is_sha_256);
    }

    #[test]
    fn any_name_is_judged_without_a_panic(name in "\\PC{0,300}") {
        if is_ufrag(&name) {
            proptest::prop_assert!(name.is_ascii() && name.len() <= MAX_UFRAG_BYTES);
        }
    }
}
