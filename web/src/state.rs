//! Everything the page shows, as a pure reduction of the node's events and the user's actions.

pub mod alerts;
pub mod archive;
pub mod conversation;
pub mod coverage;
#[cfg(test)]
mod fixtures;
mod history;
pub mod parameters;
pub mod privacy;
pub mod screen;
#[cfg(test)]
mod tests;
pub mod turn;

use std::rc::Rc;

use cdi_node::view::{
    AnswerEvent, Ask, Command, ComputeView, Connection, Event, HostLayers, HostingState, HostingView, ModelView,
    PeerView, RouteMode, ServedView, SpeedView,
};
use cdi_types::PeerId;

use alerts::{AlertKind, Alerts};
pub use archive::{Chat, Keep};
pub use parameters::{Parameters, Setting, Style};
pub use screen::Screen;
pub use turn::{AnswerState, Route, Turn};

/// Most earlier turns kept on the page.
const MAX_PAST_TURNS: usize = 100;

/// What the page shows. Bulky parts are shared, so that a component's copy costs a counter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct State {
    /// This node, once it has its identity.
    pub peer: Option<PeerId>,
    /// The link to the relay.
    pub connection: Connection,
    /// What computes in this tab, once measured.
    pub compute: Option<Rc<ComputeView>>,
    /// How fast this tab computes, once it has.
    pub speed: Option<SpeedView>,
    /// The model, once known.
    pub model: Option<Rc<ModelView>>,
    /// Every known node, this one included.
    pub peers: Rc<Vec<PeerView>>,
    /// What this tab hosts.
    pub hosting: Rc<HostingView>,
    /// What it computed for others since the page was opened.
    pub served: ServedView,
    /// Bytes that came over the network in the last load of layers.
    pub fetched_bytes: u64,
    /// Earlier turns, oldest first.
    pub past: Rc<Vec<Rc<Turn>>>,
    /// The current turn; idle before the first question.
    pub current: Rc<Turn>,
    /// Errors and notices that stay until they are dismissed.
    pub alerts: Rc<Alerts>,
    /// Where the user wants answers computed.
    pub route: RouteMode,
    /// How the user wants answers made.
    pub parameters: Rc<Parameters>,
    /// How much the user wants to host.
    pub host_layers: HostLayers,
    /// What the page shows.
    pub screen: Screen,
    /// The conversations kept in this browser, newest first.
    pub chats: Rc<Vec<Rc<Chat>>>,
    /// The kept conversation that is shown; none before its first question.
    pub chat: Option<String>,
    /// The turn that the next question replaces, counted from the first of the conversation.
    pub editing: Option<usize>,
    /// Text for the question box, and how many times one was put there.
    pub draft: (u32, Rc<str>),
    /// An answer of an earlier conversation has not ended yet; its events must not reach the next one.
    draining: bool,
    /// Questions asked on this page.
    asked: u32,
    /// What the browser has yet to store.
    keep: Vec<Keep>,
}

/// What the user did.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Asked something. The seed decides a varied answer.
    Ask {
        /// The question.
        prompt: String,
        /// Drawn by the caller: the reducer has no randomness.
        seed: u64,
    },
    /// Wants the last question asked again.
    Retry {
        /// As in [`Action::Ask`].
        seed: u64,
    },
    /// Began to write a question.
    BeginQuestion,
    /// Stopped the answer.
    Stop,
    /// Began a new conversation.
    NewChat,
    /// Chose where answers are computed.
    ChooseRoute(RouteMode),
    /// Chose how answers are made.
    Set(Setting),
    /// Chose how much to host.
    ChooseHostLayers(HostLayers),
    /// Offered this tab as a host.
    Host,
    /// Paused hosting.
    PauseHosting,
    /// Resumed hosting.
    ResumeHosting,
    /// Gave hosting up.
    StopHosting,
    /// Hid or showed the tab.
    Visibility {
        /// Whether it is hidden now.
        hidden: bool,
    },
    /// Dismissed an alert.
    Dismiss(u32),
    /// Went to a screen.
    Go(Screen),
    /// Wants to ask a question of this conversation in other words; the later turns go with it.
    Edit(usize),
    /// Leaves the question as it was.
    CancelEdit,
    /// Opened a kept conversation.
    OpenChat(String),
    /// Deleted a kept conversation.
    DeleteChat(String),
    /// What the browser had kept was read.
    Restored {
        /// The conversations, newest first.
        chats: Vec<Chat>,
        /// The settings, if there were any.
        parameters: Option<Parameters>,
    },
    /// The browser cannot do something; in the user's words.
    Trouble(String),
}

impl State {
    /// Takes in what the node said.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Identity { peer } => self.peer = Some(peer),
            Event::Connection(connection) => self.connection = connection,
            Event::Compute(compute) => self.compute = Some(Rc::new(compute)),
            Event::Speed(speed) => self.speed = Some(speed),
            Event::Model(model) => self.model = Some(Rc::new(model)),
            Event::Peers(peers) => self.peers = Rc::new(peers),
            Event::Hosting(hosting) => self.apply_hosting(hosting),
            Event::Served(served) => self.served = served,
            Event::Answer(event) => self.apply_answer(event),
            Event::Notice(text) => self.alert(AlertKind::Notice, text),
            Event::Error(text) => self.alert(AlertKind::Error, text),
        }
    }

    /// Takes in what the user did, and returns what the node must be told.
    pub fn act(&mut self, action: Action) -> Option<Command> {
        match action {
            Action::Ask { prompt, seed } => self.ask(prompt.trim(), seed),
            Action::Retry { seed } => self.retry(seed),
            Action::BeginQuestion => Some(Command::PrepareToAsk),
            Action::Stop => self.is_running().then_some(Command::StopAnswer),
            Action::NewChat => self.new_chat(),
            Action::Host => Some(Command::Host(self.host_layers)),
            Action::PauseHosting => Some(Command::PauseHosting),
            Action::ResumeHosting => Some(Command::ResumeHosting),
            Action::StopHosting => Some(Command::StopHosting),
            Action::Visibility { hidden } => Some(Command::Visibility { hidden }),
            Action::OpenChat(id) => self.open_chat(&id),
            Action::DeleteChat(id) => self.delete_chat(&id),
            other => {
                self.set(other);
                None
            }
        }
    }

    /// Takes in what concerns the page alone.
    fn set(&mut self, action: Action) {
        match action {
            Action::ChooseRoute(route) => self.route = route,
            Action::ChooseHostLayers(layers) => self.host_layers = layers,
            Action::Set(setting) => {
                self.parameters = Rc::new(self.parameters.with(setting));
                self.keep.push(Keep::Parameters((*self.parameters).clone()));
            }
            Action::Dismiss(id) => Rc::make_mut(&mut self.alerts).dismiss(id),
            Action::Go(screen) => self.screen = screen,
            Action::Edit(turn) => self.edit(turn),
            Action::CancelEdit => self.editing = None,
            Action::Restored { chats, parameters } => self.restore(chats, parameters),
            Action::Trouble(text) => self.alert(AlertKind::Error, text),
            // Commands of the node, see `act`.
            _ => {}
        }
    }

    /// The node ended: nothing will change any more.
    pub fn node_ended(&mut self) {
        let reason = "the node in this tab stopped";
        self.connection = Connection::Offline { reason: reason.to_owned() };
        if self.is_running() {
            Rc::make_mut(&mut self.current).fail(format!("The answer ended because {reason}."));
        }
        self.alert(AlertKind::Error, "The node in this tab stopped. Reload the page to start it again.".to_owned());
    }

    /// Whether an answer is being computed.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.current.state == AnswerState::Running
    }

    /// Whether a question can be asked now: the node answers one at a time.
    #[must_use]
    pub fn can_ask(&self) -> bool {
        !self.is_running() && !self.draining
    }

    fn apply_hosting(&mut self, hosting: HostingView) {
        let starts = hosting.state == HostingState::Fetching && self.hosting.state != HostingState::Fetching;
        match hosting.progress {
            Some(progress) => self.fetched_bytes = progress.fetched_bytes,
            None if starts => self.fetched_bytes = 0,
            None => {}
        }
        self.hosting = Rc::new(hosting);
    }

    fn apply_answer(&mut self, event: AnswerEvent) {
        if self.draining {
            self.draining = !matches!(event, AnswerEvent::Done(_) | AnswerEvent::Failed { .. });
        } else if self.is_running() {
            Rc::make_mut(&mut self.current).apply(event);
            if !self.is_running() {
                self.keep_chat();
            }
        }
    }

    fn ask(&mut self, prompt: &str, seed: u64) -> Option<Command> {
        if prompt.is_empty() || !self.can_ask() {
            return None;
        }
        if let Some(turn) = self.editing.take() {
            Rc::make_mut(&mut self.past).truncate(turn);
        } else if self.current.state != AnswerState::Idle {
            let past = Rc::make_mut(&mut self.past);
            if past.len() == MAX_PAST_TURNS {
                past.remove(0);
            }
            past.push(Rc::clone(&self.current));
        }
        self.chat.get_or_insert_with(|| format!("{seed:016x}"));
        Some(self.start(prompt, seed))
    }

    fn retry(&mut self, seed: u64) -> Option<Command> {
        let question = self.current.question.clone();
        (self.current.state != AnswerState::Idle && self.can_ask()).then(|| {
            self.editing = None;
            self.start(&question, seed)
        })
    }

    fn start(&mut self, question: &str, seed: u64) -> Command {
        self.screen = Screen::Chat;
        self.asked = self.asked.wrapping_add(1);
        self.current = Rc::new(Turn::asked(self.asked, question.to_owned()));
        let context = self.model.as_ref().map(|m| m.context);
        let max_tokens = conversation::answer_tokens(self.parameters.max_tokens, context);
        Command::Ask(Ask {
            messages: conversation::messages(&self.parameters.system, &self.past, question, max_tokens, context),
            raw: false,
            route: self.route,
            sampling: self.parameters.sampling(seed),
            max_tokens,
        })
    }

    /// Leaves the conversation; the node must be told while it answers.
    fn new_chat(&mut self) -> Option<Command> {
        let stop = self.is_running();
        self.draining |= stop;
        self.past = Rc::default();
        self.current = Rc::default();
        self.chat = None;
        self.editing = None;
        stop.then_some(Command::StopAnswer)
    }

    fn alert(&mut self, kind: AlertKind, text: String) {
        Rc::make_mut(&mut self.alerts).push(kind, text);
    }
}
