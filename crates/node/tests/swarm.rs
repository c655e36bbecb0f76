//! Whole nodes in one process: a real relay, real libp2p connections over loopback, the genesis model on the
//! CPU. What the browser adds (WebRTC, IndexedDB, workers) is tested end to end in Chromium.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use cdi_node::view::{
    AnswerEvent, AnswerStats, Ask, Command, Connection, Event, Finish, HostLayers, HostingState, Link, Message,
    RouteMode, StageView,
};
use cdi_node::{Handle, NodeArgs, compute, text};
use cdi_platform::port::{Port, PortError};
use cdi_platform::{Place, random, task};
use cdi_relay::{Config, Relay, RelayHandle};
use cdi_types::advert::Tier;
use cdi_types::sampling::Sampling;
use cdi_types::{Keypair, Network, PeerId};
use futures::StreamExt as _;
use futures::channel::mpsc;

/// A generous bound: it only turns a hang into a failure.
const PATIENCE: Duration = Duration::from_secs(60);

struct Node {
    handle: Handle,
    events: mpsc::Receiver<Event>,
    peer: PeerId,
    hosted: Option<String>,
    hosts_seen: usize,
}

/// What an answer was.
#[derive(Debug, Default)]
struct Answer {
    text: String,
    routes: Vec<Vec<StageView>>,
    end: Option<Result<AnswerStats, String>>,
}

async fn relay() -> RelayHandle {
    Relay::start(Config { listen: ([127, 0, 0, 1], 0).into(), ..Config::default() }).await.expect("a relay")
}

async fn node(relay: &RelayHandle) -> Node {
    node_with(relay, text::start_thread).await
}

async fn node_with(relay: &RelayHandle, text: text::Start) -> Node {
    let (page, worker) = Port::pair();
    task::spawn_dedicated("compute", move || compute::run(worker, Place::memory()));
    let keypair = Keypair::from_seed(&random::seed());
    let peer = keypair.public().peer_id();
    let args = NodeArgs {
        keypair,
        network: Network::Testnet,
        relay: format!("http://{}", relay.http_addr()),
        place: Place::memory(),
        slot: "test".to_owned(),
        worker: page,
        text,
        budget_bytes: 1 << 30,
        store_bytes: 1 << 30,
        kv_bytes: 1 << 28,
        prefer: Some(Tier::Cpu),
    };
    let (handle, events) = cdi_node::start(args).expect("a node");
    let mut node = Node { handle, events, peer, hosted: None, hosts_seen: 0 };
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
    /// Reads events until one satisfies `done`.
    async fn until(&mut self, mut done: impl FnMut(&Event) -> bool) {
        let search = async {
            while let Some(event) = self.events.next().await {
                if let Event::Hosting(view) = &event {
                    assert_ne!(view.state, HostingState::Error, "{view:?}");
                    self.hosted = view.layers.map(|l| l.to_string());
                }
                if let Event::Peers(peers) = &event {
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

    async fn host(&mut self, layers: HostLayers) {
        self.handle.send(Command::Host(layers)).await;
        self.until(|event| matches!(event, Event::Hosting(view) if view.state == HostingState::Hosting)).await;
    }

    async fn see_hosts(&mut self, count: usize) {
        while self.hosts_seen < count {
            self.until(|event| matches!(event, Event::Peers(_))).await;
        }
    }

    /// Asks, and calls `at_token` with the number of tokens so far whenever there are more.
    async fn ask(&mut self, question: &str, route: RouteMode, mut at_token: impl FnMut(u32)) -> Answer {
        let messages = vec![Message { role: "user".to_owned(), content: question.to_owned() }];
        let ask = Ask { messages, route, sampling: Sampling::GREEDY, max_tokens: 220 };
        self.handle.send(Command::Ask(ask)).await;
        let mut answer = Answer::default();
        self.until(|event| {
            let Event::Answer(event) = event else { return false };
            match event.clone() {
                AnswerEvent::Route { stages, .. } => answer.routes.push(stages),
                AnswerEvent::Text { text, tokens } => {
                    answer.text += &text;
                    at_token(tokens);
                }
                AnswerEvent::Done(stats) => answer.end = Some(Ok(stats)),
                AnswerEvent::Failed { message } => answer.end = Some(Err(message)),
            }
            answer.end.is_some()
        })
        .await;
        answer
    }
}

const QUESTION: &str = "What is a shard?";
const STORY: &str = "Tell me a story about a brave fox.";

fn layers(answer: &Answer, route: usize) -> Vec<String> {
    answer.routes[route].iter().map(|s| s.layers.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_node_answers_alone() {
    let relay = relay().await;
    let mut asking = node(&relay).await;
    let answer = asking.ask(QUESTION, RouteMode::Auto, |_| ()).await;
    let stats = answer.end.clone().expect("an end").expect("an answer");
    assert_eq!(stats.finish, Finish::EndOfText);
    assert!(answer.text.contains("layers"), "{}", answer.text);
    assert_eq!(layers(&answer, 0), ["0-7"]);
    assert_eq!((answer.routes[0][0].peer, answer.routes[0][0].link), (asking.peer, Link::Local));

    let long = asking.ask(&"why ".repeat(600), RouteMode::ThisTab, |_| ()).await;
    let refusal = long.end.expect("an end").expect_err("too long");
    assert!(refusal.contains("512"), "{refusal}");
    relay.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hosts_answer_like_one_and_a_lost_one_is_replaced() {
    let relay = relay().await;
    let mut asking = node(&relay).await;
    let alone = asking.ask(STORY, RouteMode::ThisTab, |_| ()).await;
    let mut hosts = Vec::new();
    for _ in 0..3 {
        let mut host = node_with(&relay, no_text).await;
        host.see_hosts(hosts.len()).await;
        host.host(HostLayers::Auto).await;
        hosts.push(host);
    }
    let mut held: Vec<String> = hosts.iter().filter_map(|h| h.hosted.clone()).collect();
    held.sort();
    assert_eq!(held, ["0-2", "3-5", "5-7"]);
    asking.see_hosts(3).await;

    let together = asking.ask(STORY, RouteMode::Swarm, |_| ()).await;
    assert_eq!(together.text, alone.text);
    assert!(together.routes[0].iter().all(|s| s.peer != asking.peer), "{:?}", together.routes);
    assert_eq!(together.routes[0].len(), 3);
    assert_eq!(together.end.expect("an end").expect("an answer").failovers, 0);

    // The host of the middle layers goes while it computes.
    let middle = hosts.iter().position(|h| h.hosted.as_deref() == Some("3-5")).expect("a host");
    let mut victim = Some(hosts.remove(middle));
    let gone = victim.as_ref().map(|v| v.peer);
    let after = asking.ask(STORY, RouteMode::Swarm, |tokens| {
        if tokens >= 10 {
            victim.take();
        }
    });
    let after = after.await;
    assert_eq!(after.text, alone.text);
    let stats = after.end.clone().expect("an end").expect("an answer");
    assert!(stats.failovers >= 1 && stats.tokens > 70, "{stats:?}");
    let last = after.routes.last().expect("a route");
    assert!(last.iter().all(|s| Some(s.peer) != gone), "{last:?}");
    assert!(!HOST_READ_TEXT.load(Ordering::Relaxed), "a host needs no tokenizer");
    relay.shutdown().await;
}

static HOST_READ_TEXT: AtomicBool = AtomicBool::new(false);

fn no_text() -> Result<Port, PortError> {
    HOST_READ_TEXT.store(true, Ordering::Relaxed);
    Err(PortError::Closed("not for hosts".to_owned()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_text_half_that_stops_ends_the_answer_and_is_started_again() {
    let relay = relay().await;
    let mut asking = node_with(&relay, text_that_stops_once).await;
    asking.handle.send(Command::PrepareToAsk).await;
    let lost = asking.ask(STORY, RouteMode::ThisTab, |_| ()).await;
    let reason = lost.end.expect("an end").expect_err("no text");
    assert!(reason.contains("ask again"), "{reason}");
    let answer = asking.ask(QUESTION, RouteMode::ThisTab, |_| ()).await;
    assert_eq!(answer.end.expect("an end").expect("an answer").finish, Finish::EndOfText);
    assert!(answer.text.contains("layers"), "{}", answer.text);
    relay.shutdown().await;
}

/// The first one started opens the model, reads the question, writes one batch of tokens, and is gone.
fn text_that_stops_once() -> Result<Port, PortError> {
    static STARTED: AtomicBool = AtomicBool::new(false);
    let mut half = text::start_thread()?;
    if STARTED.swap(true, Ordering::Relaxed) {
        return Ok(half);
    }
    let (here, mut there) = Port::pair();
    task::spawn_dedicated("text that stops", move || async move {
        for _ in 0..3 {
            let Some(request) = there.recv().await else { return };
            half.send(request).expect("the half listens");
            let reply = half.recv().await.expect("an answer");
            there.send(reply).expect("the node listens");
        }
    });
    Ok(here)
}
