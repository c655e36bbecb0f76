//! A session at the node that asks: opens the stages, feeds tokens round the ring, notices losses and
//! brings in replacements.
//!
//! The client is the only authority on the text: it knows the accepted token ids, and every stage is
//! rebuilt from them or from its predecessor's rows. A loss therefore never changes the answer.

use std::collections::BTreeMap;

use cdi_types::sampling::Sampling;
use cdi_types::session::{ActivationType, Control, Open, SessionId};
use cdi_types::{Cid, LayerRange, PeerId};

use crate::route::{Leg, Route};

mod drafting;
mod rounds;

pub use drafting::MAX_DRAFTS;
use drafting::{Drafting, Verdict};
use rounds::Rounds;

/// Silence during an answer after which every stage is asked how far it is, in milliseconds, until rounds are known by
/// which lateness can be told (`rounds.rs`).
pub const QUERY_AFTER_MS: u64 = 1_500;
/// A stage that does not answer within this time is lost, although its link is alive. A dead link is reported by the
/// network within a second ([`Client::lost`]); a stage that merely is slow shall not be given up.
pub const ANSWER_WITHIN_MS: u64 = 10_000;
/// The same once rounds are known: an answer may wait behind a pass of the kernels for somebody else's prompt.
pub const ANSWER_AT_LEAST_MS: u64 = 3_000;
/// A stage that makes no progress for this time is replaced although it answers (NET-10).
pub const STAGE_DEADLINE_MS: u64 = 30_000;
/// A stage that says nothing for this time while it opens is lost.
pub const OPEN_DEADLINE_MS: u64 = 15_000;
/// Most token ids of one message.
const FEED_IDS: usize = 4_096;
/// Losses after which the answer is given up.
pub const MAX_LOSSES: u32 = 32;
/// Failures of the asking node's own stage after which it is not used again: a lost GPU is retried on the CPU.
const MAX_OWN_FAILURES: u32 = 2;

/// What to answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Random, chosen by the caller.
    pub session: SessionId,
    /// CID of the model's manifest.
    pub model: Cid,
    /// All layers of the model.
    pub layers: LayerRange,
    /// Most positions of a sequence.
    pub context: u32,
    /// The prompt's token ids, not empty and shorter than the context.
    pub prompt: Vec<u32>,
    /// Most tokens of the answer.
    pub max_tokens: u32,
    /// Ids that end the answer.
    pub end_of_text: Vec<u32>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// The asking node.
    pub me: PeerId,
    /// Whether guesses at the next tokens are computed along with the known ones; the text stays the same.
    pub speculate: bool,
}

/// How a session ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// The model ended the answer.
    EndOfText,
    /// The token limit or the context is reached.
    Length,
}

/// What the owner has to do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Plan a way through these layers without the [excluded](Client::excluded) nodes and return it by
    /// [`Client::routed`].
    Route(LayerRange),
    /// Open a control stream; report its loss by [`Client::lost`].
    Connect {
        /// Names the stream from now on.
        conn: u64,
        /// Whom to.
        peer: PeerId,
    },
    /// Send on a control stream.
    Send {
        /// The stream.
        conn: u64,
        /// What.
        message: Control,
    },
    /// Close a control stream.
    Disconnect {
        /// The stream.
        conn: u64,
    },
    /// [`Client::legs`] changed.
    RouteChanged,
    /// The next token of the answer.
    Token(u32),
    /// The answer is complete; all stages were told.
    Finished(Ended),
    /// The answer cannot go on; all stages were told.
    Failed(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stage {
    leg: Leg,
    conn: u64,
    lost: bool,
    /// Attempt of the last request that was sent.
    asked: u32,
    /// Attempt of the last request that was granted, and the first position missing then.
    granted: Option<(u32, u32)>,
    /// Whether it takes drafts.
    drafts: bool,
    heard_ms: u64,
    /// Its answer to the current query: the first position missing.
    progress: Option<u32>,
    /// The furthest such answer.
    reached: u32,
}

/// A session of the asking node.
#[derive(Debug)]
pub struct Client {
    spec: Spec,
    /// Prompt and answer so far.
    ids: Vec<u32>,
    attempt: u32,
    stages: Vec<Stage>,
    routing: Option<LayerRange>,
    running: bool,
    over: bool,
    next_conn: u64,
    progress_ms: u64,
    queried_ms: Option<u64>,
    failures: BTreeMap<PeerId, u32>,
    losses: u32,
    failovers: u32,
    drafting: Drafting,
    rounds: Rounds,
}

impl Client {
    /// Starts a session.
    #[must_use]
    pub fn start(spec: Spec, now_ms: u64) -> (Self, Vec<Action>) {
        let layers = spec.layers;
        let client = Self {
            ids: spec.prompt.clone(),
            spec,
            attempt: 0,
            stages: Vec::new(),
            routing: Some(layers),
            running: false,
            over: false,
            next_conn: 0,
            progress_ms: now_ms,
            queried_ms: None,
            failures: BTreeMap::new(),
            losses: 0,
            failovers: 0,
            drafting: Drafting::new(),
            rounds: Rounds::default(),
        };
        (client, vec![Action::Route(layers)])
    }

    /// The current route, first layers first.
    pub fn legs(&self) -> impl Iterator<Item = Leg> {
        self.stages.iter().map(|s| s.leg)
    }

    /// Route changes so far.
    #[must_use]
    pub const fn failovers(&self) -> u32 {
        self.failovers
    }

    /// Drafts that were fed and judged, and how many of them were right.
    #[must_use]
    pub const fn drafts(&self) -> (u64, u64) {
        self.drafting.counts()
    }

    /// Tokens of the answer so far.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.ids.len() - self.spec.prompt.len()
    }

    /// Whether `peer` failed this session and must not be routed to again.
    #[must_use]
    pub fn excluded(&self, peer: &PeerId) -> bool {
        let allowed = if *peer == self.spec.me { MAX_OWN_FAILURES } else { 0 };
        self.failures.get(peer).is_some_and(|count| *count > allowed)
    }

    /// The way through the layers of the last [`Action::Route`], or `None` when there is none.
    pub fn routed(&mut self, route: Option<Route>, now_ms: u64) -> Vec<Action> {
        let Some(gap) = self.routing.take().filter(|_| !self.over) else { return Vec::new() };
        let Some(route) = route else {
            return self.fail(format!("No node can compute layers {gap}. Host them in this tab or try again later."));
        };
        let at = self.stages.iter().position(|s| gap.contains(s.leg.layers.first())).unwrap_or(0);
        self.stages.retain(|s| !gap.contains(s.leg.layers.first()));
        let first_conn = self.next_conn;
        let mut actions = vec![];
        for (i, leg) in route.legs.into_iter().enumerate() {
            let conn = self.next_conn;
            self.next_conn += 1;
            actions.push(Action::Connect { conn, peer: leg.peer });
            let stage = Stage {
                leg,
                conn,
                lost: false,
                asked: self.attempt,
                granted: None,
                drafts: false,
                heard_ms: now_ms,
                progress: None,
                reached: 0,
            };
            self.stages.insert(at + i, stage);
        }
        actions.push(Action::RouteChanged);
        for i in 0..self.stages.len() {
            let stage = &mut self.stages[i];
            let new = stage.conn >= first_conn;
            if !stage.lost && stage.granted.is_none() && (new || stage.asked < self.attempt) {
                stage.asked = self.attempt;
                actions.push(self.open(i));
            }
        }
        actions.extend(self.advance(now_ms));
        actions
    }

    /// A message came on a control stream.
    pub fn message(&mut self, conn: u64, message: Control, now_ms: u64) -> Vec<Action> {
        let Some(i) = self.stages.iter().position(|s| s.conn == conn && !s.lost) else { return Vec::new() };
        if self.over {
            return Vec::new();
        }
        self.stages[i].heard_ms = now_ms;
        match message {
            Control::Granted { attempt, have, drafts, .. } => {
                if attempt == self.stages[i].asked {
                    self.stages[i].granted = Some((attempt, have));
                    self.stages[i].drafts = drafts;
                }
                self.advance(now_ms)
            }
            Control::Preparing { .. } => Vec::new(),
            Control::Held { have } => {
                if self.stages[i].progress.replace(have).is_none() && have > self.stages[i].reached {
                    self.stages[i].reached = have;
                    self.progress_ms = now_ms;
                }
                Vec::new()
            }
            Control::Token { position, id, branch, .. } => self.token(i, branch, position, id, now_ms),
            // Of an older attempt: that successor is being replaced, or will be tried again.
            Control::NextLost { attempt } if attempt == self.attempt => match self.stages.get(i + 1) {
                Some(next) => self.lost(next.conn, now_ms),
                None => self.fail("The last stage has no successor to lose.".to_owned()),
            },
            Control::NextLost { .. } => Vec::new(),
            Control::Failed { message, retriable: false } => {
                self.fail(format!("A stage refused its input: {message}. Ask again."))
            }
            Control::Failed { .. } | Control::Refused { .. } => self.lost(conn, now_ms),
            // What only a client may say.
            Control::Open(_) | Control::Tokens { .. } | Control::Query | Control::Close => self.lost(conn, now_ms),
        }
    }

    /// A control stream broke or could not be opened.
    pub fn lost(&mut self, conn: u64, now_ms: u64) -> Vec<Action> {
        let Some(stage) = self.stages.iter_mut().find(|s| s.conn == conn && !s.lost) else { return Vec::new() };
        if self.over {
            return Vec::new();
        }
        stage.lost = true;
        *self.failures.entry(stage.leg.peer).or_default() += 1;
        self.losses += 1;
        let mut actions = vec![Action::Disconnect { conn }];
        if self.losses > MAX_LOSSES {
            actions.extend(self.fail("Too many nodes were lost during the answer. Ask again.".to_owned()));
            return actions;
        }
        actions.extend(self.advance(now_ms));
        actions
    }

    /// Time passed: looks for stages that are late.
    pub fn tick(&mut self, now_ms: u64) -> Vec<Action> {
        if self.over {
            return Vec::new();
        }
        let since = |ms: u64| now_ms.saturating_sub(ms);
        let waiting = |s: &Stage| s.granted.is_none_or(|(attempt, _)| attempt < s.asked);
        let late: Vec<u64> =
            self.stages.iter().filter(|s| waiting(s) && since(s.heard_ms) > OPEN_DEADLINE_MS).map(|s| s.conn).collect();
        let mut actions: Vec<Action> = late.into_iter().flat_map(|conn| self.lost(conn, now_ms)).collect();
        let late_after_ms = self.rounds.late_after_ms();
        if !self.running || since(self.progress_ms) <= late_after_ms.unwrap_or(QUERY_AFTER_MS) {
            return actions;
        }
        let answer_within_ms = late_after_ms.map_or(ANSWER_WITHIN_MS, |ms| ms.max(ANSWER_AT_LEAST_MS));
        match self.queried_ms {
            None => {
                self.queried_ms = Some(now_ms);
                for stage in &mut self.stages {
                    stage.progress = None;
                    actions.push(Action::Send { conn: stage.conn, message: Control::Query });
                }
            }
            Some(queried) if since(queried) > answer_within_ms => {
                self.queried_ms = None;
                let silent: Vec<u64> = self.stages.iter().filter(|s| s.progress.is_none()).map(|s| s.conn).collect();
                let stuck = silent.is_empty() && since(self.progress_ms) > STAGE_DEADLINE_MS;
                let behind = |s: &&Stage| s.progress.is_some_and(|have| (have as usize) < self.ids.len());
                let laggard = self.stages.iter().find(behind).or(self.stages.last()).filter(|_| stuck);
                let gone: Vec<u64> = silent.into_iter().chain(laggard.map(|s| s.conn)).collect();
                actions.extend(gone.into_iter().flat_map(|conn| self.lost(conn, now_ms)));
            }
            Some(_) => {}
        }
        actions
    }

    /// The user stops the answer: every stage is told.
    pub fn stop(&mut self) -> Vec<Action> {
        if self.over {
            return Vec::new();
        }
        self.over = true;
        let tell =
            |s: &Stage| [Action::Send { conn: s.conn, message: Control::Close }, Action::Disconnect { conn: s.conn }];
        self.stages.iter().filter(|s| !s.lost).flat_map(tell).collect()
    }

    fn token(&mut self, from: usize, branch: u32, position: u32, id: u32, now_ms: u64) -> Vec<Action> {
        let expected = position as usize == self.ids.len() && branch == self.drafting.branch();
        if from + 1 != self.stages.len() || !expected {
            return Vec::new();
        }
        self.progress_ms = now_ms;
        self.queried_ms = None;
        self.ids.push(id);
        if let Some((rows, took_ms)) = self.rounds.arrived(position, now_ms) {
            self.drafting.measured(rows, took_ms);
        }
        let verdict = self.drafting.known(position, id);
        if self.spec.end_of_text.contains(&id) {
            return self.finish(Ended::EndOfText, vec![]);
        }
        let mut actions = vec![Action::Token(id)];
        if self.tokens() >= self.spec.max_tokens as usize || self.ids.len() >= self.spec.context as usize {
            return self.finish(Ended::Length, actions);
        }
        if self.running {
            let first = if verdict == Verdict::Foreseen { self.fed_end() } else { position };
            actions.extend(self.feed(first, now_ms));
        }
        actions
    }

    /// The position after everything that was fed.
    fn fed_end(&self) -> u32 {
        u32::try_from(self.ids.len() + self.drafting.on_their_way()).unwrap_or(u32::MAX)
    }

    /// Takes the next step that the stages allow: route around losses, then open what is new, then tell the
    /// others, then feed.
    fn advance(&mut self, now_ms: u64) -> Vec<Action> {
        if self.routing.is_some() || self.over {
            return Vec::new();
        }
        if let Some(gap) = self.first_gap() {
            self.running = false;
            self.drafting.interrupt(u32::try_from(self.ids.len()).unwrap_or(u32::MAX));
            self.rounds.interrupt();
            self.attempt += 1;
            self.failovers += 1;
            self.routing = Some(gap);
            return vec![Action::Route(gap)];
        }
        // A stage must not be told of a successor that does not know the session yet.
        if self.stages.iter().any(|s| s.granted.is_none()) {
            return Vec::new();
        }
        let mut actions = Vec::new();
        for i in 0..self.stages.len() {
            if self.stages[i].asked < self.attempt {
                self.stages[i].asked = self.attempt;
                self.stages[i].heard_ms = now_ms;
                actions.push(self.open(i));
            }
        }
        let current = |s: &Stage| s.granted.is_some_and(|(attempt, _)| attempt == self.attempt);
        if self.stages.iter().all(current) && !self.running {
            self.running = true;
            self.progress_ms = now_ms;
            self.queried_ms = None;
            self.drafting.told();
            let have = self.stages.first().and_then(|s| s.granted).map_or(0, |(_, have)| have);
            if (have as usize) < self.ids.len() {
                actions.extend(self.feed(have, now_ms));
            }
        }
        actions
    }

    /// The layers of the first run of lost stages.
    fn first_gap(&self) -> Option<LayerRange> {
        let mut lost = self.stages.iter().skip_while(|s| !s.lost).take_while(|s| s.lost).map(|s| s.leg.layers);
        let first = lost.next()?;
        LayerRange::new(first.first(), lost.last().unwrap_or(first).last()).ok()
    }

    fn open(&self, i: usize) -> Action {
        let stage = &self.stages[i];
        let positions = u32::try_from(self.spec.prompt.len()).unwrap_or(u32::MAX);
        let open = Open {
            session: self.spec.session,
            attempt: stage.asked,
            model: self.spec.model,
            layers: stage.leg.layers,
            next: self.stages.get(i + 1).map(|s| s.leg.peer.to_bytes()),
            max_positions: positions.saturating_add(self.spec.max_tokens).min(self.spec.context),
            prompt_len: positions,
            client_have: u32::try_from(self.ids.len()).unwrap_or(u32::MAX),
            sampling: self.spec.sampling,
            activations: ActivationType::F32,
            fork: self.drafting.fork(),
        };
        Action::Send { conn: stage.conn, message: Control::Open(Box::new(open)) }
    }

    /// Sends the first stage every known id from `position` on, in messages that stay small, and drafts after them.
    fn feed(&mut self, position: u32, now_ms: u64) -> Vec<Action> {
        let conn = self.stages.first().map_or(0, |s| s.conn);
        let known = self.ids.get(position as usize..).unwrap_or_default();
        let mut pieces: Vec<Vec<u32>> = known.chunks(FEED_IDS).map(<[u32]>::to_vec).collect();
        let drafts = if self.may_draft() { self.drafting.more(&self.ids, self.draft_room()) } else { Vec::new() };
        let mut drafts = drafts.into_iter();
        // A lone new token and the first drafts after it are one pass.
        if let Some(last) = pieces.last_mut().filter(|last| last.len() == 1) {
            last.extend(drafts.next().unwrap_or_default());
        }
        pieces.extend(drafts);
        let (attempt, fork, mut position) = (self.attempt, self.drafting.fork(), position);
        let mut actions = Vec::new();
        for ids in pieces {
            let rows = ids.len();
            self.rounds.sent(position, rows, now_ms);
            actions.push(Action::Send { conn, message: Control::Tokens { attempt, position, ids, fork } });
            position = position.saturating_add(u32::try_from(rows).unwrap_or(u32::MAX));
        }
        actions
    }

    fn may_draft(&self) -> bool {
        self.spec.speculate && self.tokens() > 0 && self.stages.iter().all(|s| s.drafts)
    }

    /// Ids after the known ones that could still be of use: the last token of the answer is fed to nobody.
    fn draft_room(&self) -> usize {
        let most = self.spec.prompt.len().saturating_add(self.spec.max_tokens as usize).min(self.spec.context as usize);
        most.saturating_sub(1 + self.ids.len() + self.drafting.on_their_way())
    }

    fn finish(&mut self, ended: Ended, mut actions: Vec<Action>) -> Vec<Action> {
        actions.extend(self.stop());
        actions.push(Action::Finished(ended));
        actions
    }

    fn fail(&mut self, message: String) -> Vec<Action> {
        let mut actions = self.stop();
        actions.push(Action::Failed(message));
        actions
    }
}
