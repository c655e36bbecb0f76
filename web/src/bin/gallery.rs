//! Every state of the page from scripted events, for looking at it: `?state=welcome`, `?state=failover` …
//! Not shipped.

use cdi_node::view::{
    AnswerEvent, AnswerStats, Command, ComputeView, Connection, Drafts, Event, Finish, HostingState, HostingView, Link,
    ModelView, PeerView, Progress, StageView,
};
use cdi_types::advert::Tier;
use cdi_types::block::raw_cid;
use cdi_types::{Keypair, PeerId};
use cdi_web::link::NodeLink;
use cdi_web::{app, crash};
use futures::StreamExt as _;
use futures::channel::mpsc;
use wasm_bindgen::JsCast as _;
use wasm_bindgen::closure::Closure;
use web_sys::{HtmlElement, HtmlTextAreaElement};

const GIGA: u64 = 1_000_000_000;

fn main() {
    crash::install_hook();
    let state = web_sys::window()
        .and_then(|w| w.location().search().ok())
        .and_then(|query| Some(query.split_once("state=")?.1.to_owned()))
        .unwrap_or_else(|| "welcome".to_owned());
    let (events, stream) = mpsc::unbounded();
    for event in opening(&state) {
        // The receiver lives as long as the page.
        let _ = events.unbounded_send(event);
    }
    let mut questions = match state.as_str() {
        "running" | "waiting" | "failover" | "done" | "failed" | "stopped" => vec!["What happens when a tab closes?"],
        "conversation" => vec!["What is a shard?", "Who runs it?", "Tell me a story about a brave fox"],
        _ => Vec::new(),
    };
    questions.reverse();
    let (last, crashes) = (state.clone(), state == "crash");
    let commands = move |command: Command| {
        let Command::Ask(_) = command else { return };
        assert!(!crashes, "a scripted crash");
        for event in answer(&last) {
            let _ = events.unbounded_send(Event::Answer(event));
        }
    };
    let node = NodeLink::new(commands, stream.chain(futures::stream::pending()));
    app::mount(node);
    ask_in_turn(questions);
}

/// Presses the buttons that a user would press, one question at a time.
fn ask_in_turn(mut questions: Vec<&'static str>) {
    let Some(window) = web_sys::window() else { return };
    let Some(question) = questions.pop() else { return };
    let press = Closure::once_into_js(move || {
        let Some(document) = web_sys::window().and_then(|w| w.document()) else { return };
        let find = |selector| document.query_selector(selector).ok().flatten();
        if let Some(field) = find("#prompt").and_then(|e| e.dyn_into::<HtmlTextAreaElement>().ok()) {
            field.set_value(question);
        }
        if let Some(send) = find("[data-testid=send]").and_then(|e| e.dyn_into::<HtmlElement>().ok()) {
            send.click();
        }
        ask_in_turn(questions);
    });
    let _ = window.set_timeout_with_callback_and_timeout_and_arguments_0(press.unchecked_ref(), 50);
}

fn opening(state: &str) -> Vec<Event> {
    if state == "connecting" {
        return Vec::new();
    }
    let connection = if state == "offline" {
        Connection::Offline { reason: "the relay does not answer; trying again in 4 s".into() }
    } else {
        Connection::Connected { link: "WebSocket".into() }
    };
    let gpu = state == "gpu";
    let mut events = vec![
        Event::Identity { peer: peer(0) },
        Event::Connection(connection),
        Event::Compute(ComputeView {
            tier: if gpu { Tier::Gpu } else { Tier::Cpu },
            reason: if gpu {
                "WebGPU computes a layer in 0.4 ms, WASM SIMD in 1.9 ms: WebGPU is used.".into()
            } else {
                "WASM SIMD computes a layer in 0.9 ms, WebGPU (software) in 14 ms: WASM SIMD is used.".into()
            },
            kernel_id: "cpu/1".into(),
        }),
        Event::Model(model(state)),
        Event::Peers(peers(state)),
        Event::Hosting(hosting(state)),
    ];
    match state {
        "offline" => events.push(Event::Error(
            "The relay does not answer. Questions can still be answered by this tab alone; the page keeps trying."
                .into(),
        )),
        "notice" => {
            events.push(Event::Notice("Storage is full: layers are kept in memory until this tab closes.".into()));
            events.push(Event::Notice("Running in this tab alone would be faster: 61 against 24 tokens/s.".into()));
        }
        _ => {}
    }
    events
}

fn model(state: &str) -> ModelView {
    let large = state == "large";
    ModelView {
        id: raw_cid(b"model"),
        name: if large { "TinyLlama 1.1B" } else { "CDI Genesis" }.into(),
        layers: if large { 22 } else { 8 },
        context: 512,
        weight_bytes: if large { GIGA * 11 / 10 } else { 4_120_000 },
    }
}

fn hosting(state: &str) -> HostingView {
    let layers = Some(layers("0-3"));
    let progress =
        Progress { done_bytes: 1_310_000, fetched_bytes: 1_310_000, total_bytes: 2_060_000, bytes_per_s: 96e3 };
    let (state, layers, progress, message) = match state {
        "fetching" => (HostingState::Fetching, layers, Some(progress), None),
        "testing" => (HostingState::Testing, layers, None, None),
        "hosting" | "conversation" => (HostingState::Hosting, layers, None, None),
        "paused" => (HostingState::Paused, layers, None, None),
        "hosting-error" => {
            let message =
                "Block bafkr…7xq could not be fetched from any of 3 peers. Try again when more tabs are open.";
            (HostingState::Error, None, None, Some(message.to_owned()))
        }
        _ => return HostingView::default(),
    };
    HostingView { state, layers, progress, message }
}

fn peers(state: &str) -> Vec<PeerView> {
    let hosts = matches!(state, "hosting" | "conversation");
    let own = PeerView {
        peer: peer(0),
        this: true,
        link: Some(Link::Local),
        layers: hosts.then(|| layers("0-3")),
        tier: Tier::Cpu,
        hidden: false,
        rtt_ms: None,
        received_bytes: 0,
        sent_bytes: 0,
        worker_bytes: 0,
        limit_bytes: None,
    };
    let other = |n: u8, link, range: Option<&str>, tier, hidden, rtt_ms| PeerView {
        peer: peer(n),
        this: false,
        link,
        layers: range.map(layers),
        tier,
        hidden,
        rtt_ms,
        received_bytes: if link.is_some() { 1_250_000 } else { 0 },
        sent_bytes: if link.is_some() { 48_000 } else { 0 },
        worker_bytes: if link.is_some() { 900_000 } else { 0 },
        limit_bytes: (link == Some(Link::Relayed)).then_some(1 << 30),
    };
    let mut all = vec![own];
    match state {
        "alone" | "offline" => {}
        "large" => all.extend((1..=9).map(|n| {
            let first = u32::from(n) * 2;
            other(n, Some(Link::Direct), Some(&format!("{first}-{}", first + 3)), Tier::Gpu, false, Some(12.5))
        })),
        _ => all.extend([
            other(1, Some(Link::Direct), Some("0-2"), Tier::Cpu, false, Some(1.8)),
            other(2, Some(Link::Direct), Some("2-5"), Tier::Gpu, false, Some(24.0)),
            other(3, Some(Link::Relayed), Some("3-5"), Tier::Cpu, true, Some(187.0)),
            other(4, None, None, Tier::None, false, None),
        ]),
    }
    all
}

fn answer(state: &str) -> Vec<AnswerEvent> {
    let route = |peers: &[(u8, &str, Link)], why: &str| AnswerEvent::Route {
        stages: peers
            .iter()
            .map(|(n, range, link)| StageView { peer: peer(*n), layers: layers(range), link: *link })
            .collect(),
        why: why.into(),
    };
    let text = |text: &str, tokens| AnswerEvent::Text { text: text.into(), tokens };
    let done = |finish, failovers| {
        AnswerEvent::Done(AnswerStats {
            tokens: 58,
            prompt_tokens: 21,
            first_token_ms: 412.0,
            tokens_per_s: 23.6,
            finish,
            failovers,
            drafts: Drafts { offered: 40, accepted: 26 },
        })
    };
    let first = route(
        &[(0, "0-1", Link::Local), (2, "2-5", Link::Direct), (3, "6-7", Link::Relayed)],
        "Hosts are used as you asked; this tab alone would be faster (61 against 24 tokens/s).",
    );
    let second = route(
        &[(0, "0-1", Link::Local), (1, "2-5", Link::Direct), (3, "6-7", Link::Relayed)],
        "A tab closed; its layers moved to the next fastest host.",
    );
    let half = text("When a tab closes, the tab before it in the pipeline still holds what it sent. It replays ", 19);
    let rest = text("those activations to a replacement, and the answer goes on with the same words.", 58);
    match state {
        "waiting" => vec![first],
        "running" => vec![first, half],
        "failover" => vec![first, half, second],
        "stopped" => vec![first, half, done(Finish::Stopped, 0)],
        "failed" => {
            let message = "No tab serves layers 6-7 any more. Wait for a host, or choose “This tab alone”.";
            vec![first, half, AnswerEvent::Failed { message: message.into() }]
        }
        _ => vec![first, half, second, rest, done(Finish::EndOfText, 1)],
    }
}

fn peer(n: u8) -> PeerId {
    Keypair::from_seed(&[n; 32]).public().peer_id()
}

fn layers(text: &str) -> cdi_types::LayerRange {
    text.parse().expect("a range in this file")
}
