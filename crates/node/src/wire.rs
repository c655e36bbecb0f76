//! Messages to and from another node, or from this node to itself.
//!
//! A node runs stages for its own questions exactly as it runs them for others: the only difference is
//! that the messages never leave the process.

use std::sync::Arc;

use cdi_net::NetStream;
use cdi_net::framed::{read_message, write_message};
use cdi_platform::task::{self, AbortOnDrop};
use cdi_platform::time::Instant;
use futures::channel::mpsc;
use futures::{AsyncReadExt as _, AsyncWriteExt as _, SinkExt as _, StreamExt as _};

use crate::lane::Lane;
use crate::uplink::Uplink;

/// Messages that wait in each direction; a sender that is further ahead waits.
const QUEUE: usize = 32;

/// A two-way link of whole messages.
#[derive(Debug)]
pub(crate) struct Wire {
    sender: mpsc::Sender<Message>,
    receiver: mpsc::Receiver<Message>,
    _reader: Option<AbortOnDrop>,
    /// Whatever is to end with the link.
    _held: Option<AbortOnDrop>,
}

#[derive(Debug)]
struct Message {
    bytes: Vec<u8>,
    /// Whether it lets others to the same peer go first.
    bulk: bool,
}

/// The link is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the link is gone")]
pub(crate) struct Lost;

impl Wire {
    /// Both ends of a link within this node.
    pub(crate) fn pair() -> (Self, Self) {
        let (a, to_a) = mpsc::channel(QUEUE);
        let (b, to_b) = mpsc::channel(QUEUE);
        let end = |sender, receiver| Self { sender, receiver, _reader: None, _held: None };
        (end(a, to_b), end(b, to_a))
    }

    /// A link over a stream; messages above `limit` bytes end it. Links to one peer share a lane; the bulk of what is
    /// sent is measured by `uplink`.
    pub(crate) fn over(stream: NetStream, limit: usize, lane: Arc<Lane>, uplink: Arc<Uplink>) -> Self {
        let (mut reader, mut writer) = stream.split();
        let (sender, mut outgoing) = mpsc::channel::<Message>(QUEUE);
        let (mut incoming, receiver) = mpsc::channel(QUEUE);
        task::spawn(async move {
            while let Some(message) = outgoing.next().await {
                let _turn = lane.turn(message.bulk).await;
                let started = Instant::now();
                if write_message(&mut writer, &message.bytes, limit).await.is_err() {
                    return;
                }
                if message.bulk {
                    uplink.sent(message.bytes.len(), started.elapsed());
                }
            }
            // The other side notices the end of the stream; nobody is left here to be told of a failure.
            let _closed = writer.close().await;
        });
        let reader = task::spawn(async move {
            loop {
                match read_message(&mut reader, limit).await {
                    Ok(Some(bytes)) => {
                        if incoming.send(Message { bytes, bulk: false }).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => return,
                    Err(error) => return tracing::debug!(%error, "link ended"),
                }
            }
        });
        Self { sender, receiver, _reader: Some(reader.abort_on_drop()), _held: None }
    }

    /// The link, with a task that ends with it.
    pub(crate) fn holding(self, task: AbortOnDrop) -> Self {
        Self { _held: Some(task), ..self }
    }

    /// Sends a message; waits while the queue is full.
    pub(crate) async fn send(&mut self, bytes: Vec<u8>) -> Result<(), Lost> {
        self.sender.send(Message { bytes, bulk: false }).await.map_err(|_| Lost)
    }

    /// Sends a message that may wait for those of other links to the peer.
    pub(crate) async fn send_bulk(&mut self, bytes: Vec<u8>) -> Result<(), Lost> {
        self.sender.send(Message { bytes, bulk: true }).await.map_err(|_| Lost)
    }

    /// The next message; `None` when the link is gone. Dropping the future loses nothing.
    pub(crate) async fn recv(&mut self) -> Option<Vec<u8>> {
        self.receiver.next().await.map(|message| message.bytes)
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn a_local_link_delivers_and_ends() {
        block_on(async {
            let (mut a, mut b) = Wire::pair();
            assert_eq!(a.send(b"hello".to_vec()).await, Ok(()));
            assert_eq!(b.recv().await, Some(b"hello".to_vec()));
            drop(a);
            assert_eq!(b.recv().await, None);
            assert_eq!(b.send(vec![]).await, Err(Lost));
        });
    }
}
