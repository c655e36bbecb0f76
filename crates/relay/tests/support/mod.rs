//! Relays and nodes on loopback.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::Path;
use std::time::Duration;

use cdi_net::{Address, Events, Net, NetArgs, NetEvent};
use cdi_relay::{Config, Relay, RelayHandle};
use cdi_types::{Keypair, Network};
use futures::StreamExt as _;

/// Far above what anything here takes: only a broken program reaches it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A node and its events.
pub struct Node {
    pub net: Net,
    pub events: Events,
}

/// A relay on a free port, with a new identity.
pub async fn relay() -> RelayHandle {
    relay_at(0, None).await
}

/// A relay on this port, with the identity kept in `data`.
pub async fn relay_at(port: u16, data: Option<&Path>) -> RelayHandle {
    let listen = ([127, 0, 0, 1], port).into();
    let config = Config { listen, data: data.map(Path::to_owned), ..Config::default() };
    Relay::start(config).await.expect("a relay starts")
}

/// The node of this seed, which stays connected to `relays` and listens on loopback if wanted.
pub fn node(seed: u8, relays: &[Address], listens: bool) -> Node {
    let listen = listens.then(|| "/ip4/127.0.0.1/tcp/0".parse().expect("an address"));
    let (net, events) = Net::start(NetArgs {
        keypair: Keypair::from_seed(&[seed; 32]),
        network: Network::Testnet,
        relays: relays.to_vec(),
        ice_servers: Vec::new(),
        listen: listen.into_iter().collect(),
        agent: format!("test/{seed}"),
    })
    .expect("a node starts");
    Node { net, events }
}

impl Node {
    /// The first event that `pick` takes; others before it are skipped.
    pub async fn expect<T>(&mut self, what: &str, mut pick: impl FnMut(NetEvent) -> Option<T>) -> T {
        let picked = async {
            loop {
                let event = self.events.next().await.expect("the node runs");
                if let Some(picked) = pick(event) {
                    return picked;
                }
            }
        };
        tokio::time::timeout(PATIENCE, picked).await.expect(what)
    }

    /// Waits until the relay holds a reservation.
    pub async fn relay_up(&mut self) {
        self.expect("relay", |e| matches!(e, NetEvent::RelayUp { .. }).then_some(())).await;
    }

    /// Waits for the address that the node listens on.
    pub async fn address(&mut self) -> Address {
        let peer = self.net.peer();
        self.expect("address", |e| match e {
            NetEvent::Listening(address) if address.transport() == "TCP" => address.with_peer(peer),
            _ => None,
        })
        .await
    }
}
