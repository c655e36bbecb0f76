//! Whole nodes in one process: a real relay, real libp2p connections over loopback, the genesis model on the
//! CPU. What the browser adds (WebRTC, IndexedDB, workers) is tested end to end in Chromium.

mod support;

use std::sync::atomic::{AtomicBool, Ordering};

use cdi_node::Answering;
use cdi_node::text;
use cdi_node::view::{AnswerEvent, Command, Finish, HostLayers, Link, RouteMode};
use cdi_platform::port::{Port, PortError};
use cdi_platform::task;
use futures::StreamExt as _;

use support::{Answer, PATIENCE, STORY, greedy, node, node_with, relay};

const QUESTION: &str = "What is a shard?";

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

async fn whole(mut answering: Answering) -> Answer {
    let mut answer = Answer::default();
    while let Some(event) = tokio::time::timeout(PATIENCE, answering.next()).await.expect("an event in time") {
        answer.add(event);
    }
    answer
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn programs_ask_beside_each_other_and_hang_up() {
    let relay = relay().await;
    let mut asking = node(&relay).await;
    let [story, answer] =
        [asking.ask(STORY, RouteMode::ThisTab, |_| ()).await, asking.ask(QUESTION, RouteMode::ThisTab, |_| ()).await];
    let ask = |question| asking.handle.ask(greedy(question, RouteMode::ThisTab));
    let (first, second, mut third) = futures::join!(ask(STORY), ask(QUESTION), ask(STORY));
    // The third hangs up when it has read a little: the others do not notice.
    while !matches!(third.next().await, Some(AnswerEvent::Text { .. })) {}
    drop(third);
    let (first, second) = futures::join!(whole(first), whole(second));
    assert_eq!((first.text, second.text), (story.text, answer.text));
    assert!(matches!((first.end, second.end), (Some(Ok(_)), Some(Ok(_)))));
    relay.shutdown().await;
}
