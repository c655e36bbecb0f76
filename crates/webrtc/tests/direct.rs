//! `/webrtc-direct` from a real browser to a native server. `cargo xtask test-wasm -p cdi-webrtc` starts the
//! server (`examples/direct_server.rs`) and names it in `CDI_WEBRTC_DIRECT` while this is compiled.

#![cfg(target_arch = "wasm32")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed test may panic")]

mod streams;
mod swarm;

use cdi_webrtc::browser::Config;
use futures::future::join_all;
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::core::Multiaddr;
use libp2p::core::multiaddr::Protocol;
use libp2p::swarm::{StreamProtocol, SwarmEvent};
use wasm_bindgen_test::{console_log, wasm_bindgen_test, wasm_bindgen_test_configure};

use self::streams::{exchange, pattern};
use self::swarm::{Node as Tab, patiently};

wasm_bindgen_test_configure!(run_in_browser);

const ECHO: StreamProtocol = StreamProtocol::new("/test/echo/1");

/// The server, or a visible line.
fn server() -> Option<Multiaddr> {
    let address = option_env!("CDI_WEBRTC_DIRECT");
    if address.is_none() {
        console_log!("SKIPPED: no native server; run by cargo xtask test-wasm");
    }
    Some(address?.parse().unwrap())
}

async fn connected(tab: &mut Tab, server: &Multiaddr) -> libp2p::PeerId {
    tab.dial(server);
    tab.event(|event| match event {
        SwarmEvent::ConnectionEstablished { peer_id, .. } => Some(peer_id),
        SwarmEvent::OutgoingConnectionError { error, .. } => panic!("{error:?}"),
        _ => None,
    })
    .await
}

#[wasm_bindgen_test]
async fn a_native_server_is_dialled_and_echoes() {
    let Some(address) = server() else { return };
    let mut tab = Tab::start(Config::default());
    let start = js_sys::Date::now();
    let server = connected(&mut tab, &address).await;
    console_log!("WebRTC-direct: connected after {} ms", js_sys::Date::now() - start);
    let open = || async { patiently(tab.streams.clone().open_stream(server, ECHO)).await.unwrap() };
    for length in [0, 1, 16_377, 16_378, 65_536, 1 << 20] {
        let data = pattern(length);
        assert!(exchange(open().await, &data).await.unwrap() == data, "{length} bytes");
    }
    let start = js_sys::Date::now();
    let data = pattern(8 << 20);
    assert!(exchange(open().await, &data).await.unwrap() == data);
    console_log!("WebRTC-direct: 8 MiB there and back in {} ms", js_sys::Date::now() - start);
}

/// More streams than a browser has channel ids at a time: they are used again.
#[wasm_bindgen_test]
async fn streams_come_and_go() {
    let Some(address) = server() else { return };
    let mut tab = Tab::start(Config::default());
    let server = connected(&mut tab, &address).await;
    let data = pattern(1000);
    for _ in 0..30 {
        let mut streams = Vec::new();
        for _ in 0..20 {
            let mut stream = patiently(tab.streams.clone().open_stream(server, ECHO)).await.unwrap();
            // An echo says that the server took the stream. `libp2p-stream` has room for one that waits, and resets
            // the next although it is open.
            let mut byte = [7];
            patiently(async {
                stream.write_all(&byte).await?;
                stream.flush().await?;
                stream.read_exact(&mut byte).await
            })
            .await
            .unwrap();
            streams.push(stream);
        }
        let echoed = join_all(streams.into_iter().map(|stream| exchange(stream, &data))).await;
        assert!(echoed.into_iter().all(|echo| echo.unwrap() == data));
    }
}

/// A place at the relay, and through it a connection between two tabs.
#[wasm_bindgen_test]
async fn a_tab_is_reachable_behind_the_server() {
    let Some(address) = server() else { return };
    let (mut a, mut b) = (Tab::start(Config::default()), Tab::start(Config::default()));
    let direct = b.listen(&address).await;
    a.dial(&direct);
    assert_eq!(a.only_direct().await, b.peer);
    assert_eq!(b.only_direct().await, a.peer);
}

#[wasm_bindgen_test]
async fn a_close_is_clean_and_another_certificate_is_refused() {
    let Some(address) = server() else { return };
    let mut tab = Tab::start(Config::default());
    let server = connected(&mut tab, &address).await;
    tab.command(move |swarm| swarm.disconnect_peer_id(server).unwrap());
    tab.event(|event| matches!(event, SwarmEvent::ConnectionClosed { cause: None, .. }).then_some(())).await;

    let forged = address.iter().map(|part| match part {
        Protocol::Certhash(_) => Protocol::Certhash(cdi_webrtc::fingerprint::Fingerprint::new([7; 32]).to_multihash()),
        part => part,
    });
    tab.dial(&forged.collect());
    console_log!("as it should be: {}", tab.dial_error().await);
}

/// The native node behind the server, or a visible line.
fn native_node() -> Option<Multiaddr> {
    let address = option_env!("CDI_WEBRTC_NATIVE");
    if address.is_none() {
        console_log!("SKIPPED: no native node; run by cargo xtask test-wasm");
    }
    Some(address?.parse().unwrap())
}

/// `/webrtc` between this tab and a native node, offered by the tab.
#[wasm_bindgen_test]
async fn a_native_node_is_reached_over_webrtc() {
    let Some(address) = native_node() else { return };
    let mut tab = Tab::start(Config::default());
    tab.dial(&address);
    let node = tab.only_direct().await;
    for length in [1, 65_527, 1 << 20] {
        let data = pattern(length);
        let stream = patiently(tab.streams.clone().open_stream(node, ECHO)).await.unwrap();
        assert!(exchange(stream, &data).await.unwrap() == data, "{length} bytes");
    }
}

/// The same, offered by the node.
#[wasm_bindgen_test]
async fn a_native_node_reaches_a_tab_over_webrtc() {
    let (Some(server), Some(address)) = (server(), native_node()) else { return };
    let mut tab = Tab::start(Config::default());
    let own = tab.listen(&server).await;
    let relayed: Multiaddr = address.iter().filter(|part| *part != Protocol::WebRTC).collect();
    let node = connected(&mut tab, &relayed).await;
    let mut request =
        patiently(tab.streams.clone().open_stream(node, StreamProtocol::new("/test/dial/1"))).await.unwrap();
    request.write_all(own.to_string().as_bytes()).await.unwrap();
    request.close().await.unwrap();
    assert_eq!(tab.only_direct().await, node);
    let data = pattern(1 << 20);
    let stream = patiently(tab.streams.clone().open_stream(node, ECHO)).await.unwrap();
    assert!(exchange(stream, &data).await.unwrap() == data);
}
