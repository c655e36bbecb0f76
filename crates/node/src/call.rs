//! Calls over a port: requests out, replies matched by number.
//!
//! A message is a [`Packet`]: a DAG-CBOR header and bulk bytes as they are, so that they cross as a transferred
//! buffer and are never re-encoded. All sides come from one build; each protocol's version only catches a page that
//! runs beside a stale cached worker.

use std::collections::HashMap;
use std::sync::Arc;

use cdi_platform::channel::End;
use cdi_platform::port::{Packet, Port, PortError, Sender};
use cdi_platform::task::{self, MaybeSend};
use futures::channel::{mpsc, oneshot};
use futures::lock::Mutex;
use futures::{FutureExt as _, SinkExt as _, StreamExt as _, select};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Calls that wait to be sent.
const QUEUE: usize = 64;

/// A request with the number that its replies carry.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Request<Q> {
    /// Unique within the port.
    pub(crate) id: u64,
    /// What is asked.
    pub(crate) ask: Q,
}

/// A reply to the request of the same number.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Reply<A> {
    /// The request's number.
    pub(crate) id: u64,
    /// The answer.
    pub(crate) answer: A,
}

/// An answer, which may be one of several to the same request.
pub(crate) trait Part {
    /// Whether no other answer follows.
    fn is_last(&self) -> bool;
}

/// A message that cannot be read: the sides come from different builds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the page and its worker come from different builds: {0}")]
pub(crate) struct CodecError(String);

/// The other side of the port is gone, or never started.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the worker stopped")]
pub(crate) struct Gone;

/// Packs a header and a payload.
pub(crate) fn pack<T: Serialize>(header: &T, payload: Vec<u8>) -> Result<Packet, CodecError> {
    let header = serde_ipld_dagcbor::to_vec(header).map_err(|e| CodecError(e.to_string()))?;
    Ok(Packet { header, payload, channel: None })
}

/// Unpacks a header.
pub(crate) fn unpack<T: DeserializeOwned>(packet: &Packet) -> Result<T, CodecError> {
    serde_ipld_dagcbor::from_slice(&packet.header).map_err(|e| CodecError(e.to_string()))
}

/// Sends an answer from the side that answers.
pub(crate) fn reply<A: Serialize>(sender: &Sender, id: u64, answer: A, payload: Vec<u8>) {
    let sent = pack(&Reply { id, answer }, payload).map(|packet| sender.send(packet));
    if !matches!(sent, Ok(Ok(()))) {
        tracing::warn!(?sent, "reply not sent");
    }
}

/// The asking side of a port. Clones ask over the same port, which closes with the last of them.
#[derive(Debug)]
pub(crate) struct Caller<Q, A>(Arc<Mutex<mpsc::Sender<Call<Q, A>>>>);

#[derive(Debug)]
struct Call<Q, A> {
    ask: Q,
    payload: Vec<u8>,
    channel: Option<End>,
    pending: Pending<A>,
}

/// Who waits for an answer.
#[derive(Debug)]
enum Pending<A> {
    /// Somebody for the last one; those before it go to `earlier`, as far as it has room.
    Last { last: oneshot::Sender<(A, Vec<u8>)>, earlier: Option<mpsc::Sender<A>> },
    /// Somebody for every one.
    Every(Parts<A>),
}

type Parts<A> = mpsc::Sender<(A, Vec<u8>)>;

impl<Q, A> Clone for Caller<Q, A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<Q, A> Caller<Q, A>
where
    Q: Serialize + MaybeSend + 'static,
    A: DeserializeOwned + Part + MaybeSend + 'static,
{
    pub(crate) fn new(port: Port) -> Self {
        let (calls, queue) = mpsc::channel(QUEUE);
        task::spawn(exchange(port, queue));
        Self(Arc::new(Mutex::new(calls)))
    }

    /// Asks and waits for the last answer and its payload. Those before it go to `earlier`, as far as it has room.
    pub(crate) async fn call(
        &self,
        ask: Q,
        payload: Vec<u8>,
        earlier: Option<mpsc::Sender<A>>,
    ) -> Result<(A, Vec<u8>), Gone> {
        let (last, answer) = oneshot::channel();
        self.send(Call { ask, payload, channel: None, pending: Pending::Last { last, earlier } }).await?;
        answer.await.map_err(|_| Gone)
    }

    /// Asks; the answer is for whoever awaits the result, and everything asked later is asked after it.
    pub(crate) async fn tell(&self, ask: Q, payload: Vec<u8>) -> Result<oneshot::Receiver<(A, Vec<u8>)>, Gone> {
        let (last, answer) = oneshot::channel();
        self.send(Call { ask, payload, channel: None, pending: Pending::Last { last, earlier: None } }).await?;
        Ok(answer)
    }

    /// Asks, handing over a channel perhaps, and returns all answers. Those that are not read are kept up to `room`;
    /// with more of them it ends.
    pub(crate) async fn converse(
        &self,
        ask: Q,
        channel: Option<End>,
        room: usize,
    ) -> Result<mpsc::Receiver<(A, Vec<u8>)>, Gone> {
        let (every, answers) = mpsc::channel(room);
        self.send(Call { ask, payload: Vec::new(), channel, pending: Pending::Every(every) }).await?;
        Ok(answers)
    }

    async fn send(&self, call: Call<Q, A>) -> Result<(), Gone> {
        // One sender for all clones: every further one would add a place to the queue.
        self.0.lock().await.send(call).await.map_err(|_| Gone)
    }

    /// Whether the other side is known to be gone.
    pub(crate) async fn is_gone(&self) -> bool {
        self.0.lock().await.is_closed()
    }
}

/// Moves requests out and replies in. When the port closes, dropping the pending calls tells their callers.
async fn exchange<Q: Serialize, A: DeserializeOwned + Part>(mut port: Port, mut queue: mpsc::Receiver<Call<Q, A>>) {
    let mut pending = HashMap::new();
    let mut next_id = 1;
    loop {
        select! {
            call = queue.next() => {
                let Some(call) = call else { return };
                let request = Request { id: next_id, ask: call.ask };
                let packet = pack(&request, call.payload).map(|packet| Packet { channel: call.channel, ..packet });
                match packet.map(|packet| port.send(packet)) {
                    Ok(Ok(())) => {}
                    // Whoever asked hears no answer.
                    Ok(Err(PortError::NotTransferable)) => continue,
                    _ => return,
                }
                pending.insert(next_id, call.pending);
                next_id += 1;
            }
            packet = port.recv().fuse() => {
                let Some(packet) = packet else {
                    let reason = port.closed_reason().unwrap_or("it left");
                    return tracing::warn!(%reason, "a worker stopped");
                };
                settle(&mut pending, packet);
            }
        }
    }
}

fn settle<A: DeserializeOwned + Part>(pending: &mut HashMap<u64, Pending<A>>, packet: Packet) {
    let reply: Reply<A> = match unpack(&packet) {
        Ok(reply) => reply,
        Err(error) => return tracing::warn!(%error, "reply dropped"),
    };
    let is_last = reply.answer.is_last();
    let gone = match pending.get_mut(&reply.id) {
        Some(Pending::Every(every)) => every.try_send((reply.answer, packet.payload)).is_err(),
        Some(Pending::Last { earlier, .. }) if !is_last => {
            // A reader that is behind gets the next one.
            let _full = earlier.as_mut().map(|earlier| earlier.try_send(reply.answer));
            false
        }
        Some(Pending::Last { .. }) => {
            if let Some(Pending::Last { last, .. }) = pending.remove(&reply.id) {
                // Whoever asked may have gone.
                let _gone = last.send((reply.answer, packet.payload));
            }
            return;
        }
        None => return,
    };
    if gone || is_last {
        pending.remove(&reply.id);
    }
}
