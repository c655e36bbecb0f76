//! A libp2p stream over one data channel: the byte stream that protocols read and write.
//!
//! [`Substream`] is the user's half, [`Port`] the half that the channel's events go to. Both share
//! one [`StreamState`]; flags are answered from within the event, so that a FIN is acknowledged
//! even while nobody polls the stream, or after its user dropped it.
//!
//! Back-pressure: bytes go straight to the channel while it buffers less than
//! [`SEND_WINDOW_BYTES`]; above that a write waits for the channel's "buffered amount low" event,
//! which cannot be missed because the window lies above the event's threshold.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::{AsyncRead, AsyncWrite, FutureExt as _};
use futures_timer::Delay;

use crate::frame_size::FrameSize;
use crate::half_close::{ReadOutcome, StreamError, StreamState, UnreadBudget};

/// A write waits while the channel buffers this much. Measured from 64 KiB to 256 KiB: 31 MiB/s;
/// 16 KiB and 4 MiB: 23 to 25 MiB/s. Browsers abort a channel that buffers 16 MiB.
pub const SEND_WINDOW_BYTES: usize = 256 * 1024;

/// The "buffered amount low" threshold that a channel must be given; well above zero, so that the
/// channel never runs dry while the writer wakes up.
pub const LOW_WATER_BYTES: usize = 128 * 1024;

/// How long FIN may stay unconfirmed: `close` then fails with [`io::ErrorKind::TimedOut`], and the
/// channel of a dropped stream is closed regardless. Empirical: a relayed round trip takes less
/// than a second even on a loaded machine.
pub const FIN_ACK_TIMEOUT: Duration = Duration::from_secs(10);

/// What a channel can do at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// It is being opened; messages cannot be sent yet.
    Connecting,
    /// Messages can be sent.
    Open,
    /// It is closing or closed; messages cannot be sent any more.
    Closed,
}

/// The channel refused a message; it is closed or about to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the data channel refused a message")]
pub struct SendRefused;

/// An ordered, reliable message channel, as `RTCDataChannel` is one.
pub trait DataChannel: Send + 'static {
    /// Whether messages can be sent.
    fn readiness(&self) -> Readiness;
    /// Bytes that were sent but are not yet on the wire.
    fn buffered_bytes(&self) -> usize;
    /// Sends one message.
    ///
    /// # Errors
    /// [`SendRefused`] when the channel cannot take it, now or ever.
    fn send(&mut self, message: &[u8]) -> Result<(), SendRefused>;
    /// From now on the "buffered amount low" event is wanted at zero, not at [`LOW_WATER_BYTES`].
    fn want_drained(&mut self);
    /// Closes the channel. What it still buffers may be lost. Calling it again does nothing.
    fn close(&mut self);
}

/// Collects which streams of a connection were dropped by their user or came to their end, so
/// that the connection can let go of their channels.
#[derive(Debug, Clone, Default)]
pub struct Attention(Arc<Mutex<AttentionState>>);

#[derive(Debug, Default)]
struct AttentionState {
    /// Bounded: a stream is pushed once when dropped and once when over.
    streams: Vec<u64>,
    waker: Option<Waker>,
}

impl Attention {
    fn raise(&self, stream: u64) {
        let mut state = lock(&self.0);
        state.streams.push(stream);
        wake(&mut state.waker);
    }

    /// The id of a stream that needs attention.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<u64> {
        let mut state = lock(&self.0);
        if let Some(stream) = state.streams.pop() {
            return Poll::Ready(stream);
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

struct Core<C: DataChannel> {
    id: u64,
    channel: C,
    state: StreamState,
    attention: Attention,
    reader: Option<Waker>,
    writer: Option<Waker>,
    is_detached: bool,
    is_over: bool,
}

impl<C: DataChannel> Core<C> {
    /// Sends queued flags, closes the channel when nothing is left to do, and wakes the user.
    fn settle(&mut self) {
        self.send_control();
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    fn send_control(&mut self) {
        if self.channel.readiness() == Readiness::Open {
            while let Some(frame) = self.state.next_control() {
                if self.channel.send(&frame).is_err() {
                    self.state.channel_closed();
                    wake(&mut self.reader);
                }
            }
        }
        if self.state.is_done() && !self.is_over {
            // Chromium discards what it has not yet put on the wire when a channel is closed, and
            // with it our last FIN_ACK or RESET.
            if self.channel.readiness() == Readiness::Open && self.channel.buffered_bytes() > 0 {
                self.channel.want_drained();
                return;
            }
            self.is_over = true;
            self.channel.close();
            self.attention.raise(self.id);
        }
    }

    /// Ready when a payload can be sent right now.
    fn poll_window(&mut self, cx: &Context<'_>) -> Poll<Result<(), StreamError>> {
        self.state.may_write()?;
        match self.channel.readiness() {
            Readiness::Open if self.channel.buffered_bytes() < SEND_WINDOW_BYTES => Poll::Ready(Ok(())),
            Readiness::Open | Readiness::Connecting => {
                self.writer = Some(cx.waker().clone());
                Poll::Pending
            }
            Readiness::Closed => Poll::Ready(Err(StreamError::ChannelClosed)),
        }
    }
}

/// The half of a stream that its channel's events go to.
pub struct Port<C: DataChannel>(Arc<Mutex<Core<C>>>);

impl<C: DataChannel> Clone for Port<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: DataChannel> Port<C> {
    /// The stream sends and takes frames of that size, which both ends have agreed to.
    pub fn allow_frames(&self, size: FrameSize) {
        lock(&self.0).state.allow_frames(size);
    }

    /// The channel opened, or buffers few enough bytes again.
    pub fn on_writable(&self) {
        lock(&self.0).settle();
    }

    /// A message arrived.
    pub fn on_message(&self, message: &[u8]) {
        let mut core = lock(&self.0);
        core.state.receive(message);
        core.settle();
    }

    /// The channel, or the connection under it, closed.
    pub fn on_closed(&self) {
        let mut core = lock(&self.0);
        core.state.channel_closed();
        core.settle();
    }

    /// Whether the channel has been closed for good and can be forgotten.
    #[must_use]
    pub fn is_over(&self) -> bool {
        lock(&self.0).is_over
    }

    /// Whether the user has dropped the stream.
    #[must_use]
    pub fn is_detached(&self) -> bool {
        lock(&self.0).is_detached
    }
}

/// The user's half: a stream of bytes with half-close.
///
/// `close` resolves when the peer has confirmed that it received everything, or fails.
/// Dropping a stream that was not closed resets it, unless the peer had finished its side.
pub struct Substream<C: DataChannel> {
    core: Arc<Mutex<Core<C>>>,
    fin_ack_timeout: Option<Delay>,
}

/// Makes a stream over `channel`; `id` is what `attention` reports it by.
pub fn substream<C: DataChannel>(
    id: u64,
    channel: C,
    budget: UnreadBudget,
    attention: Attention,
) -> (Substream<C>, Port<C>) {
    let core = Arc::new(Mutex::new(Core {
        id,
        channel,
        state: StreamState::new(budget),
        attention,
        reader: None,
        writer: None,
        is_detached: false,
        is_over: false,
    }));
    (Substream { core: Arc::clone(&core), fin_ack_timeout: None }, Port(core))
}

impl<C: DataChannel> AsyncRead for Substream<C> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let mut core = lock(&self.core);
        match core.state.read(buffer) {
            ReadOutcome::Bytes(count) => Poll::Ready(Ok(count)),
            ReadOutcome::EndOfStream => Poll::Ready(Ok(0)),
            ReadOutcome::Failed(error) => Poll::Ready(Err(error.into())),
            ReadOutcome::Blocked => {
                core.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl<C: DataChannel> AsyncWrite for Substream<C> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let mut core = lock(&self.core);
        futures::ready!(core.poll_window(cx))?;
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let (frame, taken) = core.state.write(data)?;
        if core.channel.send(&frame).is_err() {
            core.state.channel_closed();
            core.settle();
            return Poll::Ready(Err(StreamError::ChannelClosed.into()));
        }
        Poll::Ready(Ok(taken))
    }

    /// Every write has already been handed to the channel.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let mut core = lock(&this.core);
        core.state.close_write();
        core.send_control();
        if core.state.is_write_confirmed()? {
            return Poll::Ready(Ok(()));
        }
        core.writer = Some(cx.waker().clone());
        drop(core);
        let timeout = this.fin_ack_timeout.get_or_insert_with(|| Delay::new(FIN_ACK_TIMEOUT));
        timeout.poll_unpin(cx).map(|()| Err(io::Error::new(io::ErrorKind::TimedOut, "the peer did not confirm FIN")))
    }
}

impl<C: DataChannel> Drop for Substream<C> {
    fn drop(&mut self) {
        let mut core = lock(&self.core);
        core.is_detached = true;
        core.state.detach();
        core.send_control();
        if !core.is_over {
            core.attention.raise(core.id);
        }
    }
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match error {
            StreamError::ResetByPeer | StreamError::Unread => io::ErrorKind::ConnectionReset,
            StreamError::StoppedByPeer | StreamError::WriteAfterClose => io::ErrorKind::BrokenPipe,
            StreamError::ChannelClosed => io::ErrorKind::ConnectionAborted,
            StreamError::DataAfterFin | StreamError::Frame(_) => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

/// No code panics while it holds one of these locks, so a poisoned one is still consistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

#[cfg(test)]
#[cfg(not(target_arch = "wasm32"))]
mod tests;
