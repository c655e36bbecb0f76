//! What goes wrong between whole nodes: hosts in the same place, a hostile peer, a relay that comes back as another.

mod support;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use cdi_net::framed::{read_message, write_message};
use cdi_net::{Net, NetArgs, NetEvent, NetStream};
use cdi_node::view::{Connection, Event, HostingState, RouteMode};
use cdi_platform::time::unix_ms;
use cdi_platform::{http, random};
use cdi_relay::{Config, Relay};
use cdi_types::advert::{Advert, KIND, Shard, Tier};
use cdi_types::envelope::{Envelope, Statement};
use cdi_types::session::{Control, FRAME_HEADER_BYTES, Frame, Hello, MAX_CONTROL_BYTES, Open, Transcript, Welcome};
use cdi_types::{Cid, Keypair, Network, PeerId, cbor};
use futures::channel::oneshot;
use futures::{AsyncReadExt as _, StreamExt as _};

use support::{Node, PATIENCE, STORY, node, relay, returning};

/// Three tabs come back at the same moment to the same layers: two move, one after the other, and each shows what it
/// holds at every moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tabs_that_chose_the_same_layers_spread_out() {
    let relay = relay().await;
    let mut hosts = vec![returning(&relay, [0, 2]).await, returning(&relay, [0, 2]).await];
    hosts.push(returning(&relay, [0, 2]).await);
    let mut asking = node(&relay).await;
    let spread = async {
        let ranges = |hosts: &[Node]| {
            let mut held: Vec<String> = hosts.iter().filter_map(|h| h.hosted.clone()).collect();
            held.sort();
            held
        };
        while ranges(&hosts) != ["0-2", "3-5", "5-7"] {
            let next = hosts.iter_mut().map(|host| host.until(|event| matches!(event, Event::Hosting(_))));
            futures::future::select_all(next.map(Box::pin)).await;
        }
    };
    tokio::time::timeout(2 * PATIENCE, spread).await.expect("they spread out");
    for host in &hosts {
        let from = host.hosting.iter().position(|(state, _)| *state == HostingState::Hosting).expect("it hosted");
        let last = host.hosted.clone().expect("layers");
        let shown = &host.hosting[from..];
        assert!(shown.iter().all(|(s, l)| *s == HostingState::Hosting && (l == "0-2" || *l == last)), "{shown:?}");
    }
    asking.see_hosts(3).await;
    let alone = asking.ask(STORY, RouteMode::ThisTab, |_| ()).await;
    let together = asking.ask(STORY, RouteMode::Swarm, |_| ()).await;
    assert_eq!(together.text, alone.text);
    assert!(together.routes[0].iter().all(|s| s.peer != asking.peer), "{:?}", together.routes);
    relay.shutdown().await;
}

/// What a hostile stage sends its successor in place of its rows.
#[derive(Debug, Clone, Copy)]
enum Bad {
    Garbage,
    Length,
    Shape,
    Position,
    Session,
}

/// A peer that says it hosts the first layers, and sends what it was told to send.
struct Hostile {
    keypair: Keypair,
    net: Net,
    bad: Arc<Mutex<Bad>>,
}

impl Hostile {
    async fn start(relay: &str) -> Self {
        let keypair = Keypair::from_seed(&random::seed());
        let args = NetArgs {
            keypair: keypair.clone(),
            network: Network::Testnet,
            relays: vec![relay.parse().expect("an address")],
            ice_servers: Vec::new(),
            listen: Vec::new(),
            agent: "hostile".to_owned(),
            options: cdi_net::NetOptions::default(),
        };
        let (net, mut events) = Net::start(args).expect("starts");
        while !matches!(events.next().await.expect("runs"), NetEvent::RelayUp { .. }) {}
        tokio::spawn(async move { while events.next().await.is_some() {} });
        let bad = Arc::new(Mutex::new(Bad::Garbage));
        let mut sessions = net.accept(&Network::Testnet.protocol("session")).await.expect("free");
        let (taking, what) = (net.clone(), bad.clone());
        tokio::spawn(async move {
            while let Some((_, stream)) = sessions.next().await {
                tokio::spawn(stage(taking.clone(), stream, what.clone()));
            }
        });
        Self { keypair, net, bad }
    }

    async fn announce(&self, model: Cid, layers: Option<&str>) {
        let shard = |layers: &str| Shard {
            model,
            layers: layers.parse().expect("a range"),
            ready: true,
            kernel_id: "hostile".to_owned(),
            decode_ms: 0.1,
        };
        let advert = Advert {
            build: "hostile".to_owned(),
            tier: Tier::Cpu,
            shards: layers.map(shard).into_iter().collect(),
            spare_layers: 0,
            kv_room: 512,
            stages: 0,
            upload_bytes_per_s: 0,
            hidden: false,
        };
        let statement = Statement {
            network: Network::Testnet,
            kind: KIND.to_owned(),
            sender: self.keypair.public(),
            sequence: unix_ms(),
            expires_ms: unix_ms() + 60_000,
            payload: cbor::encode(&advert).expect("encodes"),
        };
        let envelope = Envelope::sign(&self.keypair, &statement).and_then(|e| e.to_bytes()).expect("signs");
        self.net.publish(Bytes::from(envelope)).await.expect("publishes");
    }
}

/// Grants the session, and when the client's tokens come, opens the real protocol to the successor and breaks it.
async fn stage(net: Net, stream: NetStream, bad: Arc<Mutex<Bad>>) {
    let (mut reader, mut writer) = stream.split();
    let mut request: Option<Box<Open>> = None;
    while let Ok(Some(message)) = read_message(&mut reader, MAX_CONTROL_BYTES).await {
        match Control::decode(&message).expect("a control message") {
            Control::Open(open) => {
                let granted =
                    Control::Granted { attempt: open.attempt, have: 0, kernel_id: "hostile".to_owned(), drafts: false };
                write_message(&mut writer, &granted.encode().expect("encodes"), MAX_CONTROL_BYTES)
                    .await
                    .expect("sends");
                request = Some(open);
            }
            Control::Tokens { .. } => {
                let Some(open) = request.take() else { continue };
                let bad = *bad.lock().expect("whole");
                tokio::spawn(attack(net.clone(), *open, bad));
            }
            _ => {}
        }
    }
}

async fn attack(net: Net, open: Open, bad: Bad) {
    let next = PeerId::from_bytes(&open.next.clone().expect("a successor")).expect("a peer id");
    let stream = net.open_stream(next, &Network::Testnet.protocol("activations")).await.expect("opens");
    let (mut reader, mut writer) = stream.split();
    let hello = Hello {
        session: open.session,
        attempt: open.attempt,
        layer: open.layers.end(),
        fork: open.fork,
        channel: None,
    };
    write_message(&mut writer, &cbor::encode(&hello).expect("encodes"), 1 << 20).await.expect("sends");
    let welcome = read_message(&mut reader, 1 << 20).await.expect("reads").expect("an answer");
    assert_eq!(cbor::decode::<Welcome>(&welcome).expect("a welcome"), Welcome::Have(0));
    write_message(&mut writer, &bad_frame(&open, bad), 1 << 20).await.expect("sends");
    // Until the other side closes.
    let _ended = read_message(&mut reader, 1 << 20).await;
}

fn bad_frame(open: &Open, bad: Bad) -> Vec<u8> {
    let frame = |session, position, payload: Vec<u8>| {
        let mut transcript = Transcript::default();
        transcript.push(position, 1, &payload);
        let (attempt, transcript) = (open.attempt, transcript.value());
        Frame { session, attempt, branch: 0, position, rows: 1, transcript, payload }.encode()
    };
    match bad {
        Bad::Garbage => vec![0xa5; 100],
        Bad::Length => {
            let mut cut = frame(open.session, 0, vec![0; 512]);
            cut.truncate(FRAME_HEADER_BYTES + 100);
            cut
        }
        Bad::Shape => frame(open.session, 0, vec![0; 12]),
        Bad::Position => frame(open.session, 7, vec![0; 512]),
        Bad::Session => frame([9; 16], 0, vec![0; 512]),
    }
}

/// Bad frames end the session that they came in, with an error that the asking side shows; a session that runs on the
/// same host meanwhile, and hosting itself, are unharmed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_frames_end_their_session_and_nothing_else() {
    let relay = relay().await;
    let info: cdi_types::relay::RelayInfo = {
        let url = format!("http://{}/relay.json", relay.http_addr());
        let body = http::get_text(&url, http::Limits::bytes(1 << 16)).await.expect("serves");
        serde_json::from_str(&body).expect("an answer")
    };
    let model: Cid = info.models[0].parse().expect("a CID");
    let mut host = returning(&relay, [4, 7]).await;
    let (mut calm, mut asking) = (node(&relay).await, node(&relay).await);
    calm.see_hosts(1).await;
    let alone = calm.ask(STORY, RouteMode::ThisTab, |_| ()).await;
    let hostile = Hostile::start(&info.addresses[0]).await;

    // The calm session is under way when the hostile peer appears.
    let (under_way, started) = oneshot::channel();
    let mut under_way = Some(under_way);
    let untouched = calm.ask(STORY, RouteMode::Swarm, |tokens| {
        if tokens >= 5
            && let Some(under_way) = under_way.take()
        {
            under_way.send(()).expect("it is waited for");
        }
    });
    let attacks = async {
        started.await.expect("the calm session runs");
        hostile.announce(model, Some("0-3")).await;
        asking.see_hosts(2).await;
        for bad in [Bad::Garbage, Bad::Length, Bad::Shape, Bad::Position, Bad::Session] {
            *hostile.bad.lock().expect("whole") = bad;
            let answer = asking.ask(STORY, RouteMode::Swarm, |_| ()).await;
            let message = answer.end.clone().expect("an end").expect_err("a session that was broken");
            assert!(message.contains("refused its input"), "{bad:?}: {message}");
            assert_eq!(answer.routes[0].len(), 2, "{bad:?}: {:?}", answer.routes);
        }
        hostile.announce(model, None).await;
        asking.see_hosts(1).await;
    };
    let (untouched, ()) = futures::join!(untouched, attacks);
    assert_eq!(untouched.text, alone.text);
    assert_eq!(untouched.end.expect("an end").expect("an answer").failovers, 0);
    assert!(untouched.routes[0].iter().any(|s| s.peer == host.peer), "{:?}", untouched.routes);

    // The host serves on.
    let after = asking.ask(STORY, RouteMode::Swarm, |_| ()).await;
    assert_eq!(after.text, alone.text);
    assert!(after.routes[0].iter().any(|s| s.peer == host.peer), "{:?}", after.routes);
    host.until(|event| matches!(event, Event::Peers(_))).await;
    assert_eq!(host.hosted.as_deref(), Some("4-7"));
    hostile.net.shutdown().await;
    relay.shutdown().await;
}

/// A relay that lost its key comes back as another peer at the same place: nodes find it without a reload.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_comes_back_as_another_peer_is_found() {
    let first = relay().await;
    let listen = first.http_addr();
    let mut node = node(&first).await;
    let before = first.peer_id();
    first.shutdown().await;
    node.until(|event| matches!(event, Event::Connection(Connection::Offline { .. }))).await;
    let second = Relay::start(Config { listen, ..Config::default() }).await.expect("the same port");
    assert_ne!(second.peer_id(), before);
    node.until(|event| matches!(event, Event::Connection(Connection::Connected { .. }))).await;
    second.shutdown().await;
}
