//! STUN and TURN services, as clients find and use them.

mod support;

use std::time::Duration;

use cdi_relay::{Config, Relay, RelayError, RelayHandle, StunListen, Turn};
use cdi_types::ice::IceServer;
use stun_types::attribute::XorMappedAddress;
use stun_types::message::{BINDING, Message, MessageClass, MessageWrite as _, MessageWriteVec};
use support::{Node, PATIENCE, node};
use tokio::net::UdpSocket;

async fn start(config: Config) -> Result<RelayHandle, RelayError> {
    Relay::start(Config { listen: ([127, 0, 0, 1], 0).into(), ..config }).await
}

async fn json(relay: &RelayHandle, path: &str) -> serde_json::Value {
    let answer = reqwest::get(format!("http://{}{path}", relay.http_addr())).await.expect("an answer");
    serde_json::from_str(&answer.text().await.expect("a body")).expect("JSON")
}

/// Asks until an answer comes: UDP may lose a datagram.
async fn binding(relay: &RelayHandle) -> (UdpSocket, std::net::SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let server = relay.stun_addr().expect("answers STUN");
    let request = Message::builder_request(BINDING, MessageWriteVec::new()).finish();
    let mut buffer = [0; 1500];
    let ask = async {
        loop {
            socket.send_to(&request, server).await.expect("sends");
            let answer = tokio::time::timeout(Duration::from_secs(1), socket.recv_from(&mut buffer)).await;
            if let Ok(received) = answer {
                return received.expect("receives").0;
            }
        }
    };
    let length = tokio::time::timeout(PATIENCE, ask).await.expect("an answer");
    let answer = Message::from_bytes(&buffer[..length]).expect("well-formed");
    assert!(answer.has_class(MessageClass::Success));
    assert_eq!(answer.transaction_id(), Message::from_bytes(&request).expect("ours").transaction_id());
    let mapped = answer.attribute::<XorMappedAddress>().expect("an address");
    let mapped = mapped.addr(answer.transaction_id());
    (socket, mapped)
}

/// Waits until the node uses servers that `enough` likes.
async fn ice_servers(node: &Node, enough: impl Fn(&[IceServer]) -> bool) -> Vec<IceServer> {
    let wait = async {
        loop {
            let servers = node.net.ice_servers().await.expect("runs");
            if enough(&servers) {
                return servers;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the relay tells")
}

#[tokio::test]
async fn a_client_learns_its_address() {
    let relay = start(Config::default()).await.expect("starts");
    assert_eq!(relay.stun_addr(), Some(relay.http_addr()), "the number of the HTTP port");
    let (socket, mapped) = binding(&relay).await;
    assert_eq!(mapped, socket.local_addr().expect("bound"));
    assert!(json(&relay, "/healthz").await["stun_answered"].as_u64().expect("a number") >= 1);
    let listed = &json(&relay, "/relay.json").await["ice_servers"];
    let url = format!("stun:127.0.0.1:{}", relay.http_addr().port());
    assert_eq!(listed, &serde_json::json!([{ "urls": [url] }]));
}

#[tokio::test]
async fn nodes_use_the_stun_service_of_their_relays_while_they_are_there() {
    let [a, b] = [start(Config::default()).await.expect("starts"), start(Config::default()).await.expect("starts")];
    let node = node(1, &[a.web_socket_address(), b.web_socket_address()], false);
    let both = ice_servers(&node, |servers| servers.len() == 2).await;
    for relay in [&a, &b] {
        assert!(both.contains(&IceServer::stun("127.0.0.1", relay.http_addr().port())), "{both:?}");
    }
    let left = IceServer::stun("127.0.0.1", b.http_addr().port());
    a.shutdown().await;
    assert_eq!(ice_servers(&node, |servers| servers.len() == 1).await, [left]);
}

#[tokio::test]
async fn turn_credentials_are_for_nodes_only_and_each_has_its_own() {
    let secret = "correct horse".to_owned();
    let turn = Turn { urls: vec!["turn:turn.example.org:3478?transport=udp".to_owned()], secret };
    let stun_urls = vec!["stun:stun.example.org".to_owned()];
    let config = Config { turn: Some(turn), stun_urls, stun: StunListen::Nowhere, ..Config::default() };
    let relay = start(config).await.expect("starts");
    assert_eq!(relay.stun_addr(), None);
    let nodes = [1, 2].map(|seed| node(seed, &[relay.web_socket_address()], false));
    let mut passwords = Vec::new();
    for node in &nodes {
        let servers = ice_servers(node, |servers| servers.len() == 2).await;
        assert_eq!(servers[0].urls, ["stun:stun.example.org"]);
        let username = servers[1].username.as_deref().expect("a name");
        assert_eq!(username.split_once(':').map(|(_, peer)| peer), Some(node.net.peer().to_string().as_str()));
        passwords.push(servers[1].credential.clone().expect("a password"));
    }
    assert_ne!(passwords[0], passwords[1]);
    let public = json(&relay, "/relay.json").await["ice_servers"].to_string();
    assert!(public.contains("stun.example.org") && !public.contains("turn"), "{public}");
}

#[tokio::test]
async fn a_port_that_was_asked_for_is_taken_or_the_relay_does_not_start() {
    let taken = UdpSocket::bind("127.0.0.1:0").await.expect("a socket");
    let at = StunListen::At(taken.local_addr().expect("bound"));
    let refused = start(Config { stun: at, ..Config::default() }).await;
    assert!(matches!(refused, Err(RelayError::StunListen { .. })));
    let beside = Relay::start(Config { listen: taken.local_addr().expect("bound"), ..Config::default() }).await;
    let relay = beside.expect("another port will do");
    assert_ne!(relay.stun_addr().map(|a| a.port()), Some(relay.http_addr().port()));
    binding(&relay).await;
    let bad = Config { stun_urls: vec!["http://example.org".to_owned()], ..Config::default() };
    assert!(matches!(start(bad).await, Err(RelayError::IceUrl(_))));
}
