//! Message ports between the two halves of a node: page and compute worker in a browser, two threads (or
//! one) natively.
//!
//! Sending never waits. The protocol above bounds what is in flight: a sender that gets more than
//! [`CAPACITY`] packets ahead of its reader has broken it. In one process it is told so
//! ([`PortError::Full`]); between page and worker, where a sender cannot know, the reader closes the port.

use std::sync::{Arc, OnceLock};

use async_channel::{TrySendError, WeakReceiver};

use crate::channel::End;

#[cfg(target_arch = "wasm32")]
mod browser;

/// Most packets that wait for a reader.
pub const CAPACITY: usize = 1024;

/// A message: a small encoded header and bulk bytes. Between page and worker both travel as transferred
/// buffers, which costs one copy out of and one into WebAssembly memory, and no structured clone.
#[derive(Debug, Default)]
pub struct Packet {
    /// The encoded message.
    pub header: Vec<u8>,
    /// Bytes that belong to it, such as a tensor or a block.
    pub payload: Vec<u8>,
    /// A channel to another node that changes hands: the receiver opens it.
    pub channel: Option<End>,
}

/// Why a packet was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PortError {
    /// The other side is gone; the text says why.
    #[error("the port is closed: {0}")]
    Closed(String),
    /// The other side is [`CAPACITY`] packets behind.
    #[error("the port is full")]
    Full,
    /// The packet's channel cannot be made, or not be handed over. The port goes on.
    #[error("a channel cannot be handed over")]
    NotTransferable,
}

/// One end of a connection.
#[derive(Debug)]
pub struct Port {
    sender: Sender,
    receiver: Receiver,
}

/// The sending half of a [`Port`]. Clones send over the same port.
#[derive(Debug, Clone)]
pub struct Sender(Link);

/// The receiving half of a [`Port`].
#[derive(Debug)]
pub struct Receiver {
    packets: async_channel::Receiver<Packet>,
    reason: Reason,
    /// In a browser the worker lives as long as its port is held.
    #[cfg(target_arch = "wasm32")]
    _link: Option<Link>,
}

/// Why the port was closed, once it is.
type Reason = Arc<OnceLock<String>>;

#[derive(Debug, Clone)]
enum Link {
    InProcess {
        out: async_channel::Sender<Packet>,
        /// What the reader of this end reads from, to close it.
        back: WeakReceiver<Packet>,
        reason: Reason,
    },
    #[cfg(target_arch = "wasm32")]
    Browser(std::rc::Rc<browser::Link>),
}

impl Port {
    /// Two ends of a connection within this process, in either direction bounded to [`CAPACITY`] packets.
    #[must_use]
    pub fn pair() -> (Self, Self) {
        let (to_left, left_packets) = async_channel::bounded(CAPACITY);
        let (to_right, right_packets) = async_channel::bounded(CAPACITY);
        let reason = Reason::default();
        let left = Self::in_process(to_right, left_packets, reason.clone());
        (left, Self::in_process(to_left, right_packets, reason))
    }

    /// A native process has no workers: use [`Port::pair`] and [`crate::task::spawn_dedicated`].
    ///
    /// # Errors
    /// Always [`PortError::Closed`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn spawn_worker(_url: &str) -> Result<Self, PortError> {
        Err(PortError::Closed("not in a browser".to_owned()))
    }

    /// A native process is not a worker.
    ///
    /// # Errors
    /// Always [`PortError::Closed`].
    #[cfg(not(target_arch = "wasm32"))]
    pub fn in_worker() -> Result<Self, PortError> {
        Err(PortError::Closed("not in a browser".to_owned()))
    }

    fn in_process(
        out: async_channel::Sender<Packet>,
        packets: async_channel::Receiver<Packet>,
        reason: Reason,
    ) -> Self {
        let link = Link::InProcess { out, back: packets.downgrade(), reason: reason.clone() };
        let receiver = Receiver {
            packets,
            reason,
            #[cfg(target_arch = "wasm32")]
            _link: None,
        };
        Self { sender: Sender(link), receiver }
    }

    /// Sends a packet without waiting.
    ///
    /// # Errors
    /// [`PortError`].
    pub fn send(&self, packet: Packet) -> Result<(), PortError> {
        self.sender.send(packet)
    }

    /// The next packet; `None` once the port is closed and what had arrived was read.
    pub async fn recv(&mut self) -> Option<Packet> {
        self.receiver.recv().await
    }

    /// Why the port is closed, in words for a log; `None` while it is open or when the other side just left.
    #[must_use]
    pub fn closed_reason(&self) -> Option<&str> {
        self.receiver.closed_reason()
    }

    /// Ends the connection on both sides. A worker is stopped where it stands.
    pub fn terminate(self) {
        self.sender.terminate("terminated");
    }

    /// The two halves, for an actor that reads in one place and sends from many.
    #[must_use]
    pub fn split(self) -> (Sender, Receiver) {
        (self.sender, self.receiver)
    }
}

impl Sender {
    /// Sends a packet without waiting.
    ///
    /// # Errors
    /// [`PortError`].
    pub fn send(&self, packet: Packet) -> Result<(), PortError> {
        match &self.0 {
            Link::InProcess { out, reason, .. } => out.try_send(packet).map_err(|error| match error {
                TrySendError::Full(_) => PortError::Full,
                TrySendError::Closed(_) => closed(reason),
            }),
            #[cfg(target_arch = "wasm32")]
            Link::Browser(link) => link.send(packet),
        }
    }

    /// Ends the connection on both sides, giving a reason. A worker is stopped where it stands.
    pub fn terminate(&self, why: &str) {
        match &self.0 {
            Link::InProcess { out, back, reason } => {
                // The first reason stands.
                let _earlier = reason.set(why.to_owned());
                out.close();
                if let Some(back) = back.upgrade() {
                    back.close();
                }
            }
            #[cfg(target_arch = "wasm32")]
            Link::Browser(link) => link.close(why),
        }
    }
}

impl Receiver {
    /// The next packet; `None` once the port is closed and what had arrived was read. Dropping the future
    /// loses nothing.
    pub async fn recv(&mut self) -> Option<Packet> {
        self.packets.recv().await.ok()
    }

    /// Why the port is closed, in words for a log; `None` while it is open or when the other side just left.
    #[must_use]
    pub fn closed_reason(&self) -> Option<&str> {
        self.reason.get().map(String::as_str)
    }
}

fn closed(reason: &Reason) -> PortError {
    PortError::Closed(reason.get().map_or_else(|| "the other side left".to_owned(), Clone::clone))
}
