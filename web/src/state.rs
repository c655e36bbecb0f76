//! Everything the page shows, as a pure reduction of the node's events and the user's actions.

pub mod alerts;
pub mod conversation;
pub mod coverage;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod tests;
pub mod turn;

use std::rc::Rc;

use cdi_node::view::{
    AnswerEvent, Ask, Command, ComputeView, Connection, Event, HostLayers, HostingState, HostingView, ModelView,
    PeerView, RouteMode, SpeedView,
};
use cdi_types::PeerId;
use cdi_types::sampling::Sampling;

use alerts::{AlertKind, Alerts};
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
    /// How the user wants tokens chosen.
    pub style: Style,
    /// How much the user wants to host.
    pub host_layers: HostLayers,
    /// An answer of an earlier conversation has not ended yet; its events must not reach the next one.
    draining: bool,
}

/// How tokens are chosen, in the user's words.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Style {
    /// The most likely token: the same question gets the same answer.
    #[default]
    Exact,
    /// Drawn at random among the likely ones.
    Varied,
}

impl Style {
    fn sampling(self, seed: u64) -> Sampling {
        match self {
            Self::Exact => Sampling::GREEDY,
            Self::Varied => Sampling { temperature: 0.8, top_k: 40, top_p: 0.95, seed },
        }
    }
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
    /// Wants a failed question asked again.
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
    /// Chose how tokens are drawn.
    ChooseStyle(Style),
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
            Action::ChooseRoute(route) => {
                self.route = route;
                None
            }
            Action::ChooseStyle(style) => {
                self.style = style;
                None
            }
            Action::ChooseHostLayers(layers) => {
                self.host_layers = layers;
                None
            }
            Action::Host => Some(Command::Host(self.host_layers)),
            Action::PauseHosting => Some(Command::PauseHosting),
            Action::ResumeHosting => Some(Command::ResumeHosting),
            Action::StopHosting => Some(Command::StopHosting),
            Action::Visibility { hidden } => Some(Command::Visibility { hidden }),
            Action::Dismiss(id) => {
                Rc::make_mut(&mut self.alerts).dismiss(id);
                None
            }
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
        }
    }

    fn ask(&mut self, prompt: &str, seed: u64) -> Option<Command> {
        if prompt.is_empty() || !self.can_ask() {
            return None;
        }
        if self.current.state != AnswerState::Idle {
            let past = Rc::make_mut(&mut self.past);
            if past.len() == MAX_PAST_TURNS {
                past.remove(0);
            }
            past.push(Rc::clone(&self.current));
        }
        Some(self.start(prompt, seed))
    }

    fn retry(&mut self, seed: u64) -> Option<Command> {
        let question = self.current.question.clone();
        (self.current.state == AnswerState::Error && self.can_ask()).then(|| self.start(&question, seed))
    }

    fn start(&mut self, question: &str, seed: u64) -> Command {
        self.current = Rc::new(Turn::asked(question.to_owned()));
        let context = self.model.as_ref().map(|m| m.context);
        Command::Ask(Ask {
            messages: conversation::messages(&self.past, question, context),
            route: self.route,
            sampling: self.style.sampling(seed),
            max_tokens: conversation::answer_tokens(context),
        })
    }

    fn new_chat(&mut self) -> Option<Command> {
        let stop = self.is_running();
        self.draining |= stop;
        self.past = Rc::default();
        self.current = Rc::default();
        stop.then_some(Command::StopAnswer)
    }

    fn alert(&mut self, kind: AlertKind, text: String) {
        Rc::make_mut(&mut self.alerts).push(kind, text);
    }
}
