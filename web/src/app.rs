//! The root of the page: takes the node's events and the user's actions to the state, and renders it.

use std::cell::RefCell;
use std::rc::Rc;

use cdi_node::view::{Command, Event, HostingState};
use futures::StreamExt as _;
use wasm_bindgen::JsCast as _;
use wasm_bindgen::closure::Closure;
use wasm_bindgen_futures::spawn_local;
use yew::prelude::*;

use crate::components::{Alerts, Chat, Composer, Header, History, Host, Identity, Models, Nav, Swarm};
use crate::link::NodeLink;
use crate::messages as m;
use crate::profile::Profile;
use crate::state::{Action, AnswerState, Screen, State};

/// Most events taken in before the page renders again.
const EVENT_BATCH: usize = 256;

/// Renders the page for `node` in place of the loader: the element `app` of `index.html`.
pub fn mount(node: NodeLink, profile: Profile) {
    let props = AppProps { node, profile };
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
    /// What this browser keeps for its user.
    pub profile: Profile,
}

/// What reaches the root.
pub enum Message {
    /// The node said something: all that was ready, so that a burst of tokens renders once.
    Events(Vec<Event>),
    /// The node ended.
    Ended,
    /// The user did something, and the state has it already.
    Acted,
    /// The user opened or closed the list of conversations.
    History(bool),
}

/// The page.
pub struct App {
    state: Rc<RefCell<State>>,
    act: Callback<Action>,
    ask: Callback<String, bool>,
    history_open: bool,
    open_history: Callback<()>,
    close_history: Callback<()>,
    /// Tells the node when the tab is hidden; dropped with the page.
    on_visibility: Closure<dyn Fn()>,
    /// Follows the address; dropped with the page.
    on_hash: Closure<dyn Fn()>,
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
        let on_hash = watch_hash(act.clone());
        spawn_local(restore(ctx.props().profile.clone(), act.clone()));
        let open_history = ctx.link().callback(|()| Message::History(true));
        let close_history = ctx.link().callback(|()| Message::History(false));
        Self { state, act, ask, history_open: false, open_history, close_history, on_visibility, on_hash }
    }

    fn update(&mut self, ctx: &Context<Self>, message: Message) -> bool {
        let mut state = self.state.borrow_mut();
        match message {
            Message::Events(events) => events.into_iter().for_each(|event| state.apply(event)),
            Message::Ended => state.node_ended(),
            Message::Acted => {}
            Message::History(open) => self.history_open = open,
        }
        for what in state.take_keep() {
            let (profile, act) = (ctx.props().profile.clone(), self.act.clone());
            spawn_local(async move {
                if let Err(error) = profile.keep(what).await {
                    act.emit(Action::Trouble(format!("{}: {error}.", m::NOT_KEPT)));
                }
            });
        }
        true
    }

    fn view(&self, ctx: &Context<Self>) -> Html {
        let state = self.state.borrow();
        let hosting = state.hosting.state == HostingState::Hosting;
        html! {
            <>
                <a class="skip" href="#prompt">{ m::SKIP }</a>
                <Header connection={state.connection.clone()} compute={state.compute.clone()} />
                <Nav screen={state.screen} {hosting} />
                <History
                    chats={&state.chats}
                    shown={state.chat.clone()}
                    open={self.history_open}
                    close={&self.close_history}
                    act={&self.act}
                />
                <main class="main">
                    <Alerts alerts={&state.alerts} act={&self.act} />
                    { for Screen::ALL.into_iter().map(|screen| self.screen(ctx, &state, screen)) }
                </main>
            </>
        }
    }

    fn destroy(&mut self, _: &Context<Self>) {
        if let Some(document) = document() {
            let _ = document.remove_event_listener_with_callback("visibilitychange", listener(&self.on_visibility));
        }
        if let Some(window) = web_sys::window() {
            let _ = window.remove_event_listener_with_callback("hashchange", listener(&self.on_hash));
        }
    }
}

impl App {
    /// One screen. All stay in the document: what a screen holds outlives leaving it.
    fn screen(&self, ctx: &Context<Self>, state: &State, screen: Screen) -> Html {
        let shown = screen == state.screen;
        let content = match screen {
            Screen::Chat => self.chat(state),
            Screen::Host => html! {
                <Host
                    hosting={&state.hosting}
                    served={state.served}
                    model={state.model.clone()}
                    compute={state.compute.clone()}
                    speed={state.speed}
                    peers={&state.peers}
                    fetched_bytes={state.fetched_bytes}
                    chosen={state.host_layers}
                    act={&self.act}
                />
            },
            Screen::Swarm => {
                let route = state.current.route.clone().filter(|_| state.is_running());
                html! { <Swarm peers={&state.peers} model={state.model.clone()} {route} {shown} /> }
            }
            Screen::Models => html! { <Models model={state.model.clone()} peers={&state.peers} act={&self.act} /> },
            Screen::Identity => html! { <Identity profile={ctx.props().profile.clone()} peer={state.peer} {shown} /> },
        };
        html! {
            <div class={classes!("screen", format!("screen-{}", screen.name()))} data-screen={screen.name()} hidden={!shown}>
                { content }
            </div>
        }
    }

    fn chat(&self, state: &State) -> Html {
        let State { past, current, model, peers, .. } = state;
        html! {
            <>
                <Chat
                    {past}
                    {current}
                    {model}
                    {peers}
                    can_ask={state.can_ask()}
                    kept={state.kept_chat()}
                    open_history={&self.open_history}
                    act={&self.act}
                />
                <div class="dock">
                    <Composer
                        running={state.is_running()}
                        can_ask={state.can_ask()}
                        editing={state.editing.is_some()}
                        draft={state.draft.clone()}
                        route={state.route}
                        parameters={&state.parameters}
                        ask={&self.ask}
                        act={&self.act}
                    />
                </div>
            </>
        }
    }
}

/// What every component calls: takes the action to the state at once, tells the node, and renders when it can.
///
/// Returns whether the node was told anything: an action that makes no sense any more is dropped.
fn reduce(state: Rc<RefCell<State>>, node: NodeLink, render: Callback<()>) -> Callback<Action, bool> {
    Callback::from(move |action| {
        let (command, screen) = {
            let mut state = state.borrow_mut();
            let before = state.screen;
            let command = state.act(action);
            (command, Some(state.screen).filter(|after| *after != before))
        };
        if let Some(screen) = screen {
            show_in_address(screen);
        }
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
    // The elements stay until Yew takes them away.
    empty(&answer);
}

/// Empties every text below `node`.
fn empty(node: &web_sys::Node) {
    if node.node_type() == web_sys::Node::TEXT_NODE {
        node.set_node_value(Some(""));
    }
    let mut child = node.first_child();
    while let Some(node) = child {
        empty(&node);
        child = node.next_sibling();
    }
}

/// Milliseconds on the page's own clock.
#[must_use]
pub fn now_ms() -> f64 {
    web_sys::window().and_then(|window| window.performance()).map_or(0.0, |clock| clock.now())
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

/// Follows links, the back button and what the user types into the address.
fn watch_hash(act: Callback<Action>) -> Closure<dyn Fn()> {
    let follow = move || {
        let hash = web_sys::window().and_then(|window| window.location().hash().ok()).unwrap_or_default();
        if let Some(screen) = Screen::of_hash(&hash) {
            act.emit(Action::Go(screen));
        }
    };
    follow();
    let on_change = Closure::<dyn Fn()>::new(follow);
    if let Some(window) = web_sys::window() {
        // Refused only for an invalid event name.
        let _ = window.add_event_listener_with_callback("hashchange", listener(&on_change));
    }
    on_change
}

/// Puts a screen that was not reached by the address into the address.
fn show_in_address(screen: Screen) {
    let Some(location) = web_sys::window().map(|window| window.location()) else { return };
    if Screen::of_hash(&location.hash().unwrap_or_default()) != Some(screen) {
        // Refused only where the page may not navigate at all.
        let _ = location.set_hash(screen.name());
    }
}

/// Brings back what was kept at earlier visits.
async fn restore(profile: Profile, act: Callback<Action>) {
    match profile.restore().await {
        Ok(restored) => act.emit(restored),
        Err(error) => tracing::warn!(%error, "nothing is restored"),
    }
}

fn listener(closure: &Closure<dyn Fn()>) -> &js_sys::Function {
    closure.as_ref().unchecked_ref()
}

fn document() -> Option<web_sys::Document> {
    web_sys::window()?.document()
}
