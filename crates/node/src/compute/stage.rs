//! One stage of a session in the compute half: rows in, kernels, rows out.
//!
//! It drives [`Stage`] with what its page passes on and with what comes on channels. The page keeps what is slow: the
//! client's link, the links' first messages, and the news that one is lost.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use cdi_platform::port::Sender;
use cdi_platform::time::Instant;
use cdi_swarm::stage::{Action, Output, Stage, Work};
use cdi_types::session::{Control, Frame, Hello, Welcome};
use futures::channel::mpsc;
use futures::future::{Fuse, FusedFuture as _, LocalBoxFuture};
use futures::{FutureExt as _, StreamExt as _, select};

use crate::call::reply;
use crate::compute::channel::Place;
use crate::compute::protocol::{Answer, StageKey};
use crate::compute::worker::{Half, WorkError};

/// Input that waits for a stage. The page passes on 16 frames of a link at a time; on a channel a predecessor has credit
/// for 128 rows. Whoever gets further ahead broke the rules.
const INPUT_QUEUE: usize = 512;
/// Between two reports of what was computed.
const REPORT: Duration = Duration::from_secs(1);

type Kernels = Fuse<LocalBoxFuture<'static, Result<Output, WorkError>>>;

/// A request of the page that has many answers.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) sender: Sender,
    pub(super) id: u64,
}

impl Asked {
    pub(super) fn say(&self, answer: Answer, payload: Vec<u8>) {
        reply(&self.sender, self.id, answer, payload);
    }
}

/// Tells the page that its input was taken, however that ended.
#[derive(Debug)]
pub(super) struct Receipt(pub(super) Asked);

impl Drop for Receipt {
    fn drop(&mut self) {
        self.0.say(Answer::Done, Vec::new());
    }
}

/// What reaches a stage. `link` names the link it came by.
#[derive(Debug)]
pub(super) enum Input {
    /// A message of the client.
    Control(Vec<u8>),
    /// A predecessor opened a link.
    Hello { link: u64, hello: Hello, way: Way },
    /// A frame.
    Frame { link: u64, frame: Vec<u8> },
    /// The successor answered.
    Connected { link: u64, welcome: Welcome, way: Way },
    /// The successor has computed the rows before this position.
    Credit { link: u64, have: u32 },
    /// The successor is gone.
    NextLost { link: u64 },
    /// The page has no use for the stage any more.
    Close,
}

/// Input, and the page's receipt if it came from there.
pub(super) type Queued = (Input, Option<Receipt>);

/// Where the input of a stage goes.
#[derive(Debug, Clone)]
pub(super) struct Inbox(Rc<RefCell<mpsc::Sender<Queued>>>);

impl Inbox {
    pub(super) fn new() -> (Self, mpsc::Receiver<Queued>) {
        let (sender, queue) = mpsc::channel(INPUT_QUEUE);
        (Self(Rc::new(RefCell::new(sender))), queue)
    }

    /// `false` when there is no room; a stage that is over has room for everything.
    pub(super) fn put(&self, input: Input, receipt: Option<Receipt>) -> bool {
        let sent = self.0.borrow_mut().try_send((input, receipt));
        sent.is_ok() || self.0.borrow().is_closed()
    }
}

/// How a link's messages travel: by way of the page, or on a channel. Dropping it ends the link.
#[derive(Debug)]
pub(super) struct Way {
    page: Asked,
    channel: Option<Place>,
    /// Whether the page heard the last answer.
    ended: Cell<bool>,
}

impl Way {
    pub(super) const fn new(page: Asked, channel: Option<Place>) -> Self {
        Self { page, channel, ended: Cell::new(false) }
    }

    /// Whether messages travel on a channel.
    pub(super) const fn has_channel(&self) -> bool {
        self.channel.is_some()
    }

    fn welcome(&self, link: u64, welcome: Welcome) {
        self.ended.set(welcome == Welcome::Refused);
        self.page.say(Answer::Welcome { link, welcome }, Vec::new());
    }

    pub(super) fn refuse(&self) {
        self.welcome(0, Welcome::Refused);
    }

    fn credit(&self, have: u32) {
        match &self.channel {
            Some(place) => place.credit(have),
            None => self.page.say(Answer::Credit(have), Vec::new()),
        }
    }

    fn frame(&self, frame: &Frame) {
        let bulk = frame.rows > 1;
        match &self.channel {
            Some(place) => place.rows(frame, bulk),
            None => self.page.say(Answer::Frame { bulk }, frame.encode()),
        }
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        if !self.ended.get() {
            self.page.say(Answer::Done, Vec::new());
        }
    }
}

/// What a stage computed, for whoever counts it.
struct Tally {
    positions: u32,
    reported: Instant,
}

impl Tally {
    fn add(&mut self, positions: u32, page: &Asked) {
        self.positions += positions;
        if self.reported.elapsed() >= REPORT {
            self.report(page);
        }
    }

    fn report(&mut self, page: &Asked) {
        self.reported = Instant::now();
        let positions = std::mem::take(&mut self.positions);
        if positions > 0 {
            page.say(Answer::Computed(positions), Vec::new());
        }
    }
}

/// Drives one stage.
pub(super) struct Runner {
    stage: Stage,
    key: StageKey,
    kernel_id: String,
    half: Rc<Half>,
    page: Asked,
    kernels: Kernels,
    /// The predecessor's current link; rows by any other are stale.
    inbound: Option<(u64, Way)>,
    /// The link to the successor, and the way once it has answered.
    next: Option<(u64, Option<Way>)>,
    links: u64,
    tally: Tally,
}

impl Runner {
    pub(super) fn new(stage: Stage, key: StageKey, kernel_id: String, half: Rc<Half>, page: Asked) -> Self {
        let tally = Tally { positions: 0, reported: Instant::now() };
        let kernels = Fuse::terminated();
        Self { stage, key, kernel_id, half, page, kernels, inbound: None, next: None, links: 0, tally }
    }

    /// Runs until the client leaves or the stage fails.
    ///
    /// # Errors
    /// What the kernels said; the client was told.
    pub(super) async fn run(mut self, mut inbox: mpsc::Receiver<Queued>) -> Result<(), WorkError> {
        let mut failure = None;
        let mut actions = vec![Action::Reply(self.stage.granted(&self.kernel_id))];
        while self.apply(actions) {
            actions = select! {
                input = inbox.next() => match input {
                    // The page hears that it was taken when the receipt is dropped.
                    Some((input, _receipt)) => self.input(input),
                    None => break,
                },
                result = &mut self.kernels => match result {
                    Ok(output) => self.computed(output),
                    Err(error) => {
                        let failed = Control::Failed { message: error.to_string(), retriable: true };
                        failure = Some(error);
                        vec![Action::Reply(failed), Action::End]
                    }
                },
            };
        }
        if !self.kernels.is_terminated() {
            // A step is not left half done.
            let _unused = (&mut self.kernels).await;
        }
        self.tally.report(&self.page);
        failure.map_or(Ok(()), Err)
    }

    fn computed(&mut self, output: Output) -> Vec<Action> {
        let before = self.stage.held();
        let actions = self.stage.computed(output);
        self.tally.add(self.stage.held().saturating_sub(before), &self.page);
        actions
    }

    fn input(&mut self, input: Input) -> Vec<Action> {
        match input {
            Input::Control(bytes) => self.control(&bytes),
            Input::Hello { link, hello, way } => {
                let welcome = self.stage.hello(&hello);
                way.welcome(link, welcome.clone());
                if welcome != Welcome::Refused {
                    self.inbound = Some((link, way));
                }
                Vec::new()
            }
            Input::Frame { link, frame } if self.inbound.as_ref().is_some_and(|(current, _)| *current == link) => {
                match Frame::decode(&frame) {
                    Ok(frame) => self.stage.frame(&frame),
                    Err(error) => {
                        let failed = Control::Failed { message: error.to_string(), retriable: false };
                        vec![Action::Reply(failed), Action::End]
                    }
                }
            }
            Input::Connected { link, welcome, way } if self.is_next(link) => {
                self.next = Some((link, Some(way)));
                self.stage.next_welcome(&welcome)
            }
            Input::Credit { link, have } if self.is_next(link) => self.stage.next_credit(have),
            Input::NextLost { link } if self.is_next(link) => {
                self.next = None;
                self.stage.next_lost()
            }
            Input::Close => vec![Action::End],
            Input::Frame { .. } | Input::Connected { .. } | Input::Credit { .. } | Input::NextLost { .. } => Vec::new(),
        }
    }

    fn is_next(&self, link: u64) -> bool {
        self.next.as_ref().is_some_and(|(current, _)| *current == link)
    }

    fn control(&mut self, bytes: &[u8]) -> Vec<Action> {
        match Control::decode(bytes) {
            Ok(Control::Open(open)) => self.stage.reopen(*open, &self.kernel_id),
            Ok(Control::Tokens { position, ids, fork, .. }) => self.stage.tokens(fork, position, &ids),
            Ok(Control::Query) => vec![Action::Reply(self.stage.status())],
            Ok(Control::Close) => vec![Action::End],
            Ok(_) | Err(_) => {
                let message = "a message that only a stage may send, or none at all".to_owned();
                vec![Action::Reply(Control::Failed { message, retriable: false }), Action::End]
            }
        }
    }

    /// Does what the stage asks for; `false` when it is over.
    fn apply(&mut self, actions: Vec<Action>) -> bool {
        for action in actions {
            match action {
                Action::Reply(message) => match message.encode() {
                    Ok(bytes) => self.page.say(Answer::Control, bytes),
                    Err(_) => return false,
                },
                Action::Compute(work) => self.kernels = self.step(work),
                Action::ConnectNext { peer, hello } => {
                    self.links += 1;
                    self.next = Some((self.links, None));
                    self.page.say(Answer::Connect { link: self.links, peer, hello }, Vec::new());
                }
                Action::SendNext(frame) => {
                    if let Some((_, Some(way))) = &self.next {
                        way.frame(&frame);
                    }
                }
                Action::Credit(have) => {
                    if let Some((_, way)) = &self.inbound {
                        way.credit(have);
                    }
                }
                Action::End => return false,
            }
        }
        true
    }

    fn step(&self, work: Work) -> Kernels {
        debug_assert!(self.kernels.is_terminated(), "a stage computes one piece at a time");
        let (half, key, sampling) = (self.half.clone(), self.key, self.stage.open().sampling);
        async move { half.step(key, work, sampling).await }.boxed_local().fuse()
    }
}
