//! A channel to another node's compute half: rows one way, credit the other, for all links between the two nodes that
//! one side opened.
//!
//! Everything that comes is bounded and checked as on a stream: whoever breaks the rules loses the channel, and with it
//! the links. Tokens go before the bulk of prompts and replays.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Poll, Waker};
use std::time::Duration;

use cdi_platform::channel::{Closed, Reader, Writer};
use cdi_platform::time::{Instant, Ticker};
use cdi_types::channel::{self as wire, Message};
use cdi_types::session::Frame;
use futures::{FutureExt as _, pin_mut, select};

use crate::compute::protocol::{Answer, ChannelFigures};
use crate::compute::stage::{Asked, Inbox, Input};

/// Links of one channel.
const MAX_LINKS: usize = 256;
/// How often the page hears of what the channel carried.
const REPORT: Duration = Duration::from_secs(1);
/// Bytes that the browser keeps at most when bulk is sent: enough to fill the link while the worker computes something
/// short (raw channels reach their best with it), and little to wait behind for a token.
const BULK_WATER: usize = 256 * 1024;
/// The same for tokens and credit, which are few.
const URGENT_WATER: usize = 4 * 1024 * 1024;

const _: () = assert!(wire::MAX_MESSAGE_BYTES == cdi_platform::channel::MAX_MESSAGE_BYTES);

/// What the other end did that it must not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum Violation {
    #[error("it sent something that is no message")]
    Malformed,
    #[error("it spoke before it was greeted, or greeted twice")]
    Greeting,
    #[error("it sent what only the other side may send")]
    Direction,
    #[error("it sent more than it had credit for")]
    Credit,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Channel {
    /// Whether this side offered it, and opens links: it sends rows and receives credit.
    offered: bool,
    writer: Writer,
    greeted: Cell<bool>,
    urgent: RefCell<VecDeque<Vec<u8>>>,
    bulk: RefCell<VecDeque<Vec<u8>>>,
    /// The task that sends.
    sending: RefCell<Option<Waker>>,
    links: RefCell<HashMap<u32, (Inbox, u64)>>,
    figures: RefCell<ChannelFigures>,
    heard: Cell<Option<Instant>>,
    closed: Cell<bool>,
}

/// A link's place on a channel. Dropping it ends the link.
#[derive(Debug)]
pub(super) struct Place {
    channel: Rc<Channel>,
    link: u32,
}

impl Place {
    pub(super) fn rows(&self, frame: &Frame, bulk: bool) {
        self.channel.put(wire::rows(self.link, frame), bulk);
    }

    pub(super) fn credit(&self, have: u32) {
        self.channel.put(Message::Credit { link: self.link, have }.encode(), false);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.channel.links.borrow_mut().remove(&self.link);
    }
}

impl Channel {
    pub(super) fn new(offered: bool, writer: Writer) -> Rc<Self> {
        Rc::new(Self {
            offered,
            writer,
            greeted: Cell::default(),
            urgent: RefCell::default(),
            bulk: RefCell::default(),
            sending: RefCell::default(),
            links: RefCell::default(),
            figures: RefCell::default(),
            heard: Cell::default(),
            closed: Cell::default(),
        })
    }

    /// Adds a link: what comes by it goes to `inbox` under the number `stage_link`. Only whoever offered the channel has
    /// links to a successor. `None` when the number is taken, there are too many, or the channel is closed.
    pub(super) fn join(self: &Rc<Self>, link: u32, inbox: Inbox, stage_link: u64, to_successor: bool) -> Option<Place> {
        let mut links = self.links.borrow_mut();
        let free = links.len() < MAX_LINKS && !links.contains_key(&link);
        if !free || self.closed.get() || to_successor != self.offered {
            return None;
        }
        links.insert(link, (inbox, stage_link));
        drop(links);
        Some(Place { channel: self.clone(), link })
    }

    /// Closes it; [`Channel::serve`] ends.
    pub(super) fn close(&self) {
        self.writer.close();
    }

    /// Carries messages until the channel is closed, and tells the page how it ended.
    pub(super) async fn serve(&self, reader: Reader, page: &Asked) -> Answer {
        if self.offered {
            self.put(Message::Greeting.encode(), false);
        }
        let receive = self.receive(reader, page).fuse();
        let send = self.send().fuse();
        let report = self.report(page).fuse();
        pin_mut!(receive, send, report);
        let violation = select! {
            violation = receive => violation,
            _closed = send => None,
            () = report => None,
        };
        self.closed.set(true);
        self.writer.close();
        let links: Vec<_> = self.links.borrow_mut().drain().collect();
        for (_, (inbox, link)) in links {
            if self.offered {
                // A stage with a full queue loses its channel in any case, and then its session.
                let _full = inbox.put(Input::NextLost { link }, None);
            }
        }
        Answer::ChannelClosed { figures: self.figures(), violation: violation.map(|v| v.to_string()) }
    }

    async fn receive(&self, mut reader: Reader, page: &Asked) -> Option<Violation> {
        while let Some(message) = reader.recv().await {
            self.figures.borrow_mut().received_bytes += message.len() as u64;
            self.heard.set(Some(Instant::now()));
            match self.take(&message) {
                Ok(false) => {}
                Ok(true) => page.say(Answer::Up, Vec::new()),
                Err(violation) => return Some(violation),
            }
        }
        None
    }

    /// Takes a message in; says whether it was the greeting.
    fn take(&self, message: &[u8]) -> Result<bool, Violation> {
        let message = Message::decode(message).map_err(|_| Violation::Malformed)?;
        let link = match message {
            Message::Greeting if self.greeted.replace(true) => return Err(Violation::Greeting),
            Message::Greeting => {
                if !self.offered {
                    self.put(Message::Greeting.encode(), false);
                }
                return Ok(true);
            }
            _ if !self.greeted.get() => return Err(Violation::Greeting),
            Message::Rows { .. } if self.offered => return Err(Violation::Direction),
            Message::Credit { .. } if !self.offered => return Err(Violation::Direction),
            Message::Rows { link, .. } | Message::Credit { link, .. } => link,
        };
        let listener = self.links.borrow().get(&link).cloned();
        let Some((inbox, link)) = listener else {
            // Of a link that ended while it was under way.
            self.figures.borrow_mut().stale += 1;
            return Ok(false);
        };
        let input = match message {
            Message::Rows { frame, .. } => Input::Frame { link, frame: frame.to_vec() },
            Message::Credit { have, .. } => Input::Credit { link, have },
            Message::Greeting => return Ok(true),
        };
        if inbox.put(input, None) { Ok(false) } else { Err(Violation::Credit) }
    }

    fn put(&self, message: Vec<u8>, bulk: bool) {
        // Bounded: each link has credit for so many rows, and answers each of them with credit once at most.
        let queue = if bulk { &self.bulk } else { &self.urgent };
        queue.borrow_mut().push_back(message);
        if let Some(sending) = self.sending.borrow_mut().take() {
            sending.wake();
        }
    }

    async fn send(&self) -> Closed {
        loop {
            let begin = Instant::now();
            let waiting = !self.bulk.borrow().is_empty();
            let (message, bulk) = match self.next().await {
                Ok(next) => next,
                Err(closed) => return closed,
            };
            if let Err(closed) = self.writer.send(&message) {
                return closed;
            }
            let mut figures = self.figures.borrow_mut();
            figures.sent_bytes += message.len() as u64;
            if bulk {
                figures.bulk_bytes += message.len() as u64;
                let took = if waiting { begin.elapsed() } else { Duration::ZERO };
                figures.bulk_us += u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
            }
        }
    }

    /// The next message that there is room for, and whether it is bulk.
    async fn next(&self) -> Result<(Vec<u8>, bool), Closed> {
        poll_fn(|cx| {
            *self.sending.borrow_mut() = Some(cx.waker().clone());
            let (urgent, bulk) = (!self.urgent.borrow().is_empty(), !self.bulk.borrow().is_empty());
            if !urgent && !bulk {
                return Poll::Pending;
            }
            let most = if urgent { URGENT_WATER } else { BULK_WATER };
            let room = self.writer.room(most);
            pin_mut!(room);
            match room.poll(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(closed)) => return Poll::Ready(Err(closed)),
                Poll::Pending => return Poll::Pending,
            }
            let queue = if urgent { &self.urgent } else { &self.bulk };
            queue.borrow_mut().pop_front().map_or(Poll::Pending, |message| Poll::Ready(Ok((message, !urgent))))
        })
        .await
    }

    fn figures(&self) -> ChannelFigures {
        let silent = self.heard.get().map_or(Duration::MAX, |heard| heard.elapsed());
        let silent_ms = u64::try_from(silent.as_millis()).unwrap_or(u64::MAX);
        ChannelFigures { silent_ms, ..*self.figures.borrow() }
    }

    async fn report(&self, page: &Asked) {
        let mut ticker = Ticker::every(REPORT);
        let mut told = ChannelFigures::default();
        loop {
            ticker.tick().await;
            let figures = *self.figures.borrow();
            if std::mem::replace(&mut told, figures) != figures {
                page.say(Answer::Figures(self.figures()), Vec::new());
            }
        }
    }
}

#[cfg(test)]
mod tests;
