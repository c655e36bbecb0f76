//! A question and its answer.

use cdi_node::view::{AnswerEvent, AnswerStats, Link, StageView};

/// One question of the conversation and what came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Turn {
    /// Tells it from every other question asked on this page.
    pub number: u32,
    /// What the user asked; empty before the first question.
    pub question: String,
    /// The answer as far as it has come.
    pub answer: String,
    /// Its tokens.
    pub tokens: u32,
    /// Where it stands.
    pub state: AnswerState,
    /// Who computes it.
    pub route: Option<Route>,
    /// Figures, when it is complete.
    pub stats: Option<AnswerStats>,
    /// Why it ended early and what to do.
    pub error: Option<String>,
    /// How many nodes besides this one computed it, of a turn that was kept without its route.
    pub peers: u32,
}

/// Where an answer stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AnswerState {
    /// Nothing was asked.
    #[default]
    Idle,
    /// Being computed.
    Running,
    /// Complete, or stopped by the user.
    Done,
    /// Ended early.
    Error,
}

impl AnswerState {
    /// The word shown and tested.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Running => "running",
            Self::Done => "done",
            Self::Error => "error",
        }
    }
}

/// The pipeline that computes an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its stages, first to last.
    pub stages: Vec<StageView>,
    /// Why this route, in one sentence.
    pub why: String,
    /// How often it changed since the question.
    pub changes: u32,
}

impl Route {
    /// How many nodes besides this one compute it.
    #[must_use]
    pub fn peers(&self) -> u32 {
        self.stages.iter().filter(|stage| stage.link != Link::Local).map(|_| 1).sum()
    }
}

impl Turn {
    /// A question just asked.
    #[must_use]
    pub fn asked(number: u32, question: String) -> Self {
        Self { number, question, state: AnswerState::Running, ..Self::default() }
    }

    /// Takes in one event of this answer.
    pub fn apply(&mut self, event: AnswerEvent) {
        match event {
            AnswerEvent::Started { .. } => {}
            AnswerEvent::Route { stages, why } => {
                let changes = self.route.as_ref().map_or(0, |r| r.changes + u32::from(r.stages != stages));
                self.route = Some(Route { stages, why, changes });
            }
            AnswerEvent::Text { text, tokens } => {
                self.answer.push_str(&text);
                self.tokens = tokens;
            }
            AnswerEvent::Done(stats) => {
                self.tokens = stats.tokens;
                self.stats = Some(stats);
                self.state = AnswerState::Done;
            }
            AnswerEvent::Failed { message, .. } => self.fail(message),
        }
    }

    /// Ends the answer early.
    pub fn fail(&mut self, message: String) {
        self.error = Some(message);
        self.state = AnswerState::Error;
    }

    /// Whether the turn belongs into the conversation that the model is shown.
    #[must_use]
    pub fn is_answered(&self) -> bool {
        self.state == AnswerState::Done && !self.answer.is_empty()
    }
}
