//! The root of the page: takes the node's events and the user's actions to the state, and renders it.

use std::cell::RefCell;
use std::rc::Rc;

use cdi_node::view::{Command, Event};
use futures::StreamExt as _;
use wasm_bindgen::JsCast as _;
use wasm_bindgen::closure::Closure;
use yew::prelude::*;

use crate::components::{Alerts, Chat, Composer, Header, HostCard, SwarmCard};
use crate::link::NodeLink;
use crate::state::{Action, AnswerState, State};

/// Most events taken in before the page renders again.
const EVENT_BATCH: usize = 256;

/// Renders the page for `node` in place of the loader: the element `app` of `index.html`.
pub fn mount(node: NodeLink) {
    let props = AppProps { node };
    match document().and_then(|d| d.get_element_by_id("app")) {
        Some(root) => yew::Renderer::<App>::with_root_and_props(root, props).render(),
        None => yew::Renderer::<App>::with_props(props).render(),
    };
}

/// What the page needs.
#[derive(Clone, PartialEq, Properties)]
pub struct AppProps {
    /// The node behind the page.
    pub node: NodeLink,
}

/// What reaches the root.
pub enum Message {
    /// The node said something: all that was ready, so that a burst of tokens renders once.
    Events(Vec<Event>),
    /// The node ended.
    Ended,
    /// The user did something, and the state has it already.
    Acted,
}

/// The page.
pub struct App {
    state: Rc<RefCell<State>>,
    act: Callback<Action>,
    ask: Callback<String, bool>,
    /// Tells the node when the tab is hidden; dropped with the page.
    on_visibility: Closure<dyn Fn()>,
}

impl Component for App {
    type Message = Message;
    type Properties = AppProps;

    fn create(ctx: &Context<Self>) -> Self {
        if let Some(events) = ctx.props().node.take_events() {
            // Not by animation frame: a hidden tab has none, and the node would wait for its full channel.
            let batches = events.ready_chunks(EVENT_BATCH).map(Message::Events);
            ctx.link().send_stream(batches.chain(futures::stream::once(async { Message::Ended })));
        }
        let state = Rc::default();
        let reduce = reduce(Rc::clone(&state), ctx.props().node.clone(), ctx.link().callback(|()| Message::Acted));
        let ask = reduce.reform(|prompt| Action::Ask { prompt, seed: seed() });
        let act = Callback::from(move |action| {
            reduce.emit(action);
        });
        let on_visibility = watch_visibility(act.clone());
        Self { state, act, ask, on_visibility }
    }

    fn update(&mut self, _: &Context<Self>, message: Message) -> bool {
        let mut state = self.state.borrow_mut();
        match message {
            Message::Events(events) => events.into_iter().for_each(|event| state.apply(event)),
            Message::Ended => state.node_ended(),
            Message::Acted => {}
        }
        true
    }

    fn view(&self, _: &Context<Self>) -> Html {
        let state = self.state.borrow();
        let State { connection, compute, speed, model, peers, hosting, past, current, alerts, .. } = &*state;
        let act = &self.act;
        html! {
            <>
                <a class="skip" href="#prompt">{ "Skip to the question box" }</a>
                <Header connection={connection.clone()} compute={compute.clone()} />
                <div class="layout">
                    <main class="chat" aria-label="Chat">
                        <Chat {past} {current} {model} can_ask={state.can_ask()} {act} />
                        <div class="dock">
                            <Alerts {alerts} {act} />
                            <Composer
                                running={state.is_running()}
                                can_ask={state.can_ask()}
                                fresh={state.current.state == AnswerState::Idle}
                                route={state.route}
                                style={state.style}
                                ask={&self.ask}
                                {act}
                            />
                        </div>
                    </main>
                    <aside class="side" id="swarm" aria-label="Hosting and swarm">
                        <HostCard
                            {hosting}
                            {model}
                            {compute}
                            speed={*speed}
                            fetched_bytes={state.fetched_bytes}
                            chosen={state.host_layers}
                            {act}
                        />
                        <SwarmCard {peers} {model} />
                    </aside>
                </div>
            </>
        }
    }

    fn destroy(&mut self, _: &Context<Self>) {
        if let Some(document) = document() {
            let _ = document.remove_event_listener_with_callback("visibilitychange", listener(&self.on_visibility));
        }
    }
}

/// What every component calls: takes the action to the state at once, tells the node, and renders when it can.
///
/// Returns whether the node was told anything: an action that makes no sense any more is dropped.
fn reduce(state: Rc<RefCell<State>>, node: NodeLink, render: Callback<()>) -> Callback<Action, bool> {
    Callback::from(move |action| {
        let command = state.borrow_mut().act(action);
        if matches!(command, Some(Command::Ask(_))) {
            show_running();
        }
        let told = command.is_some();
        if let Some(command) = command {
            node.send(command);
        }
        render.emit(());
        told
    })
}

/// Empties the answer and marks it running, as the next rendering will.
///
/// On a slow machine that is some tasks away (Yew yields every 16 ms), and whoever looks in between would take
/// the previous answer for the new one.
fn show_running() {
    let Some(answer) = document().and_then(|d| d.query_selector("[data-testid=answer]").ok().flatten()) else { return };
    // The attribute's name is valid, so setting it cannot fail.
    let _ = answer.set_attribute("data-state", AnswerState::Running.name());
    let _ = answer.set_attribute("data-tokens", "0");
    // The text node stays: Yew goes on writing to it.
    if let Some(text) = answer.first_child() {
        text.set_node_value(Some(""));
    }
}

/// A seed for a varied answer: the 53 random bits of a double. Not a secret.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an integer in 0 .. 2^53")]
pub fn seed() -> u64 {
    const TWO_POW_53: f64 = 9_007_199_254_740_992.0;
    (js_sys::Math::random() * TWO_POW_53) as u64
}

fn watch_visibility(act: Callback<Action>) -> Closure<dyn Fn()> {
    let hidden = || document().is_some_and(|d| d.hidden());
    // A tab opened in the background changes nothing until it is looked at.
    if hidden() {
        act.emit(Action::Visibility { hidden: true });
    }
    let on_change = Closure::<dyn Fn()>::new(move || act.emit(Action::Visibility { hidden: hidden() }));
    if let Some(document) = document() {
        // Refused only for an invalid event name.
        let _ = document.add_event_listener_with_callback("visibilitychange", listener(&on_change));
    }
    on_change
}

fn listener(closure: &Closure<dyn Fn()>) -> &js_sys::Function {
    closure.as_ref().unchecked_ref()
}

fn document() -> Option<web_sys::Document> {
    web_sys::window()?.document()
}
