//! Relays and nodes on loopback.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::path::Path;
use std::time::Duration;

use cdi_net::{Address, Events, Net, NetArgs, NetEvent, NetOptions};
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
    start(NetArgs { relays: relays.to_vec(), listen: listen.into_iter().collect(), ..args(seed) })
}

/// How a node of this seed starts that knows nobody. Its links go through relays, unless they are dialled at an address:
/// tests of direct links say so.
pub fn args(seed: u8) -> NetArgs {
    NetArgs {
        keypair: Keypair::from_seed(&[seed; 32]),
        network: Network::Testnet,
        relays: Vec::new(),
        listen: Vec::new(),
        ice_servers: Vec::new(),
        agent: format!("test/{seed}"),
        options: NetOptions { direct: false, ..NetOptions::default() },
    }
}

/// Starts a node.
pub fn start(args: NetArgs) -> Node {
    let (net, events) = Net::start(args).expect("a node starts");
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
        self.address_over("TCP").await
    }

    /// Waits for the address that the node listens on over this transport.
    pub async fn address_over(&mut self, transport: &str) -> Address {
        let peer = self.net.peer();
        self.expect("address", |e| match e {
            NetEvent::Listening(address) if address.transport() == transport => address.with_peer(peer),
            _ => None,
        })
        .await
    }

    /// Waits until `condition` holds for the links.
    pub async fn links(&self, what: &str, condition: impl Fn(&[cdi_net::LinkInfo]) -> bool) {
        self.until(what, async |node| condition(&node.net.links().await.expect("the node runs"))).await;
    }

    /// Waits until `condition` holds.
    pub async fn until(&self, what: &str, condition: impl AsyncFn(&Self) -> bool) {
        let holds = async {
            while !condition(self).await {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, holds).await.expect(what);
    }

    /// Bytes that streams of all peers brought.
    pub async fn received(&self) -> u64 {
        self.net.links().await.expect("the node runs").iter().map(|link| link.received_bytes).sum()
    }
}

/// A relay set up like this, on a free port.
pub async fn relay_with(config: Config) -> RelayHandle {
    Relay::start(Config { listen: ([127, 0, 0, 1], 0).into(), ..config }).await.expect("a relay starts")
}

/// A figure of `/metrics`, summed over its labels; 0 when it is not there yet.
pub async fn figure(relay: &RelayHandle, name: &str) -> u64 {
    let answer = reqwest::get(format!("http://{}/metrics", relay.http_addr())).await.expect("an answer");
    let text = answer.error_for_status().expect("figures").text().await.expect("a body");
    let value = |line: &str| {
        let rest = line.strip_prefix(name)?;
        let labelled = rest.starts_with(['{', ' ']);
        labelled.then(|| rest.rsplit(' ').next()?.parse::<u64>().ok()).flatten()
    };
    text.lines().filter_map(value).sum()
}

/// A proxy in front of a relay with `behind_proxy`: who connects to it comes from `ip`.
pub async fn proxy(relay: &RelayHandle, ip: &'static str) -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let target = relay.http_addr();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut relay = tokio::net::TcpStream::connect(target).await.expect("the relay listens");
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    let Ok(byte) = client.read_u8().await else { return };
                    head.push(byte);
                }
                head.truncate(head.len() - 2);
                head.extend_from_slice(format!("X-Forwarded-For: {ip}\r\n\r\n").as_bytes());
                // Either end may leave at any time.
                if relay.write_all(&head).await.is_ok() {
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut relay).await;
                }
            });
        }
    });
    address
}

/// The WebSocket address at which a relay is reached through a proxy.
pub fn at_proxy(proxy: std::net::SocketAddr, relay: &RelayHandle) -> Address {
    let address: Address = format!("/ip4/127.0.0.1/tcp/{}/ws", proxy.port()).parse().expect("an address");
    address.with_peer(relay.peer_id()).expect("it names no peer")
}

/// A wire to a node that listens over TCP; where its other end is. When it is cut both ends stay open, and nothing gets
/// through any more.
pub async fn wire(target: Address) -> (Address, tokio::sync::oneshot::Sender<()>) {
    let parts: Vec<String> = target.to_string().split('/').map(str::to_owned).collect();
    let target = format!("{}:{}", parts[2], parts[4]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let (cut, is_cut) = tokio::sync::oneshot::channel();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.expect("a client");
        let mut far = tokio::net::TcpStream::connect(target).await.expect("the target listens");
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            _ = is_cut => {}
        }
        std::future::pending::<()>().await;
    });
    (format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address"), cut)
}
