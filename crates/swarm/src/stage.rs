//! One stage of a session, at the node that computes it.
//!
//! The machine decides what to compute, what to send on, and what to tell the client; its owner moves the
//! bytes and runs the kernels. It keeps every row that it sent, so that a replacement of its successor can
//! be brought up to date: the replay is the failover (DESIGN §4, *Session*).
//!
//! Drafts are rows like others: the last stage samples after each of them. When one was wrong the client goes on in a new
//! branch from there, and every stage takes back what it had from that position on ([`Fork`]): the request that opens a
//! route says so, and so does the first frame of the branch, whichever comes first.

mod chain;
mod pieces;

use std::collections::BTreeMap;

use cdi_types::session::{Control, Fork, Frame, Hello, Open, Refusal, Welcome};

use chain::Chain;
use pieces::Pieces;

/// Most rows that are computed, and sent, at once: a long prompt flows through the stages in pieces.
pub const CHUNK_ROWS: u32 = 64;

/// Rows that may be on their way to a successor: sent, but not computed there yet. A slow successor thus holds two
/// pieces of a long prompt at most, whatever its predecessor has ready.
pub const WINDOW_ROWS: u32 = 2 * CHUNK_ROWS;
/// Rows that a successor computes before it gives new credit: a token costs no message back.
const CREDIT_ROWS: u32 = WINDOW_ROWS / 4;
/// Largest frame of several rows, so that the rows of another session wait for little.
const BULK_FRAME_BYTES: usize = 64 * 1024;

/// What a stage computes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// Position of the first row.
    pub start: u32,
    /// The rows.
    pub input: WorkInput,
    /// At the last stage: first position whose row is sampled. Other stages return rows.
    pub sample_from: Option<u32>,
}

/// Rows to compute on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WorkInput {
    /// Token ids, at the first stage.
    Tokens(Vec<u32>),
    /// Rows of the previous stage, as they came.
    Rows(Vec<u8>),
}

/// What the kernels returned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// A row of activations for each row of input.
    Rows(Vec<u8>),
    /// The token chosen after each sampled row: `(position, id)`.
    Tokens(Vec<(u32, u32)>),
}

/// What the owner has to do, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Tell the client.
    Reply(Control),
    /// Run the kernels and return the result by [`Stage::computed`].
    Compute(Work),
    /// Open an activation stream to `peer` (libp2p bytes) in place of any earlier one, and return its
    /// answer by [`Stage::next_welcome`] or its loss by [`Stage::next_lost`].
    ConnectNext {
        /// Whom to.
        peer: Vec<u8>,
        /// First message.
        hello: Hello,
    },
    /// Send on the activation stream.
    SendNext(Frame),
    /// Tell the predecessor, on its activation stream, that rows before this position are computed.
    Credit(u32),
    /// The session is over here; free everything.
    End,
}

/// Where this stage's rows go.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Next {
    /// Nowhere: this is the last stage, tokens go to the client.
    Client,
    /// Not connected; connected when there is something to send.
    Idle,
    /// Waiting for the successor's welcome to a stream of this attempt; the lowest fork since then.
    Connecting { attempt: u32, fork: u32 },
    /// Connected; rows before `sent` are there (before a fork those before `most_sent` were), those before `computed` no
    /// longer count against the window. The stream keeps its attempt through route changes elsewhere.
    Ready { attempt: u32, sent: u32, most_sent: u32, computed: u32, chain: Chain },
    /// Lost; the client was told and decides.
    Lost,
}

/// The predecessor's stream.
#[derive(Debug)]
struct Inbound {
    attempt: u32,
    chain: Chain,
    /// The predecessor knows that rows before this position are computed.
    credited: u32,
}

/// The piece that the kernels have.
#[derive(Debug)]
struct Computing {
    start: u32,
    rows: u32,
    /// Rows that no fork has voided since.
    valid: u32,
}

/// A stage of a session.
#[derive(Debug)]
pub struct Stage {
    open: Open,
    hidden_bytes: usize,
    /// Positions whose keys and values are computed.
    held: u32,
    /// Positions that were taken in: held, being computed or queued.
    accepted: u32,
    queue: Pieces,
    computing: Option<Computing>,
    branch: u32,
    /// The lowest fork that a successor may not know of.
    floor: u32,
    /// Forks that came by another way than the predecessor's stream, on which rows of earlier branches may still come.
    forks: Vec<Fork>,
    inbound: Option<Inbound>,
    /// Every row sent so far, from position 0.
    log: Vec<u8>,
    next: Next,
    /// Tokens sampled so far, by position.
    sampled: BTreeMap<u32, u32>,
}

impl Stage {
    /// A stage for `open`, of a model whose rows are `hidden_bytes` long. `max_positions` is what this node
    /// grants at most.
    ///
    /// # Errors
    /// The refusal to send when the request is out of bounds.
    pub fn new(open: Open, hidden_bytes: usize, max_positions: u32) -> Result<Self, Refusal> {
        let bad = |what: &str| Err(Refusal::Invalid(what.to_owned()));
        if open.prompt_len == 0 || open.max_positions == 0 || open.prompt_len > open.max_positions {
            return bad("prompt and reservation must hold at least one position");
        }
        if open.max_positions > max_positions {
            return bad("more positions than the model's context");
        }
        if !open.sampling.is_valid() {
            return bad("sampling parameters out of range");
        }
        let next = if open.next.is_some() { Next::Idle } else { Next::Client };
        let (branch, floor) = (open.fork.branch, floor(open.fork));
        Ok(Self {
            open,
            hidden_bytes,
            held: 0,
            accepted: 0,
            queue: Pieces::new(hidden_bytes),
            computing: None,
            branch,
            floor,
            forks: Vec::new(),
            inbound: None,
            log: Vec::new(),
            next,
            sampled: BTreeMap::new(),
        })
    }

    /// The request that it serves.
    #[must_use]
    pub const fn open(&self) -> &Open {
        &self.open
    }

    /// First position that it does not hold.
    #[must_use]
    pub const fn held(&self) -> u32 {
        self.held
    }

    /// The answer to the request that created the stage.
    #[must_use]
    pub fn granted(&self, kernel_id: &str) -> Control {
        let (attempt, have) = (self.open.attempt, self.accepted);
        Control::Granted { attempt, have, kernel_id: kernel_id.to_owned(), drafts: true }
    }

    /// The client changed the route around this stage.
    pub fn reopen(&mut self, open: Open, kernel_id: &str) -> Vec<Action> {
        let same_part = open.model == self.open.model
            && open.layers == self.open.layers
            && open.max_positions == self.open.max_positions
            && open.prompt_len == self.open.prompt_len
            && open.next.is_some() == self.open.next.is_some();
        if !same_part || open.attempt <= self.open.attempt {
            return fail("a route change must keep the stage's part and raise the attempt", false);
        }
        if self.next == Next::Lost || (open.next.is_some() && open.next != self.open.next) {
            self.next = Next::Idle;
        }
        self.open = open;
        self.fork_beside(self.open.fork);
        self.floor = floor(self.open.fork);
        let mut actions = vec![Action::Reply(self.granted(kernel_id))];
        let missing = self.sampled.range(self.open.client_have..);
        actions.extend(missing.map(|(position, id)| Action::Reply(self.token(*position, *id))));
        self.feed_next(&mut actions);
        actions
    }

    /// Token ids from the client, for the first stage.
    pub fn tokens(&mut self, fork: Fork, position: u32, ids: &[u32]) -> Vec<Action> {
        if self.open.layers.first() != 0 {
            return fail("token ids sent to a stage in the middle", false);
        }
        if fork.branch < self.branch {
            return fail("token ids of an earlier branch", false);
        }
        self.take_back(fork);
        let known = self.accepted.saturating_sub(position) as usize;
        if position > self.accepted {
            return fail("token ids with a gap before them", false);
        }
        let fresh = ids.get(known..).unwrap_or_default();
        if fresh.len() > (self.open.max_positions - self.accepted) as usize {
            return fail("more positions than were reserved", false);
        }
        for piece in fresh.chunks(CHUNK_ROWS as usize) {
            self.take_in(piece.len(), WorkInput::Tokens(piece.to_vec()));
        }
        self.compute()
    }

    /// A fork that did not come on the predecessor's stream.
    fn fork_beside(&mut self, fork: Fork) {
        if fork.branch > self.branch {
            self.forks.retain(|earlier| earlier.position < fork.position);
            self.forks.push(fork);
            self.take_back(fork);
        }
    }

    /// Voids everything from the fork on, unless that branch is known already.
    fn take_back(&mut self, fork: Fork) {
        if fork.branch <= self.branch {
            return;
        }
        let to = fork.position;
        self.branch = fork.branch;
        self.floor = self.floor.min(to);
        if let Some(computing) = &mut self.computing {
            computing.valid = computing.valid.min(to.saturating_sub(computing.start));
        }
        self.held = self.held.min(to);
        self.accepted = self.accepted.min(to);
        self.queue.truncate(to);
        self.log.truncate(to as usize * self.hidden_bytes);
        // The token after the last good row was chosen rightly.
        self.sampled.split_off(&to.saturating_add(1));
        if let Some(inbound) = &mut self.inbound {
            inbound.chain.truncate(to);
        }
        match &mut self.next {
            Next::Ready { sent, chain, .. } => {
                *sent = to.min(*sent);
                chain.truncate(to);
            }
            Next::Connecting { fork, .. } => *fork = to.min(*fork),
            Next::Client | Next::Idle | Next::Lost => {}
        }
    }

    /// The predecessor opened an activation stream.
    pub fn hello(&mut self, hello: &Hello) -> Welcome {
        let stale = self.inbound.as_ref().is_some_and(|inbound| hello.attempt < inbound.attempt);
        if stale || self.open.layers.first() == 0 {
            return Welcome::Refused;
        }
        self.fork_beside(hello.fork);
        let (attempt, credited) = (hello.attempt, self.accepted);
        self.inbound = Some(Inbound { attempt, chain: Chain::default(), credited });
        Welcome::Have(self.accepted)
    }

    /// Rows from the predecessor, on the stream of the latest [`Stage::hello`].
    pub fn frame(&mut self, frame: &Frame) -> Vec<Action> {
        let Some(attempt) = self.inbound.as_ref().map(|inbound| inbound.attempt) else {
            return fail("activations before their stream was opened", false);
        };
        if frame.session != self.open.session || frame.attempt > attempt {
            return fail("activations of another session or attempt", false);
        }
        if frame.attempt < attempt {
            return Vec::new();
        }
        if frame.payload.len() != frame.rows as usize * self.hidden_bytes {
            return fail("activations of the wrong shape", false);
        }
        self.forks.retain(|fork| fork.branch > frame.branch);
        // Sent before the predecessor knew of a fork: what comes before the fork is good.
        let good = self.forks.iter().map(|fork| fork.position).min().unwrap_or(u32::MAX);
        if frame.branch < self.branch && frame.position >= good {
            return Vec::new();
        }
        if frame.position > self.accepted {
            return fail("activations with a gap before them", false);
        }
        if frame.end() > self.open.max_positions {
            return fail("more positions than were reserved", false);
        }
        self.take_back(Fork { branch: frame.branch, position: frame.position });
        let Some(Inbound { chain, credited, .. }) = &mut self.inbound else { return Vec::new() };
        if frame.end() > credited.saturating_add(WINDOW_ROWS) {
            return fail("more activations than there was credit for", false);
        }
        // A position already held is ignored, never applied twice.
        let known = self.accepted - frame.position;
        if known >= frame.rows {
            return Vec::new();
        }
        let rows = &frame.payload[known as usize * self.hidden_bytes..];
        chain.push(self.accepted, self.hidden_bytes, rows);
        if chain.value() != frame.transcript {
            return fail("activations do not match their transcript", true);
        }
        chain.truncate(good);
        let rows = &rows[..rows.len().min(good.saturating_sub(self.accepted) as usize * self.hidden_bytes)];
        for piece in rows.chunks(CHUNK_ROWS as usize * self.hidden_bytes) {
            self.take_in(piece.len() / self.hidden_bytes, WorkInput::Rows(piece.to_vec()));
        }
        self.compute()
    }

    /// The kernels are done with the last [`Action::Compute`].
    pub fn computed(&mut self, output: Output) -> Vec<Action> {
        let Some(Computing { start, rows, valid }) = self.computing.take() else {
            return fail("a result that nobody asked for", true);
        };
        let mut actions = Vec::new();
        match output {
            Output::Rows(bytes) if bytes.len() == rows as usize * self.hidden_bytes => {
                self.log.extend(&bytes[..valid as usize * self.hidden_bytes]);
            }
            Output::Rows(_) => return fail("the kernels returned rows of the wrong shape", true),
            Output::Tokens(tokens) => {
                for (position, id) in tokens.into_iter().filter(|(position, _)| *position <= start + valid) {
                    self.sampled.insert(position, id);
                    if position >= self.open.client_have {
                        actions.push(Action::Reply(self.token(position, id)));
                    }
                }
            }
        }
        if valid > 0 {
            self.held = start.saturating_add(valid);
        }
        self.feed_next(&mut actions);
        if let Some(inbound) = &mut self.inbound
            && self.held >= inbound.credited.saturating_add(CREDIT_ROWS)
        {
            inbound.credited = self.held;
            actions.push(Action::Credit(self.held));
        }
        actions.extend(self.compute());
        actions
    }

    /// The successor has computed the rows before `computed`: as many more may be sent.
    pub fn next_credit(&mut self, have: u32) -> Vec<Action> {
        let Next::Ready { most_sent, computed, .. } = &mut self.next else { return Vec::new() };
        if have > *most_sent {
            // It claims rows that nobody sent it.
            return self.next_lost();
        }
        *computed = have.max(*computed);
        let mut actions = Vec::new();
        self.feed_next(&mut actions);
        actions
    }

    /// The successor answered.
    pub fn next_welcome(&mut self, welcome: &Welcome) -> Vec<Action> {
        let Next::Connecting { attempt, fork } = self.next else { return Vec::new() };
        match welcome {
            Welcome::Have(have) => {
                let (sent, most_sent, computed) = (fork.min(*have), *have, *have);
                self.next = Next::Ready { attempt, sent, most_sent, computed, chain: Chain::default() };
                let mut actions = Vec::new();
                self.feed_next(&mut actions);
                actions
            }
            Welcome::Refused => self.next_lost(),
        }
    }

    /// The successor cannot be reached, or its stream broke.
    pub fn next_lost(&mut self) -> Vec<Action> {
        if matches!(self.next, Next::Client | Next::Lost) {
            return Vec::new();
        }
        self.next = Next::Lost;
        vec![Action::Reply(Control::NextLost { attempt: self.open.attempt })]
    }

    /// The client asks how far the stage is.
    #[must_use]
    pub const fn status(&self) -> Control {
        Control::Held { have: self.held }
    }

    const fn token(&self, position: u32, id: u32) -> Control {
        Control::Token { attempt: self.open.attempt, position, id, branch: self.branch }
    }

    fn take_in(&mut self, rows: usize, input: WorkInput) {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        self.queue.push(self.accepted, rows, input);
        self.accepted = self.accepted.saturating_add(rows);
    }

    fn compute(&mut self) -> Vec<Action> {
        if self.computing.is_some() {
            return Vec::new();
        }
        let Some((start, rows, input)) = self.queue.pop(CHUNK_ROWS) else { return Vec::new() };
        self.computing = Some(Computing { start, rows, valid: rows });
        // The row of the last known token is the first that has something to choose.
        let first_unknown = self.open.prompt_len.max(self.open.client_have);
        let sample_from = (self.next == Next::Client).then_some(first_unknown - 1);
        vec![Action::Compute(Work { start, input, sample_from })]
    }

    fn feed_next(&mut self, actions: &mut Vec<Action>) {
        if self.next == Next::Idle && self.held > 0 {
            let attempt = self.open.attempt;
            let fork = Fork { branch: self.branch, position: self.floor };
            let hello =
                Hello { session: self.open.session, attempt, layer: self.open.layers.end(), fork, channel: None };
            self.next = Next::Connecting { attempt, fork: u32::MAX };
            let peer = self.open.next.clone().unwrap_or_default();
            actions.push(Action::ConnectNext { peer, hello });
        }
        let Next::Ready { attempt, sent, most_sent, computed, chain } = &mut self.next else { return };
        let most =
            u32::try_from(BULK_FRAME_BYTES / self.hidden_bytes.max(1)).unwrap_or(CHUNK_ROWS).clamp(1, CHUNK_ROWS);
        let credit = computed.saturating_add(WINDOW_ROWS);
        while *sent < self.held.min(credit) {
            let rows = most.min(self.held.min(credit) - *sent);
            let bytes = *sent as usize * self.hidden_bytes..(*sent + rows) as usize * self.hidden_bytes;
            let payload = self.log[bytes].to_vec();
            chain.push(*sent, self.hidden_bytes, &payload);
            actions.push(Action::SendNext(Frame {
                session: self.open.session,
                attempt: *attempt,
                branch: self.branch,
                position: *sent,
                rows,
                transcript: chain.value(),
                payload,
            }));
            *sent += rows;
            *most_sent = (*sent).max(*most_sent);
        }
    }
}

/// The first position that a node which has not heard of `fork` may hold wrongly.
const fn floor(fork: Fork) -> u32 {
    if fork.is_none() { u32::MAX } else { fork.position }
}

fn fail(message: &str, retriable: bool) -> Vec<Action> {
    vec![Action::Reply(Control::Failed { message: message.to_owned(), retriable }), Action::End]
}

#[cfg(test)]
mod tests;
