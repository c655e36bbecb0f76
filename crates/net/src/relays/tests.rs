use super::*;

const PEER: &str = "12D3KooWGC6TvWhfapngX6wvJHMYvKpDMXPb3ZnCZ6dMoaMtimQ5";

fn relays(now: Instant) -> Relays {
    let with_peer = format!("/ip4/127.0.0.1/tcp/1/ws/p2p/{PEER}").parse().expect("an address");
    let without = "/ip4/127.0.0.1/tcp/2/ws".parse().expect("an address");
    Relays::new(vec![with_peer, without], 7, now)
}

fn id(number: usize) -> ConnectionId {
    ConnectionId::new_unchecked(number)
}

#[test]
fn dial_reserve_lose_and_come_back() {
    let now = Instant::now();
    let mut relays = relays(now);
    assert_eq!(relays.due(now), [0, 1]);
    let peer: PeerId = PEER.parse().expect("a peer id");
    relays.dialling(0, id(1));
    relays.dialling(1, id(2));
    assert_eq!(relays.next_due(), None);

    assert_eq!(relays.connected(id(9), peer), None, "a connection that is not to a relay");
    assert_eq!(relays.connected(id(1), peer), Some(0));
    let listener = ListenerId::next();
    relays.reserving(0, listener);
    assert_eq!(relays.up().count(), 0);
    assert!(relays.accepted(&peer, now).is_some());
    assert!(relays.accepted(&peer, now).is_none(), "a renewal is not news");
    assert_eq!(relays.up().count(), 1);

    let (lost, closed) = relays.connection_closed(id(1), now).expect("the relay's connection");
    assert_eq!(closed, listener);
    assert!(relays.listener_closed(listener, now).is_none(), "one loss is told once");
    assert!(relays.due(now).is_empty());
    assert_eq!(relays.due(now + lost.retry_in), [0]);
}

fn many(count: u8, now: Instant) -> Relays {
    let address = |last: u8| format!("/ip4/192.0.2.{last}/tcp/1/ws").parse().expect("an address");
    Relays::new((0..count).map(address).collect(), 7, now)
}

/// Brings a relay up.
fn bring_up(relays: &mut Relays, index: usize, rtt_ms: Option<u64>, now: Instant) -> PeerId {
    let peer = PeerId::random();
    relays.dialling(index, id(index));
    assert_eq!(relays.connected(id(index), peer), Some(index));
    relays.reserving(index, ListenerId::next());
    relays.accepted(&peer, now).expect("it was asked for");
    if let Some(ms) = rtt_ms {
        relays.measured(&peer, Duration::from_millis(ms));
    }
    peer
}

#[test]
fn another_relay_takes_over_from_one_that_failed() {
    let now = Instant::now();
    let mut relays = many(6, now);
    let first = relays.due(now);
    assert_eq!(first.len(), WANTED);
    for index in &first[1..] {
        bring_up(&mut relays, *index, None, now);
    }
    relays.dialling(first[0], id(50));
    relays.dial_failed(id(50), now).expect("it was being dialled");
    let instead = relays.due(now);
    assert_eq!(instead.len(), 1);
    assert!(!first.contains(&instead[0]), "one that was not tried yet");
    bring_up(&mut relays, instead[0], None, now);
    assert_eq!(relays.up().count(), WANTED);
}

#[test]
fn nearer_relays_replace_slower_ones() {
    let now = Instant::now();
    let mut relays = many(4, now);
    let used = relays.due(now);
    let peers: Vec<_> = used.iter().map(|i| bring_up(&mut relays, *i, Some(100 + *i as u64), now)).collect();
    assert!(relays.due(now).is_empty());
    let later = now + COMPARE.0;
    assert_eq!(relays.next_due(), Some(later));
    let compared = relays.due(later);
    assert_eq!(compared.len(), 1);
    assert!(relays.spare(|_| false).is_none(), "nothing is known of it yet");
    let near = bring_up(&mut relays, compared[0], Some(10), later);
    let slowest = peers[used.iter().enumerate().max_by_key(|(_, i)| **i).expect("three").0];
    assert!(relays.spare(|peer| *peer == slowest).is_some(), "the slowest that is not busy");
    assert_eq!(relays.up().count(), WANTED);
    assert!(relays.up().any(|r| r.peer == Some(near)) && relays.up().any(|r| r.peer == Some(slowest)));
    assert!(relays.spare(|_| false).is_none());
    assert_eq!(relays.good().first().and_then(|r| r.rtt_ms), Some(10));
}

#[test]
fn a_remembered_relay_is_tried_first() {
    let now = Instant::now();
    let mut relays = many(8, now);
    relays.add("/ip4/192.0.2.7/tcp/1/ws".parse().expect("an address"), Some(Duration::from_millis(5)));
    relays.add("/ip4/198.51.100.1/tcp/1/ws".parse().expect("an address"), Some(Duration::from_millis(9)));
    let due = relays.due(now);
    assert!(due.contains(&7) && due.contains(&8), "{due:?}");
    for last in 0..100 {
        relays.add(format!("/ip4/203.0.113.{last}/tcp/1/ws").parse().expect("an address"), None);
    }
    assert_eq!(relays.addresses().count(), MAX_RELAYS);
}

#[test]
fn the_identity_of_a_relay_is_learnt() {
    let now = Instant::now();
    let mut relays = relays(now);
    let peer = PeerId::random();
    assert!(!relays.contains(&peer));
    relays.dialling(1, id(2));
    assert_eq!(relays.connected(id(2), peer), Some(1));
    assert!(relays.contains(&peer));
}

#[test]
fn waits_grow_until_a_link_has_held() {
    let start = Instant::now();
    let mut relays = relays(start);
    let fail = |relays: &mut Relays, now| {
        relays.dialling(0, id(1));
        relays.dial_failed(id(1), now).expect("it was being dialled").retry_in
    };
    let waits: Vec<_> = (0..8).map(|_| fail(&mut relays, start)).collect();
    assert!(waits[7] > waits[0] * 10, "{waits:?}");

    let peer: PeerId = PEER.parse().expect("a peer id");
    let mut hold = |held: Duration| {
        relays.dialling(0, id(1));
        relays.connected(id(1), peer);
        let listener = ListenerId::next();
        relays.reserving(0, listener);
        relays.accepted(&peer, start);
        relays.listener_closed(listener, start + held).expect("it was up").retry_in
    };
    assert!(hold(Duration::from_secs(1)) > waits[0] * 10, "a link that falls at once is not a success");
    assert!(hold(STABLE) <= Duration::from_millis(500));
}

#[test]
fn addresses_of_one_relay_take_turns() {
    let now = Instant::now();
    let [first, second] = ["tcp/1/ws", "udp/2/webrtc-direct"]
        .map(|way| format!("/ip4/127.0.0.1/{way}/p2p/{PEER}").parse::<Address>().expect("an address"));
    let mut relays = Relays::new(vec![first.clone(), second.clone()], 7, now);
    assert_eq!(relays.due(now), [0], "one relay is dialled once");
    for expected in [&first, &second, &first] {
        assert_eq!(&relays.get(0).address, expected);
        relays.dialling(0, id(1));
        assert_eq!(&relays.dial_failed(id(1), now).expect("it was being dialled").address, expected);
    }
    relays.dialling(0, id(2));
    relays.connected(id(2), PEER.parse().expect("a peer id"));
    relays.reserving(0, ListenerId::next());
    relays.connection_closed(id(2), now);
    assert_eq!(relays.get(0).address, second, "the way that worked is tried again");
}

#[test]
fn relays_can_be_replaced() {
    let now = Instant::now();
    let mut relays = relays(now);
    let peer: PeerId = PEER.parse().expect("a peer id");
    relays.dialling(0, id(1));
    relays.dialling(1, id(2));
    relays.connected(id(1), peer);
    let listener = ListenerId::next();
    relays.reserving(0, listener);
    let other = PeerId::random();
    let address: Address = format!("/ip4/127.0.0.1/tcp/1/ws/p2p/{other}").parse().expect("an address");
    let kept = relays.get(1).address.clone();
    let dropped = relays.replace(vec![address.clone(), kept, address], now);
    assert_eq!(
        dropped.iter().map(|r| (r.listener(), r.connection)).collect::<Vec<_>>(),
        [(Some(listener), Some(id(1)))]
    );
    assert!(!relays.contains(&peer) && relays.contains(&other));
    assert_eq!(relays.due(now), [1], "the new one, once; the other one is being dialled");
}

#[test]
fn waking_up_makes_waiting_relays_due() {
    let now = Instant::now();
    let mut relays = relays(now);
    relays.dialling(0, id(1));
    relays.dial_failed(id(1), now);
    relays.dialling(1, id(2));
    assert!(relays.due(now).is_empty());
    relays.wake(now);
    assert_eq!(relays.due(now), [0], "the one being dialled is left alone");
}
