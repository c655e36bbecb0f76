//! Message channels to another node that a worker uses itself, without its page.
//!
//! Where a browser can hand an `RTCDataChannel` over to a worker ([`is_transferable`]), the page plans one end of a
//! channel ([`End`]) on a connection of its own and sends it over a port; the channel is made at the very moment it is
//! handed over, as the browser demands (WebRTC extensions, *transferring data channels*: within the task that made it),
//! and the worker opens it. Within a process [`pair`] makes both ends.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use futures::future::poll_fn;
use futures::task::AtomicWaker;

#[cfg(target_arch = "wasm32")]
mod browser;

#[cfg(target_arch = "wasm32")]
pub use browser::is_transferable;

/// Longest message in bytes. Chromium takes 256 KiB; what a connection takes is asked before a channel is made on it.
pub const MAX_MESSAGE_BYTES: usize = 128 * 1024;
/// Messages that wait for a reader. There is no flow control below: a sender that gets further ahead of its reader has
/// broken the protocol above, and the channel is closed.
const INCOMING: usize = 4096;

/// The channel is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the channel is closed")]
pub struct Closed;

/// Whether a worker can be given a channel. Natively there is neither.
#[cfg(not(target_arch = "wasm32"))]
#[must_use]
pub const fn is_transferable() -> bool {
    false
}

/// One end of a channel that nobody uses yet.
#[derive(Debug)]
pub struct End(Kind);

enum Kind {
    Made(Box<(Writer, Reader)>),
    #[cfg(target_arch = "wasm32")]
    Planned(browser::Plan),
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Made(_) => "Made",
            #[cfg(target_arch = "wasm32")]
            Self::Planned(_) => "Planned",
        })
    }
}

impl End {
    /// Takes it into use, in this thread.
    ///
    /// # Errors
    /// [`Closed`] when its connection is gone.
    pub fn open(self) -> Result<(Writer, Reader), Closed> {
        match self.0 {
            Kind::Made(ends) => Ok(*ends),
            #[cfg(target_arch = "wasm32")]
            Kind::Planned(plan) => browser::open(plan).ok_or(Closed),
        }
    }
}

/// Both ends of a channel within this process.
#[must_use]
pub fn pair() -> (End, End) {
    let (to_left, left) = async_channel::bounded(INCOMING);
    let (to_right, right) = async_channel::bounded(INCOMING);
    let (left_bytes, right_bytes) = (Arc::new(Unread::default()), Arc::new(Unread::default()));
    let end = |out, incoming, unread: &Arc<Unread>, own: &Arc<Unread>| {
        let writer = Writer(Out::InProcess { out, unread: unread.clone() });
        let reader = Reader { incoming, unread: Some(own.clone()), writer: writer.clone() };
        End(Kind::Made(Box::new((writer, reader))))
    };
    (end(to_right, left, &right_bytes, &left_bytes), end(to_left, right, &left_bytes, &right_bytes))
}

/// Bytes that were sent and not read yet, and who waits for them to become fewer.
#[derive(Debug, Default)]
struct Unread {
    bytes: AtomicUsize,
    waiting: AtomicWaker,
}

/// The sending half. Clones send over the same channel; one task at a time may wait for [`Writer::room`].
#[derive(Debug, Clone)]
pub struct Writer(Out);

#[derive(Debug, Clone)]
enum Out {
    InProcess {
        out: async_channel::Sender<Vec<u8>>,
        unread: Arc<Unread>,
    },
    #[cfg(target_arch = "wasm32")]
    Browser(std::rc::Rc<browser::Channel>),
}

impl Writer {
    /// Sends a message of at most [`MAX_MESSAGE_BYTES`] without waiting. Wait for [`Writer::room`] before: a browser
    /// closes a channel that is given more than it can keep.
    ///
    /// # Errors
    /// [`Closed`], also for a message that is too long.
    pub fn send(&self, message: &[u8]) -> Result<(), Closed> {
        if message.len() > MAX_MESSAGE_BYTES {
            return Err(Closed);
        }
        match &self.0 {
            Out::InProcess { out, unread } => {
                unread.bytes.fetch_add(message.len(), Ordering::Relaxed);
                if out.try_send(message.to_vec()).is_err() {
                    self.close();
                    return Err(Closed);
                }
                Ok(())
            }
            #[cfg(target_arch = "wasm32")]
            Out::Browser(channel) => channel.send(message),
        }
    }

    /// Bytes that were sent and have not left yet.
    #[must_use]
    pub fn buffered_bytes(&self) -> usize {
        match &self.0 {
            Out::InProcess { unread, .. } => unread.bytes.load(Ordering::Relaxed),
            #[cfg(target_arch = "wasm32")]
            Out::Browser(channel) => channel.buffered_bytes(),
        }
    }

    /// Waits until at most `bytes` are buffered.
    ///
    /// # Errors
    /// [`Closed`].
    pub async fn room(&self, bytes: usize) -> Result<(), Closed> {
        poll_fn(|cx| {
            match &self.0 {
                Out::InProcess { unread, .. } => unread.waiting.register(cx.waker()),
                #[cfg(target_arch = "wasm32")]
                Out::Browser(channel) => channel.wake_below(bytes, cx.waker()),
            }
            if self.is_closed() {
                Poll::Ready(Err(Closed))
            } else if self.buffered_bytes() <= bytes {
                Poll::Ready(Ok(()))
            } else {
                Poll::Pending
            }
        })
        .await
    }

    /// Closes the channel; the other end notices.
    pub fn close(&self) {
        match &self.0 {
            Out::InProcess { out, unread } => {
                out.close();
                unread.waiting.wake();
            }
            #[cfg(target_arch = "wasm32")]
            Out::Browser(channel) => channel.close(),
        }
    }

    fn is_closed(&self) -> bool {
        match &self.0 {
            Out::InProcess { out, .. } => out.is_closed(),
            #[cfg(target_arch = "wasm32")]
            Out::Browser(channel) => channel.is_closed(),
        }
    }
}

/// The receiving half. Dropping it closes the channel.
#[derive(Debug)]
pub struct Reader {
    incoming: async_channel::Receiver<Vec<u8>>,
    /// Of a channel within this process.
    unread: Option<Arc<Unread>>,
    /// Of the same end, to close it.
    writer: Writer,
}

impl Reader {
    /// The next message; `None` once the channel is closed and what had arrived was read. Dropping the future loses
    /// nothing.
    pub async fn recv(&mut self) -> Option<Vec<u8>> {
        let message = self.incoming.recv().await.ok()?;
        if let Some(unread) = &self.unread {
            unread.bytes.fetch_sub(message.len(), Ordering::Relaxed);
            unread.waiting.wake();
        }
        Some(message)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.writer.close();
        self.incoming.close();
        if let Some(unread) = &self.unread {
            unread.waiting.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::executor::block_on;

    use super::*;

    fn ends() -> [(Writer, Reader); 2] {
        let (a, b) = pair();
        [a.open().expect("is made"), b.open().expect("is made")]
    }

    #[test]
    fn messages_cross_and_room_is_waited_for() {
        let [(a, _a_reader), (_b, mut b_reader)] = ends();
        a.send(&[1; 100]).expect("sends");
        a.send(&[2; 50]).expect("sends");
        assert_eq!(a.buffered_bytes(), 150);
        assert!(a.room(50).now_or_never().is_none());
        assert_eq!(block_on(b_reader.recv()), Some(vec![1; 100]));
        assert_eq!(a.room(50).now_or_never(), Some(Ok(())));
        assert_eq!(a.send(&vec![0; MAX_MESSAGE_BYTES + 1]), Err(Closed));
    }

    #[test]
    fn either_end_closes_it() {
        let [(a, a_reader), (b, mut b_reader)] = ends();
        a.send(b"last").expect("sends");
        drop(a_reader);
        assert_eq!(block_on(b_reader.recv()), Some(b"last".to_vec()));
        assert_eq!(block_on(b_reader.recv()), None);
        assert_eq!(b.send(b"late"), Err(Closed));
        assert_eq!(block_on(b.room(0)), Err(Closed));
    }

    #[test]
    fn a_reader_that_is_too_far_behind_ends_it() {
        let [(a, _a_reader), (_b, mut b_reader)] = ends();
        let sent = (0..=INCOMING).filter(|_| a.send(&[0]).is_ok()).count();
        assert_eq!(sent, INCOMING);
        let read = std::iter::from_fn(|| block_on(b_reader.recv())).count();
        assert_eq!(read, INCOMING);
    }
}
