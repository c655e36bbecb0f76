//! Two tabs' networks in one page of a real browser, over a real relay.
//!
//! ```text
//! cargo run -p cdi-relay -- --listen 127.0.0.1:8080 --no-p2p-listen
//! CDI_TEST_RELAY=/ip4/127.0.0.1/tcp/8080/ws cargo xtask test-wasm -p cdi-net -- -- --include-ignored --nocapture
//! ```

#![cfg(target_arch = "wasm32")]

use std::time::Duration;

use bytes::Bytes;
use cdi_net::{Events, LinkKind, Net, NetArgs, NetEvent};
use cdi_platform::time::{Instant, sleep, timeout};
use cdi_types::{Keypair, Network};
use futures::io::{AsyncReadExt as _, AsyncWriteExt as _};
use futures::{FutureExt as _, StreamExt as _};
use wasm_bindgen_test::{console_log, wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_browser);

/// Only a broken program takes this long.
const PATIENCE: Duration = Duration::from_secs(30);
const PROTOCOL: &str = "/test/1/echo";

struct Tab {
    net: Net,
    events: Events,
}

impl Tab {
    fn open(relay: &str) -> Self {
        let args = NetArgs {
            keypair: Keypair::from_seed(&cdi_platform::random::seed()),
            network: Network::Testnet,
            relays: vec![relay.parse().expect("an address")],
            ice_servers: Vec::new(),
            listen: Vec::new(),
            agent: "test".to_owned(),
        };
        let (net, events) = Net::start(args).expect("starts");
        Self { net, events }
    }

    async fn expect(&mut self, what: &str, mut wanted: impl FnMut(&NetEvent) -> bool) {
        let seen = async { while !wanted(&self.events.next().await.expect("the network runs")) {} };
        timeout(PATIENCE, seen).await.expect(what);
    }
}

#[wasm_bindgen_test]
#[ignore = "needs a relay, named in CDI_TEST_RELAY when this is compiled"]
async fn two_tabs_meet_over_a_relay_and_talk_directly() {
    let relay = option_env!("CDI_TEST_RELAY").expect("CDI_TEST_RELAY names a relay");
    let (mut a, mut b) = (Tab::open(relay), Tab::open(relay));
    for tab in [&mut a, &mut b] {
        tab.expect("a relay", |e| matches!(e, NetEvent::RelayUp { transport: "WebSocket", .. })).await;
    }

    let mut incoming = b.net.accept(PROTOCOL).await.expect("free");
    cdi_platform::task::spawn(async move {
        while let Some((_, stream)) = incoming.next().await {
            let (mut reader, mut writer) = stream.split();
            futures::io::copy(&mut reader, &mut writer).await.expect("echoes");
            writer.close().await.expect("closes");
        }
    });
    let peer = b.net.peer();
    let start = Instant::now();
    assert_eq!(a.net.dial(peer).await.expect("reaches"), LinkKind::Direct);
    console_log!("direct link in {:?}", start.elapsed());

    let sent = vec![7; 1 << 20];
    let (mut reader, mut writer) = a.net.open_stream(peer, PROTOCOL).await.expect("opens").split();
    let write = async {
        writer.write_all(&sent).await.expect("writes");
        writer.close().await.expect("closes");
    };
    let mut received = Vec::new();
    let read = async { reader.read_to_end(&mut received).await.expect("reads") };
    let start = Instant::now();
    timeout(PATIENCE, async { futures::join!(write, read) }).await.expect("the echo comes back");
    console_log!("1 MiB there and back in {:?}", start.elapsed());
    assert!(received == sent, "{} bytes came back", received.len());
    assert_eq!(a.net.links().await.expect("runs").iter().map(|l| l.link).collect::<Vec<_>>(), [LinkKind::Direct]);

    // The mesh takes a heartbeat to form.
    let heard = async {
        loop {
            a.net.publish(Bytes::from(format!("{:?}", Instant::now()))).await.expect("publishes");
            sleep(Duration::from_millis(200)).await;
            while let Some(Some(event)) = b.events.next().now_or_never() {
                if matches!(event, NetEvent::Gossip { source, .. } if source == a.net.peer()) {
                    return;
                }
            }
        }
    };
    timeout(PATIENCE, heard).await.expect("gossip arrives");

    let start = Instant::now();
    b.net.shutdown().await;
    a.expect("PeerDown", |e| *e == NetEvent::PeerDown { peer }).await;
    console_log!("the loss was noticed in {:?}", start.elapsed());
    a.net.shutdown().await;
}
