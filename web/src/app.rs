//! The root of the page: takes the node's events and the user's actions to the state, and renders it.

use cdi_node::view::Event;
use futures::StreamExt as _;
use wasm_bindgen::JsCast as _;
use wasm_bindgen::closure::Closure;
use yew::prelude::*;

use crate::components::{Alerts, Chat, Composer, Header, HostCard, SwarmCard};
use crate::link::NodeLink;
use crate::state::{Action, State};

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
    /// The user did something.
    Act(Action),
}

/// The page.
pub struct App {
    state: State,
    act: Callback<Action>,
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
        let act = ctx.link().callback(Message::Act);
        let on_visibility = watch_visibility(act.clone());
        Self { state: State::default(), act, on_visibility }
    }

    fn update(&mut self, ctx: &Context<Self>, message: Message) -> bool {
        match message {
            Message::Events(events) => events.into_iter().for_each(|event| self.state.apply(event)),
            Message::Ended => self.state.node_ended(),
            Message::Act(action) => {
                if let Some(command) = self.state.act(action) {
                    ctx.props().node.send(command);
                }
            }
        }
        true
    }

    fn view(&self, _: &Context<Self>) -> Html {
        let State { connection, compute, model, peers, hosting, past, current, alerts, .. } = &self.state;
        let act = &self.act;
        html! {
            <>
                <a class="skip" href="#prompt">{ "Skip to the question box" }</a>
                <Header connection={connection.clone()} compute={compute.clone()} />
                <div class="layout">
                    <main class="chat" aria-label="Chat">
                        <Chat {past} {current} {model} can_ask={self.state.can_ask()} {act} />
                        <div class="dock">
                            <Alerts {alerts} {act} />
                            <Composer
                                running={self.state.is_running()}
                                can_ask={self.state.can_ask()}
                                route={self.state.route}
                                style={self.state.style}
                                {act}
                            />
                        </div>
                    </main>
                    <aside class="side" id="swarm" aria-label="Hosting and swarm">
                        <HostCard
                            {hosting}
                            {model}
                            {compute}
                            fetched_bytes={self.state.fetched_bytes}
                            chosen={self.state.host_layers}
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

fn watch_visibility(act: Callback<Action>) -> Closure<dyn Fn()> {
    let on_change = Closure::<dyn Fn()>::new(move || {
        act.emit(Action::Visibility { hidden: document().is_some_and(|d| d.hidden()) });
    });
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
