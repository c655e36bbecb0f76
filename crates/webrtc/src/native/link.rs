//! What the owner of a connection and its driver share.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use str0m::Candidate;

use super::channel::{Doorbell, NativeChannel, Outbox, lock};
use super::{Error, MAX_STREAMS_PER_SIDE};
use crate::fingerprint::Fingerprint;
use crate::frame_size::FrameSize;
use crate::half_close::UnreadBudget;
use crate::substream::{Attention, Port, Substream, substream};

/// Why a connection is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    /// We closed it.
    Closed,
    /// The peer closed it, or is silent.
    Lost,
    /// The WebRTC stack gave it up.
    Stack(String),
}

impl From<End> for Error {
    fn from(end: End) -> Self {
        match end {
            End::Closed => Self::Closed,
            End::Lost => Self::Lost,
            End::Stack(reason) => Self::Stack(reason),
        }
    }
}

#[derive(Debug)]
enum Status {
    Connecting,
    /// With a peer whose certificate has this hash.
    Connected(Fingerprint),
    Over(End),
}

/// The driver's half of a stream.
pub(super) struct StreamEnd {
    pub(super) id: u64,
    pub(super) port: Port<NativeChannel>,
    pub(super) outbox: Arc<Outbox>,
    pub(super) is_local: bool,
}

impl StreamEnd {
    /// The channel has gone, or is to go, whatever the stream still waits for.
    pub(super) fn close(&self) {
        self.outbox.close();
        self.port.on_closed();
    }
}

/// An address at which one of the two sides may be reached.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Found {
    /// Of this side.
    Local(Candidate),
    /// Of the peer.
    Remote(Candidate),
}

struct State {
    status: Status,
    /// Of the one task that owns the connection: first the handshake, then the swarm's connection.
    owner: Option<Waker>,
    accepted: VecDeque<Substream<NativeChannel>>,
    to_open: VecDeque<StreamEnd>,
    /// Bounded by what the signalling takes.
    candidates: VecDeque<Found>,
    /// Of the streams that are opened from now on.
    frames: FrameSize,
    /// Streams of ours that are not over.
    local_streams: usize,
    next_id: u64,
    is_close_wanted: bool,
}

/// See the module.
pub(super) struct Link {
    state: Mutex<State>,
    pub(super) doorbell: Arc<Doorbell>,
    pub(super) attention: Attention,
    pub(super) budget: UnreadBudget,
}

impl Link {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                status: Status::Connecting,
                owner: None,
                accepted: VecDeque::new(),
                to_open: VecDeque::new(),
                candidates: VecDeque::new(),
                frames: FrameSize::default(),
                local_streams: 0,
                next_id: 0,
                is_close_wanted: false,
            }),
            doorbell: Arc::default(),
            attention: Attention::default(),
            budget: UnreadBudget::default(),
        })
    }

    /// Makes both halves of a stream.
    pub(super) fn new_stream(&self, is_local: bool) -> (Substream<NativeChannel>, StreamEnd) {
        let mut state = lock(&self.state);
        let id = state.next_id;
        state.next_id += 1;
        state.local_streams += usize::from(is_local);
        let (channel, outbox) = NativeChannel::new(id, Arc::clone(&self.doorbell));
        let (stream, port) = substream(id, channel, self.budget.clone(), self.attention.clone());
        port.allow_frames(state.frames);
        (stream, StreamEnd { id, port, outbox, is_local })
    }

    // What the owner calls.

    /// Ready when the connection is up, with the hash of the peer's certificate, or will never be.
    pub(super) fn poll_connected(&self, cx: &Context<'_>) -> Poll<Result<Fingerprint, Error>> {
        let mut state = lock(&self.state);
        state.owner = Some(cx.waker().clone());
        match &state.status {
            Status::Connecting => Poll::Pending,
            Status::Connected(fingerprint) => Poll::Ready(Ok(*fingerprint)),
            Status::Over(end) => Poll::Ready(Err(end.clone().into())),
        }
    }

    /// The next stream that the peer opened.
    pub(super) fn poll_accept(&self, cx: &Context<'_>) -> Poll<Substream<NativeChannel>> {
        let mut state = lock(&self.state);
        state.owner = Some(cx.waker().clone());
        state.accepted.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    /// Opens a stream; waits while [`MAX_STREAMS_PER_SIDE`] of ours are not over.
    pub(super) fn poll_open(&self, cx: &Context<'_>) -> Poll<Substream<NativeChannel>> {
        let mut state = lock(&self.state);
        if state.local_streams >= MAX_STREAMS_PER_SIDE {
            state.owner = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        let (stream, end) = self.new_stream(true);
        lock(&self.state).to_open.push_back(end);
        self.doorbell.ring();
        Poll::Ready(stream)
    }

    /// Frames may be this large in streams that are opened from now on.
    pub(super) fn allow_frames(&self, size: FrameSize) {
        lock(&self.state).frames = size;
    }

    /// Hands an address to the driver.
    pub(super) fn found(&self, candidate: Found) {
        lock(&self.state).candidates.push_back(candidate);
        self.doorbell.ring();
    }

    /// Asks the driver to close the connection.
    pub(super) fn close(&self) {
        lock(&self.state).is_close_wanted = true;
        self.doorbell.ring();
    }

    // What the driver calls.

    pub(super) fn is_close_wanted(&self) -> bool {
        lock(&self.state).is_close_wanted
    }

    pub(super) fn next_to_open(&self) -> Option<StreamEnd> {
        lock(&self.state).to_open.pop_front()
    }

    pub(super) fn next_candidate(&self) -> Option<Found> {
        lock(&self.state).candidates.pop_front()
    }

    pub(super) fn connected(&self, peer: Fingerprint) {
        let mut state = lock(&self.state);
        if matches!(state.status, Status::Connecting) {
            state.status = Status::Connected(peer);
        }
        wake(&mut state.owner);
    }

    pub(super) fn accepted(&self, stream: Substream<NativeChannel>) {
        let mut state = lock(&self.state);
        state.accepted.push_back(stream);
        wake(&mut state.owner);
    }

    pub(super) fn local_stream_over(&self) {
        let mut state = lock(&self.state);
        state.local_streams -= 1;
        wake(&mut state.owner);
    }

    /// The connection is over. Returns streams that were to be opened.
    pub(super) fn over(&self, end: End) -> VecDeque<StreamEnd> {
        let mut state = lock(&self.state);
        state.status = Status::Over(end);
        let unheard = std::mem::take(&mut state.accepted);
        let unopened = std::mem::take(&mut state.to_open);
        wake(&mut state.owner);
        drop(state);
        // Dropping a stream rings the bell, which must not happen under the lock.
        drop(unheard);
        unopened
    }
}

#[cfg(test)]
impl Link {
    /// Opens a stream whatever the limit; what is sent to its outbox is not framed.
    pub(super) fn open_raw(&self) -> (Substream<NativeChannel>, Arc<Outbox>) {
        let (stream, end) = self.new_stream(true);
        let outbox = Arc::clone(&end.outbox);
        lock(&self.state).to_open.push_back(end);
        self.doorbell.ring();
        (stream, outbox)
    }
}

/// The owner's handle: dropping it closes the connection.
pub(super) struct LinkOwner(pub(super) Arc<Link>);

impl Drop for LinkOwner {
    fn drop(&mut self) {
        self.0.close();
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}
