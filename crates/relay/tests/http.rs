//! What the relay's port says to clients, friendly and hostile.

mod support;

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::Duration;

use cdi_relay::{Config, Relay};
use support::{PATIENCE, node, relay};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Sends bytes as they are and reads the answer until the relay closes.
async fn raw(relay: &cdi_relay::RelayHandle, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(relay.http_addr()).await.expect("connects");
    // The relay may refuse before it has read everything.
    let _ = stream.write_all(request).await;
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.expect("the relay closes");
    String::from_utf8_lossy(&answer).into_owned()
}

async fn get(relay: &cdi_relay::RelayHandle, path: &str) -> reqwest::Response {
    reqwest::get(format!("http://{}{path}", relay.http_addr())).await.expect("an answer")
}

async fn json(relay: &cdi_relay::RelayHandle, path: &str) -> serde_json::Value {
    let text = get(relay, path).await.text().await.expect("a body");
    serde_json::from_str(&text).expect("JSON")
}

#[tokio::test]
async fn the_page_is_isolated_and_asked_for_again() {
    let relay = relay().await;
    let response = get(&relay, "/").await;
    assert_eq!(response.status(), 200);
    for (name, value) in [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-embedder-policy", "require-corp"),
        ("cross-origin-resource-policy", "same-origin"),
        ("x-content-type-options", "nosniff"),
        ("content-type", "text/html; charset=utf-8"),
        ("cache-control", "no-cache"),
    ] {
        assert_eq!(response.headers()[name], value, "{name}");
    }
    let missing = get(&relay, "/missing.js").await;
    assert_eq!(missing.status(), 404);
    assert_eq!(missing.headers()["x-content-type-options"], "nosniff");
    assert_eq!(missing.headers()["cross-origin-embedder-policy"], "require-corp");
}

#[tokio::test]
async fn health_counts_peers_and_reservations() {
    let relay = relay().await;
    let mut node = node(1, &[relay.web_socket_address()], false);
    node.relay_up().await;
    let health = json(&relay, "/healthz").await;
    assert_eq!(health["status"], "ok");
    assert_eq!((&health["peers"], &health["reservations"], &health["circuits"]), (&1.into(), &1.into(), &0.into()));
    assert!(health["uptime_s"].is_u64());
    node.net.shutdown().await;
    let gone = async {
        while json(&relay, "/healthz").await["reservations"] != 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the reservation ends with its connection");
}

#[tokio::test]
async fn the_description_names_the_address_that_was_asked_at() {
    let relay = relay().await;
    let (port, peer) = (relay.http_addr().port(), relay.peer_id());
    let by_ip = json(&relay, "/relay.json").await;
    assert_eq!(by_ip["peer_id"], peer.to_string());
    assert_eq!(by_ip["network"], "testnet");
    assert_eq!(by_ip["addresses"][0], format!("/ip4/127.0.0.1/tcp/{port}/ws/p2p/{peer}"));
    if let Some(direct) = relay.webrtc_address() {
        assert_eq!(by_ip["addresses"][1], direct.to_string());
    }
    let ask_as = |host: &str| {
        let request = format!("GET /relay.json HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let relay = &relay;
        async move { raw(relay, request.as_bytes()).await }
    };
    assert!(ask_as(&format!("localhost:{port}")).await.contains(&format!("/dns/localhost/tcp/{port}/ws/p2p/{peer}")));
    // A host that is none falls back to where the relay listens.
    assert!(ask_as("\"><script>").await.contains(&format!("/ip4/127.0.0.1/tcp/{port}/ws/p2p/{peer}")));
}

#[tokio::test]
async fn the_model_of_the_description_can_be_fetched_by_its_id() {
    let relay = relay().await;
    let description = json(&relay, "/relay.json").await;
    let id: cdi_types::Cid = description["models"][0].as_str().expect("a model").parse().expect("a CID");
    let response = get(&relay, &format!("/ipfs/{id}?format=raw")).await;
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/vnd.ipld.raw");
    assert_eq!(response.headers()["cross-origin-resource-policy"], "cross-origin");
    assert_eq!(response.headers()["x-content-type-options"], "nosniff");
    let manifest = response.bytes().await.expect("a body");
    cdi_types::block::verify(&id, &manifest).expect("the block matches its CID");
}

#[tokio::test]
async fn configured_addresses_are_announced_instead() {
    let external: cdi_net::Address = "/dns4/relay.example.org/tcp/443/tls/ws".parse().expect("an address");
    let listen = ([127, 0, 0, 1], 0).into();
    let config = Config { listen, external: vec![external.clone()], ..Config::default() };
    let relay = Relay::start(config).await.expect("starts");
    let expected = format!("{external}/p2p/{}", relay.peer_id());
    assert_eq!(json(&relay, "/relay.json").await["addresses"], serde_json::json!([expected]));
}

#[tokio::test]
async fn hostile_requests_are_refused_and_harm_nobody() {
    let relay = relay().await;
    let refused = [
        ("GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(), "404"),
        ("GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(), "404"),
        ("GET /ipfs/../healthz?format=raw HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(), "400"),
        ("GET /ipfs/%ff%fe?format=raw HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(), "400"),
        ("GET /ipfs/xyz?format=raw HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(), "400"),
        ("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(), "405"),
        ("DELETE /page.js HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".to_owned(), "405"),
        ("PUT /relay.json HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_owned(), "405"),
        (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "a".repeat(100_000)), "4"),
        (format!("GET / HTTP/1.1\r\nHost: x\r\n{}\r\n", "X: y\r\n".repeat(1000)), "431"),
        ("\x16\x03\x01\x02\x00\x01\x00 not HTTP\r\n\r\n".to_owned(), "400"),
    ];
    for (request, status) in refused {
        let answer = raw(&relay, request.as_bytes()).await;
        let head: String = answer.chars().take(40).collect();
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{:?}: {head}", &request[..request.len().min(60)]);
    }
    assert_eq!(get(&relay, "/healthz").await.status(), 200);
}

/// A WebSocket that speaks no libp2p, or speaks in text, is closed; the relay goes on.
#[tokio::test]
async fn hostile_web_sockets_are_closed() {
    let relay = relay().await;
    let upgrade = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    // Masked with zeros: a text message, a binary message that is no libp2p, a claim of 2^63 bytes.
    let text: &[u8] = b"\x81\x85\0\0\0\0hello";
    let binary: &[u8] = b"\x82\x83\0\0\0\0\xff\xff\xff";
    let huge: &[u8] = b"\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff\0\0\0\0";
    for frame in [text, binary, huge] {
        let answer = raw(&relay, &[upgrade.as_bytes(), frame].concat()).await;
        assert!(answer.starts_with("HTTP/1.1 101"), "{answer}");
    }
    assert_eq!(json(&relay, "/healthz").await["peers"], 0);
    let mut node = node(1, &[relay.web_socket_address()], false);
    node.relay_up().await;
}

#[tokio::test]
async fn shutdown_ends_idle_connections_too() {
    let relay = relay().await;
    let mut idle = TcpStream::connect(relay.http_addr()).await.expect("connects");
    let mut node = node(1, &[relay.web_socket_address()], false);
    node.relay_up().await;
    let address = relay.http_addr();
    tokio::time::timeout(PATIENCE, relay.shutdown()).await.expect("stops");
    assert_eq!(idle.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed");
    assert!(TcpStream::connect(address).await.is_err(), "the port is free");
}

#[tokio::test]
async fn a_taken_port_is_named() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let listen = taken.local_addr().expect("bound");
    let error = Relay::start(Config { listen, ..Config::default() }).await.expect_err("the port is taken").to_string();
    assert!(error.contains(&listen.port().to_string()) && error.contains("--listen"), "{error}");
}

/// libp2p would share the port with the first relay.
#[tokio::test]
async fn a_taken_port_for_native_nodes_is_named() {
    let start = |port: u16| {
        let p2p_listen = format!("/ip4/127.0.0.1/tcp/{port}").parse().expect("an address");
        Relay::start(Config { listen: ([127, 0, 0, 1], 0).into(), p2p_listen: Some(p2p_listen), ..Config::default() })
    };
    let first = start(0).await.expect("starts");
    let address = first.p2p_addresses()[0].to_string();
    let port = address.rsplit('/').next().and_then(|port| port.parse().ok()).expect("a port");
    let error = start(port).await.expect_err("the port is taken").to_string();
    assert!(error.contains(&address) && error.contains("--p2p-listen"), "{error}");
}

/// The program itself: starts, says where it is, and ends with success when it is asked to.
#[cfg(unix)]
#[test]
fn the_program_stops_cleanly_when_asked() {
    let data = tempfile::tempdir().expect("a directory");
    let mut child = Command::new(env!("CARGO_BIN_EXE_cdi-relay"))
        .args(["--listen", "127.0.0.1:0", "--no-p2p-listen", "--data"])
        .arg(data.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    let lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut log = lines.map(|line| line.expect("text"));
    let started = log.find(|line| line.contains("relay started")).expect("it starts");
    assert!(started.contains("[relay] info:") && started.contains("http_addr=127.0.0.1:"), "{started}");
    let asked = Command::new("kill").arg(child.id().to_string()).status().expect("kill runs");
    assert!(asked.success());
    assert!(log.any(|line| line.contains("relay stopped")));
    let deadline = std::time::Instant::now() + PATIENCE;
    while child.try_wait().expect("a child").is_none() && std::time::Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(child.wait().expect("a child").code(), Some(0));
    assert!(data.path().join("identity/node").is_file());
}
