//! Nodes in this process that speak over loopback, and what they told their user.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::time::Duration;

use cdi_node::view::{
    AnswerEvent, AnswerStats, Ask, Command, Connection, Event, HostLayers, HostingState, Message, RouteMode, StageView,
};
use cdi_node::{Handle, NodeArgs, compute, text};
use cdi_platform::kv::KeyValue;
use cdi_platform::port::Port;
use cdi_platform::testing::lasting_place;
use cdi_platform::{Place, random, task};
use cdi_relay::{Config, Relay, RelayHandle};
use cdi_types::advert::Tier;
use cdi_types::sampling::Sampling;
use cdi_types::{Keypair, Network, PeerId};
use futures::StreamExt as _;
use futures::channel::mpsc;

/// A generous bound: it only turns a hang into a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const STORY: &str = "Tell me a story about a brave fox.";

pub struct Node {
    pub handle: Handle,
    pub events: mpsc::Receiver<Event>,
    pub peer: PeerId,
    /// What it hosts, as it was shown last.
    pub hosted: Option<String>,
    /// Every state of hosting that was shown, with the layers.
    pub hosting: Vec<(HostingState, String)>,
    hosts_seen: usize,
    nodes_seen: usize,
}

/// What an answer was.
#[derive(Debug, Default)]
pub struct Answer {
    pub text: String,
    pub routes: Vec<Vec<StageView>>,
    pub end: Option<Result<AnswerStats, String>>,
}

pub async fn relay() -> RelayHandle {
    relay_with(Config::default()).await
}

pub async fn relay_with(config: Config) -> RelayHandle {
    Relay::start(Config { listen: ([127, 0, 0, 1], 0).into(), ..config }).await.expect("a relay")
}

pub async fn node(relay: &RelayHandle) -> Node {
    node_with(relay, text::start_thread).await
}

/// A node whose text half is started so.
pub async fn node_with(relay: &RelayHandle, text: text::Start) -> Node {
    start(relay, Place::memory(), text).await
}

/// A node that hosted these layers, and no more, when it ran before, and does so again.
pub async fn returning(relay: &RelayHandle, layers: [u32; 2]) -> Node {
    let place = lasting_place();
    let settings = KeyValue::open(&place, &Network::Testnet.store("settings")).await.expect("opens");
    let value = format!(r#"{{"layers":{layers:?},"at_most":{}}}"#, layers[1] - layers[0] + 1);
    settings.put("hosting-test", value.as_bytes()).await.expect("writes");
    drop(settings);
    let mut node = start(relay, place, text::start_thread).await;
    node.until(|event| matches!(event, Event::Hosting(view) if view.state == HostingState::Hosting)).await;
    node
}

async fn start(relay: &RelayHandle, place: Place, text: text::Start) -> Node {
    let (page, worker) = Port::pair();
    task::spawn_dedicated("compute", move || compute::run(worker, Place::memory()));
    let keypair = Keypair::from_seed(&random::seed());
    let peer = keypair.public().peer_id();
    let args = NodeArgs {
        keypair,
        network: Network::Testnet,
        relay: format!("http://{}", relay.http_addr()),
        place,
        slot: "test".to_owned(),
        worker: page,
        text,
        budget_bytes: 1 << 30,
        store_bytes: 1 << 30,
        kv_bytes: 1 << 28,
        prefer: Some(Tier::Cpu),
    };
    let (handle, events) = cdi_node::start(args).expect("a node");
    let mut node = Node { handle, events, peer, hosted: None, hosting: Vec::new(), hosts_seen: 0, nodes_seen: 0 };
    let (mut connected, mut model) = (false, false);
    node.until(|event| {
        connected |= matches!(event, Event::Connection(Connection::Connected { .. }));
        model |= matches!(event, Event::Model(_));
        connected && model
    })
    .await;
    node
}

impl Node {
    /// Reads events until one satisfies `done`. Nothing is lost when it is dropped while it waits.
    pub async fn until(&mut self, mut done: impl FnMut(&Event) -> bool) {
        let search = async {
            while let Some(event) = self.events.next().await {
                if let Event::Hosting(view) = &event {
                    assert_ne!(view.state, HostingState::Error, "{view:?}");
                    self.hosted = view.layers.map(|l| l.to_string());
                    self.hosting.push((view.state, self.hosted.clone().unwrap_or_default()));
                }
                if let Event::Peers(peers) = &event {
                    self.nodes_seen = peers.iter().filter(|p| !p.this).count();
                    self.hosts_seen = peers.iter().filter(|p| !p.this && p.layers.is_some()).count();
                }
                if done(&event) {
                    return;
                }
            }
            unreachable!("the node ended");
        };
        tokio::time::timeout(PATIENCE, search).await.expect("an event in time");
    }

    pub async fn host(&mut self, layers: HostLayers) {
        self.handle.send(Command::Host(layers)).await;
        self.until(|event| matches!(event, Event::Hosting(view) if view.state == HostingState::Hosting)).await;
    }

    /// Waits until exactly so many other nodes host.
    pub async fn see_hosts(&mut self, count: usize) {
        while self.hosts_seen != count {
            self.until(|event| matches!(event, Event::Peers(_))).await;
        }
    }

    /// Waits until exactly so many other nodes are known.
    pub async fn see_nodes(&mut self, count: usize) {
        while self.nodes_seen != count {
            self.until(|event| matches!(event, Event::Peers(_))).await;
        }
    }

    /// Asks as the user does, and calls `at_token` with the number of tokens so far whenever there are more.
    pub async fn ask(&mut self, question: &str, route: RouteMode, mut at_token: impl FnMut(u32)) -> Answer {
        self.handle.send(Command::Ask(greedy(question, route))).await;
        let mut answer = Answer::default();
        self.until(|event| {
            let Event::Answer(event) = event else { return false };
            if let AnswerEvent::Text { tokens, .. } = event {
                at_token(*tokens);
            }
            answer.add(event.clone());
            answer.end.is_some()
        })
        .await;
        answer
    }
}

impl Answer {
    pub fn add(&mut self, event: AnswerEvent) {
        match event {
            AnswerEvent::Started { .. } => {}
            AnswerEvent::Route { stages, .. } => self.routes.push(stages),
            AnswerEvent::Text { text, .. } => self.text += &text,
            AnswerEvent::Done(stats) => self.end = Some(Ok(stats)),
            AnswerEvent::Failed { message } => self.end = Some(Err(message)),
        }
    }
}

/// One question, answered with the most likely tokens.
pub fn greedy(question: &str, route: RouteMode) -> Ask {
    let messages = vec![Message { role: "user".to_owned(), content: question.to_owned() }];
    Ask { messages, route, sampling: Sampling::GREEDY, max_tokens: 220 }
}
