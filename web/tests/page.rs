//! The page in a browser, driven by its buttons and a scripted node. What is checked here is what tests of
//! whole swarms and assistive tools rely on: `data-testid`, the `data-` attributes and the text of the answer.
#![cfg(target_arch = "wasm32")]

use std::cell::RefCell;
use std::rc::Rc;

use cdi_node::view::{
    AnswerEvent, AnswerStats, Command, ComputeView, Connection, Drafts, Event, Finish, HostLayers, HostingState,
    HostingView, Link, ModelView, PeerView, Progress, RouteMode, SpeedView, StageView,
};
use cdi_types::advert::Tier;
use cdi_types::block::raw_cid;
use cdi_types::{Keypair, LayerRange, PeerId};
use cdi_web::app::{App, AppProps};
use cdi_web::link::NodeLink;
use futures::channel::mpsc;
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};
use web_sys::{Document, Element, HtmlElement, HtmlSelectElement, HtmlTextAreaElement, KeyboardEvent};

wasm_bindgen_test_configure!(run_in_browser);

/// A page on a node whose events the test writes and whose commands it reads.
struct Page {
    root: Element,
    app: Option<yew::AppHandle<App>>,
    events: mpsc::UnboundedSender<Event>,
    commands: Rc<RefCell<Vec<Command>>>,
}

impl Page {
    async fn open() -> Self {
        let root = document().create_element("div").expect("an element");
        document().body().expect("a body").append_child(&root).expect("appended");
        let (events, stream) = mpsc::unbounded();
        let commands = Rc::new(RefCell::new(Vec::new()));
        let sent = Rc::clone(&commands);
        let node = NodeLink::new(move |command| sent.borrow_mut().push(command), stream);
        let app = yew::Renderer::<App>::with_root_and_props(root.clone(), AppProps { node }).render();
        let page = Self { root, app: Some(app), events, commands };
        page.until(|page| !page.all("answer").is_empty()).await;
        page
    }

    fn tell(&self, event: Event) {
        self.events.unbounded_send(event).expect("the page listens");
    }

    fn answer(&self, event: AnswerEvent) {
        self.tell(Event::Answer(event));
    }

    fn all(&self, testid: &str) -> Vec<Element> {
        let found = self.root.query_selector_all(&format!("[data-testid={testid}]")).expect("a selector");
        (0..found.length()).filter_map(|i| found.item(i)?.dyn_into().ok()).collect()
    }

    fn get(&self, testid: &str) -> Element {
        let mut found = self.all(testid);
        assert_eq!(found.len(), 1, "{testid}");
        found.remove(0)
    }

    fn text(&self, testid: &str) -> String {
        self.get(testid).text_content().unwrap_or_default()
    }

    fn data(&self, testid: &str, name: &str) -> String {
        let value = self.get(testid).get_attribute(&format!("data-{name}"));
        assert!(value.is_some(), "no data-{name} on {testid}");
        value.unwrap_or_default()
    }

    fn click(&self, testid: &str) {
        self.get(testid).unchecked_into::<HtmlElement>().click();
    }

    fn write(&self, prompt: &str) {
        self.get("prompt").unchecked_into::<HtmlTextAreaElement>().set_value(prompt);
    }

    fn choose(&self, testid: &str, value: &str) {
        let select = self.get(testid).unchecked_into::<HtmlSelectElement>();
        select.set_value(value);
        assert_eq!(select.value(), value, "{testid} has no such choice");
        dispatch(&select, "change");
    }

    /// As a user does, letter by letter.
    fn type_in(&self, prompt: &str) {
        for end in 1..=prompt.len() {
            self.write(&prompt[..end]);
            dispatch(&self.get("prompt"), "input");
        }
    }

    fn press(&self, shift: bool) {
        let init = web_sys::KeyboardEventInit::new();
        init.set_key("Enter");
        init.set_shift_key(shift);
        init.set_bubbles(true);
        init.set_cancelable(true);
        let press = KeyboardEvent::new_with_keyboard_event_init_dict("keydown", &init).expect("an event");
        self.get("prompt").dispatch_event(&press).expect("dispatched");
    }

    /// Waits until the page shows what the test expects; the runner's time limit ends a wait in vain.
    async fn until(&self, condition: impl Fn(&Self) -> bool) {
        while !condition(self) {
            let next_task = js_sys::Promise::new(&mut |resolve, _| {
                let window = web_sys::window().expect("a window");
                window.set_timeout_with_callback(&resolve).expect("a timer");
            });
            wasm_bindgen_futures::JsFuture::from(next_task).await.expect("a timer never fails");
        }
    }

    async fn until_answer(&self, state: &str) {
        self.until(|page| page.data("answer", "state") == state).await;
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        if let Some(app) = self.app.take() {
            app.destroy();
        }
        self.root.remove();
    }
}

fn dispatch(element: &Element, name: &str) {
    let init = web_sys::EventInit::new();
    init.set_bubbles(true);
    let event = web_sys::Event::new_with_event_init_dict(name, &init).expect("an event");
    element.dispatch_event(&event).expect("dispatched");
}

fn document() -> Document {
    web_sys::window().and_then(|w| w.document()).expect("a document")
}

fn peer(n: u8) -> PeerId {
    Keypair::from_seed(&[n; 32]).public().peer_id()
}

fn layers(text: &str) -> LayerRange {
    text.parse().expect("a range")
}

fn model() -> Event {
    Event::Model(ModelView {
        id: raw_cid(b"model"),
        name: "CDI Genesis".into(),
        layers: 4,
        context: 512,
        weight_bytes: 4_000_000,
    })
}

fn text(text: &str, tokens: u32) -> AnswerEvent {
    AnswerEvent::Text { text: text.into(), tokens }
}

fn done(tokens: u32) -> AnswerEvent {
    AnswerEvent::Done(AnswerStats {
        tokens,
        prompt_tokens: 9,
        first_token_ms: 31.25,
        tokens_per_s: 48.5,
        finish: Finish::EndOfText,
        failovers: 1,
        drafts: Drafts { offered: 8, accepted: 6 },
    })
}

#[wasm_bindgen_test]
async fn a_streamed_answer_is_exactly_its_text() {
    let page = Page::open().await;
    assert_eq!((page.text("answer").as_str(), page.data("answer", "state").as_str()), ("", "idle"));
    page.write("What is <b>?");
    page.click("send");
    page.answer(text("A tag:\n  <b>", 3));
    page.answer(text("&amp;</b>", 7));
    page.until(|p| p.data("answer", "tokens") == "7").await;
    assert_eq!(page.text("answer"), "A tag:\n  <b>&amp;</b>");
    page.answer(done(8));
    page.until_answer("done").await;
    assert_eq!(page.text("answer"), "A tag:\n  <b>&amp;</b>");
    assert_eq!(page.data("answer-stats", "failovers"), "1");
    assert_eq!(page.data("answer-stats", "tokens-per-s"), "48.50");
    assert_eq!(page.data("answer-stats", "first-token-ms"), "31.2");
}

#[wasm_bindgen_test]
async fn send_empties_the_answer_in_the_same_task() {
    let page = Page::open().await;
    page.write("first");
    page.click("send");
    page.answer(text("one", 1));
    page.answer(done(1));
    page.until_answer("done").await;

    page.write("second");
    page.click("send");
    // No await between: whoever looks after the click must not take the first answer for the second.
    assert_eq!((page.text("answer").as_str(), page.data("answer", "state").as_str()), ("", "running"));
    assert_eq!(page.data("answer", "tokens"), "0");
    page.answer(text("two", 1));
    page.until(|p| p.text("answer") == "two").await;
    assert_eq!(page.text("past-answer"), "one");
}

#[wasm_bindgen_test]
async fn enter_sends_and_shift_enter_does_not() {
    let page = Page::open().await;
    page.write("a line");
    page.press(true);
    assert!(page.commands.borrow().is_empty());
    page.press(false);
    assert!(matches!(&page.commands.borrow()[..], [Command::Ask(ask)] if ask.messages[0].content == "a line"));
    page.write("while it runs");
    page.press(false);
    assert_eq!(page.commands.borrow().len(), 1);
    assert_eq!(page.get("prompt").unchecked_into::<HtmlTextAreaElement>().value(), "while it runs");
}

#[wasm_bindgen_test]
async fn the_node_is_told_once_that_a_question_is_begun() {
    let page = Page::open().await;
    page.type_in("a line");
    assert_eq!(page.commands.borrow()[..], [Command::PrepareToAsk]);
    page.press(false);
    page.type_in("another");
    assert!(matches!(&page.commands.borrow()[..], [Command::PrepareToAsk, Command::Ask(_)]));
}

#[wasm_bindgen_test]
async fn the_controls_reach_the_node() {
    let page = Page::open().await;
    page.tell(model());
    page.tell(Event::Hosting(HostingView::default()));
    page.until(|p| !p.get("host-shard").has_attribute("disabled")).await;
    page.choose("host-layers", "4");
    page.click("host-shard");
    page.choose("route-mode", "swarm");
    page.write("question");
    page.click("send");
    page.until(|p| !p.get("stop").has_attribute("hidden")).await;
    page.click("stop");
    let commands = page.commands.borrow();
    assert_eq!(commands[0], Command::Host(HostLayers::Exactly(4)));
    assert!(matches!(&commands[1], Command::Ask(ask) if ask.route == RouteMode::Swarm));
    assert_eq!(commands[2..], [Command::StopAnswer]);
}

#[wasm_bindgen_test]
async fn a_tab_opened_in_the_background_says_so() {
    let hide =
        js_sys::Function::new_no_args("Object.defineProperty(document, 'hidden', { value: true, configurable: true })");
    let show = js_sys::Function::new_no_args("delete document.hidden");
    hide.call0(&JsValue::NULL).expect("redefined");
    let page = Page::open().await;
    show.call0(&JsValue::NULL).expect("restored");
    assert_eq!(page.commands.borrow()[..], [Command::Visibility { hidden: true }]);
}

#[wasm_bindgen_test]
async fn a_failed_answer_keeps_its_text_and_can_be_retried() {
    let page = Page::open().await;
    page.write("question");
    page.click("send");
    page.answer(text("half an ans", 3));
    page.answer(AnswerEvent::Failed { message: "No host. Try again.".into() });
    page.until_answer("error").await;
    assert_eq!((page.text("answer").as_str(), page.text("error").as_str()), ("half an ans", "No host. Try again."));
    page.click("retry");
    assert_eq!((page.text("answer").as_str(), page.data("answer", "state").as_str()), ("", "running"));
}

#[wasm_bindgen_test]
async fn the_swarm_is_shown_in_attributes() {
    let page = Page::open().await;
    assert_eq!(page.data("connection", "state"), "connecting");
    assert_eq!(page.data("compute-tier", "tier"), "none");
    let node = |n, this, link, range: Option<&str>| PeerView {
        peer: peer(n),
        this,
        link,
        layers: range.map(layers),
        tier: Tier::Cpu,
        hidden: false,
        rtt_ms: Some(1.5),
        received_bytes: 0,
        sent_bytes: 0,
        limit_bytes: None,
    };
    page.tell(Event::Connection(Connection::Connected { link: "WebSocket".into() }));
    page.tell(Event::Compute(ComputeView { tier: Tier::Cpu, reason: "fastest".into(), kernel_id: "cpu/1".into() }));
    page.tell(Event::Speed(SpeedView { gflops: Some(1_310.0), decode_ms: Some(2.25), memory_bytes: 12_000_000 }));
    page.tell(model());
    page.tell(Event::Peers(vec![
        node(0, true, Some(Link::Local), Some("0-1")),
        node(1, false, Some(Link::Direct), Some("1-2")),
        node(2, false, None, None),
    ]));
    page.tell(Event::Hosting(HostingView {
        state: HostingState::Fetching,
        layers: Some(layers("0-1")),
        progress: Some(Progress { done_bytes: 900, fetched_bytes: 700, total_bytes: 1_000, bytes_per_s: 50.0 }),
        message: None,
    }));
    page.until(|p| p.data("hosting", "state") == "fetching").await;
    assert_eq!(
        (page.data("connection", "state"), page.data("connection", "link")),
        ("connected".into(), "WebSocket".into())
    );
    assert_eq!(page.data("compute-tier", "tier"), "cpu");
    assert_eq!(
        page.text("compute-speed"),
        "Measured here: 1.31 TFLOPS over all steps · 2.2 ms a token · 12.0 MB in use."
    );
    assert_eq!((page.data("peers", "count"), page.data("peers", "connected")), ("2".into(), "1".into()));
    assert_eq!((page.data("hosting", "layers"), page.data("hosting", "fetched-bytes")), ("0-1".into(), "700".into()));
    assert_eq!(attributes(&page.get("coverage"), "replicas"), ["1", "2", "1", "0"]);
    assert_eq!(attributes(&page.get("coverage"), "layer"), ["0", "1", "2", "3"]);
}

#[wasm_bindgen_test]
async fn the_pipeline_has_one_child_a_stage() {
    let page = Page::open().await;
    page.write("question");
    page.click("send");
    page.answer(AnswerEvent::Route {
        stages: vec![
            StageView { peer: peer(0), layers: layers("0-1"), link: Link::Local },
            StageView { peer: peer(1), layers: layers("2-3"), link: Link::Relayed },
        ],
        why: "Only this host has the rest.".into(),
    });
    page.until(|p| !p.all("pipeline").is_empty()).await;
    let pipeline = page.get("pipeline");
    assert_eq!(attributes(&pipeline, "peer"), [peer(0).to_base58(), peer(1).to_base58()]);
    assert_eq!(attributes(&pipeline, "layers"), ["0-1", "2-3"]);
    assert_eq!(attributes(&pipeline, "link"), ["local", "relayed"]);
    assert_eq!(page.text("why"), "Only this host has the rest.");
}

#[wasm_bindgen_test]
async fn alerts_stay_until_they_are_dismissed() {
    let page = Page::open().await;
    page.tell(Event::Notice("Storage is full.".into()));
    page.tell(Event::Error("The relay is gone. Wait.".into()));
    page.until(|p| !p.all("error").is_empty()).await;
    assert_eq!(
        (page.text("notice").as_str(), page.text("error").as_str()),
        ("Storage is full.", "The relay is gone. Wait.")
    );
    let dismiss = page.root.query_selector(".alert-notice button").expect("a selector").expect("a button");
    dismiss.unchecked_into::<HtmlElement>().click();
    page.until(|p| p.all("notice").is_empty()).await;
    assert_eq!(page.all("error").len(), 1);
}

#[wasm_bindgen_test]
async fn the_end_of_the_node_is_told() {
    let page = Page::open().await;
    page.events.close_channel();
    page.until(|p| p.data("connection", "state") == "offline").await;
    assert!(page.text("error").contains("Reload"));
}

/// The attribute `data-{name}` of every child.
fn attributes(parent: &Element, name: &str) -> Vec<String> {
    let children = parent.children();
    (0..children.length())
        .filter_map(|i| children.item(i))
        .map(|child| child.get_attribute(&format!("data-{name}")).expect("every child has it"))
        .collect()
}
