//! Several relays: failover, memory, and how their nodes find each other; two networks that do not mix.

mod support;

use bytes::Bytes;
use cdi_net::{Address, LinkKind, NetArgs, NetEvent, NetOptions};
use cdi_platform::Place;
use cdi_platform::kv::KeyValue;
use cdi_relay::{Config, RelayHandle};
use cdi_types::Network;
use support::{Node, PATIENCE, args, node, relay, relay_with, start};

/// A relay that knows another.
async fn knows(other: &RelayHandle) -> RelayHandle {
    relay_with(Config { bootstrap: vec![other.web_socket_address()], ..Config::default() }).await
}

/// Publishes until the other hears it.
async fn heard(from: &Node, by: &mut Node) {
    let source = from.net.peer();
    let mut number = 0_u32;
    let mut ticks = tokio::time::interval(std::time::Duration::from_millis(200));
    let hears = async {
        loop {
            tokio::select! {
                _ = ticks.tick() => {
                    number += 1;
                    from.net.publish(Bytes::copy_from_slice(&number.to_le_bytes())).await.expect("publishes");
                }
                event = futures::StreamExt::next(&mut by.events) => {
                    if matches!(event, Some(NetEvent::Gossip { source: who, .. }) if who == source) {
                        return;
                    }
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, hears).await.expect("the announcement arrives");
}

#[tokio::test]
async fn nodes_of_two_relays_find_each_other() {
    let far = relay().await;
    let near = knows(&far).await;
    let (mut a, mut b) = (node(1, &[near.web_socket_address()], false), node(2, &[far.web_socket_address()], false));
    a.relay_up().await;
    b.relay_up().await;
    let peer = b.net.peer();
    // What a node says of itself takes a moment to get into the DHT.
    let reached = async {
        loop {
            if let Ok(link) = a.net.dial(peer).await {
                return link;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    };
    let link = tokio::time::timeout(PATIENCE, reached).await.expect("the DHT knows the other relay");
    assert_eq!(link, LinkKind::Relayed);
    heard(&a, &mut b).await;
    heard(&b, &mut a).await;
}

#[tokio::test]
async fn another_relay_takes_over_and_is_remembered() {
    let directory = tempfile::tempdir().expect("a directory");
    let store = KeyValue::open(&Place::disk(directory.path()), "net").await.expect("a store");
    let (first, second) = (relay().await, relay().await);
    let (at_first, at_second) = (first.web_socket_address(), second.web_socket_address());
    let options = NetOptions { store: Some(store), more_relays: vec![at_second.clone()], ..NetOptions::default() };
    let mut a = start(NetArgs { relays: vec![at_first.clone()], options: options.clone(), ..args(1) });
    a.relay_up().await;
    a.relay_up().await;
    let mut b = node(2, std::slice::from_ref(&at_second), false);
    b.relay_up().await;
    // Both were measured: a ping follows each connection at once.
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    first.shutdown().await;
    let others = a.expect("RelayDown", |e| match e {
        NetEvent::RelayDown { others_up, .. } => Some(others_up),
        _ => None,
    });
    assert_eq!(others.await, 1);
    assert_eq!(a.net.dial(b.net.peer()).await.expect("over the other relay"), LinkKind::Relayed);
    a.net.shutdown().await;

    let options = NetOptions { more_relays: Vec::new(), ..options };
    let mut again = start(NetArgs { relays: vec![at_first], options, ..args(1) });
    let up = again.expect("the remembered relay", |e| match e {
        NetEvent::RelayUp { address, .. } => Some(address),
        _ => None,
    });
    assert_eq!(up.await, at_second);
}

#[tokio::test]
async fn two_networks_share_a_relay_s_port_but_nothing_else() {
    let testnet = relay().await;
    let address: [Address; 1] = [testnet.web_socket_address()];
    let mut stranger = start(NetArgs { network: Network::Mainnet, relays: address.to_vec(), ..args(1) });
    let (mut a, mut b) = (node(2, &address, false), node(3, &address, false));
    a.relay_up().await;
    b.relay_up().await;
    let reason = stranger.expect("RelayDown", |e| match e {
        NetEvent::RelayDown { reason, .. } => Some(reason),
        _ => None,
    });
    assert!(reason.await.contains("another network"));
    heard(&a, &mut b).await;
    stranger.net.publish(Bytes::from_static(b"from mainnet")).await.expect("nobody listens");
    heard(&b, &mut a).await;
    assert_eq!(a.net.stats().await.expect("runs").gossip_anonymous, 0);
    assert!(matches!(a.net.dial(stranger.net.peer()).await, Err(cdi_net::NetError::Dial { .. })));
    let stats = stranger.net.stats().await.expect("runs");
    assert_eq!(stats.gossip_received, 0);
}
