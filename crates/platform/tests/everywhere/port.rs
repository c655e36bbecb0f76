use cdi_platform::port::{CAPACITY, Packet, Port, PortError};
use cdi_platform::testing::async_test;

fn packet(number: u8) -> Packet {
    Packet { header: vec![number], payload: vec![number; 1000], channel: None }
}

/// What can be compared of a packet.
async fn next(port: &mut Port) -> Option<(Vec<u8>, usize)> {
    port.recv().await.map(|packet| (packet.header, packet.payload.len()))
}

fn expected(number: u8) -> Option<(Vec<u8>, usize)> {
    Some((vec![number], 1000))
}

#[async_test]
async fn packets_arrive_in_order_and_both_ways() {
    let (left, mut right) = Port::pair();
    let (left, mut left_receiver) = left.split();
    for number in 0..3 {
        left.send(packet(number)).expect("sends");
    }
    for number in 0..3 {
        assert_eq!(next(&mut right).await, expected(number));
    }
    right.send(Packet::default()).expect("sends");
    assert!(left_receiver.recv().await.is_some_and(|packet| packet.header.is_empty()));
}

#[async_test]
async fn a_full_port_says_so() {
    let (left, mut right) = Port::pair();
    for _ in 0..CAPACITY {
        left.send(packet(0)).expect("has room");
    }
    assert_eq!(left.send(packet(1)), Err(PortError::Full));
    assert!(right.recv().await.is_some());
    left.send(packet(1)).expect("has room again");
}

#[async_test]
async fn either_side_can_end_it() {
    let (left, mut right) = Port::pair();
    left.send(packet(1)).expect("sends");
    let (sender, mut receiver) = left.split();
    sender.terminate("enough");
    assert_eq!(next(&mut right).await, expected(1));
    assert_eq!(next(&mut right).await, None);
    assert!(receiver.recv().await.is_none());
    assert_eq!(right.closed_reason(), Some("enough"));
    assert_eq!(right.send(packet(2)), Err(PortError::Closed("enough".to_owned())));

    let (left, mut right) = Port::pair();
    drop(left);
    assert_eq!(next(&mut right).await, None);
    assert!(matches!(right.send(packet(0)), Err(PortError::Closed(_))));
}

/// A module that echoes packets. It listens late, as one that has to load WebAssembly first does.
#[cfg(target_arch = "wasm32")]
const ECHO: &str = "data:text/javascript,setTimeout(() => {\
    onmessage = e => { if (e.data[0].byteLength == 0) throw new Error('bad packet'); postMessage(e.data, e.data) };\
    postMessage('ready') }, 20)";

#[cfg(target_arch = "wasm32")]
#[async_test]
async fn a_worker_gets_packets_even_while_it_starts() {
    let mut port = Port::spawn_worker(ECHO).expect("starts");
    for number in 0..3 {
        port.send(packet(number)).expect("sends");
    }
    for number in 0..3 {
        assert_eq!(next(&mut port).await, expected(number));
    }
    // Transferred and not copied: what the worker gets from a buffer of its own is all there, too.
    let large: Vec<u8> = (0..4_000_000_u32).map(|i| i.to_le_bytes()[1]).collect();
    port.send(Packet { header: vec![9], payload: large.clone(), channel: None }).expect("sends");
    assert!(port.recv().await.is_some_and(|packet| packet.payload == large));
    port.terminate();
}

#[cfg(target_arch = "wasm32")]
#[async_test]
async fn a_failing_worker_closes_the_port_with_a_reason() {
    let mut port = Port::spawn_worker(ECHO).expect("starts");
    port.send(Packet::default()).expect("sends");
    assert!(port.recv().await.is_none());
    assert!(port.closed_reason().is_some_and(|why| why.contains("bad packet")), "{:?}", port.closed_reason());
    assert!(matches!(port.send(packet(1)), Err(PortError::Closed(why)) if why.contains("bad packet")));

    for broken in ["data:text/javascript,this is no script", "/does-not-exist.js"] {
        let mut port = Port::spawn_worker(broken).expect("starts");
        assert!(port.recv().await.is_none());
        assert!(port.closed_reason().is_some());
    }
    let mut port = Port::spawn_worker("data:text/javascript,postMessage(42)").expect("starts");
    assert!(port.recv().await.is_none());
    assert_eq!(port.closed_reason(), Some("received something that is not a packet"));
}
