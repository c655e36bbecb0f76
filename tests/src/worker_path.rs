//! The worker path as it is measured: two pages agree on a channel, hand it over to a worker each, and the workers send
//! frames over it as the compute half does, without a stage.

use std::sync::Arc;

use cdi_net::{Lease, Net, worker_channel_protocol};
use cdi_platform::channel::{Reader, Writer};
use cdi_platform::port::{Packet, Port};
use cdi_platform::task::spawn;
use cdi_platform::time::Instant;
use cdi_types::channel::{Message, ids, rows};
use cdi_types::session::Frame;
use cdi_types::{Network, PeerId};
use futures::StreamExt as _;
use futures::future::try_join;
use futures::lock::Mutex;

use crate::streams::StreamFailure;

/// Links: what the other end does with their frames. These come back one by one.
pub const ECHO: u32 = 1;
/// They are confirmed together.
pub const SINK: u32 = 2;
/// As many come back, and all are confirmed.
pub const BOTH: u32 = 3;
/// Rows of one frame in bytes, as those of a prompt.
const CHUNK: usize = 64 * 1024;
/// What the browser keeps at most.
const WATER: usize = 256 * 1024;
/// What a worker says when it has its end of the channel.
const ATTACHED: &[u8] = b"attached";

fn wrong(what: &str) -> StreamFailure {
    StreamFailure::Wrong(what.to_owned())
}

/// A page's worker, and the channel that it has.
pub struct Path {
    worker: Mutex<Port>,
    lease: Mutex<Option<Lease>>,
}

impl Path {
    /// Starts the worker, and takes a channel that a peer offers.
    ///
    /// # Errors
    /// No worker starts, or somebody else takes such channels.
    pub async fn start(net: Net, worker_url: &str) -> Result<Arc<Self>, StreamFailure> {
        let worker = Port::spawn_worker(worker_url).map_err(|e| wrong(&e.to_string()))?;
        let path = Arc::new(Self { worker: Mutex::new(worker), lease: Mutex::new(None) });
        let mut incoming = net.accept(&worker_channel_protocol(Network::Testnet)).await?;
        let taking = path.clone();
        spawn(async move {
            while let Some((peer, stream)) = incoming.next().await {
                let taken = async {
                    let mut offered = net.offered_channel(peer, stream).await?;
                    let packet = Packet { channel: offered.end.take(), ..Packet::default() };
                    taking.ask(packet).await?;
                    *taking.lease.lock().await = Some(offered.accept(peer).await?);
                    Ok::<_, StreamFailure>(())
                };
                if let Err(error) = taken.await {
                    tracing::warn!(%peer, %error, "no channel");
                }
            }
        });
        Ok(path)
    }

    /// Makes a channel to the worker of a peer.
    ///
    /// # Errors
    /// The peer has none.
    pub async fn connect(&self, net: &Net, peer: PeerId) -> Result<(), StreamFailure> {
        let id = ids(&net.peer(), &peer).next().ok_or_else(|| wrong("no id"))?;
        let (end, lease) = net.offer_channel(peer, id).await?;
        self.ask(Packet { channel: Some(end), header: vec![1], ..Packet::default() }).await?;
        *self.lease.lock().await = Some(lease);
        Ok(())
    }

    /// Has the worker measure; what it returns is as in [`crate::streams`].
    ///
    /// # Errors
    /// The channel broke.
    pub async fn measure(&self, what: u32, bytes: u32, rounds: u32) -> Result<Vec<f64>, StreamFailure> {
        let payload = [what, bytes, rounds].into_iter().flat_map(u32::to_le_bytes).collect();
        let times = self.ask(Packet { payload, ..Packet::default() }).await?;
        Ok(times.as_chunks().0.iter().map(|eight| f64::from_le_bytes(*eight)).collect())
    }

    async fn ask(&self, packet: Packet) -> Result<Vec<u8>, StreamFailure> {
        let mut worker = self.worker.lock().await;
        worker.send(packet).map_err(|e| wrong(&e.to_string()))?;
        Ok(worker.recv().await.ok_or_else(|| wrong("the worker ended"))?.payload)
    }
}

/// The worker: takes one channel, and then serves it or measures over it.
///
/// # Errors
/// The channel broke, or this is no worker.
pub async fn work() -> Result<(), StreamFailure> {
    let mut port = Port::in_worker().map_err(|e| wrong(&e.to_string()))?;
    let mut packet = port.recv().await.ok_or_else(|| wrong("the page left"))?;
    let measures = !packet.header.is_empty();
    let ends = packet.channel.take().and_then(|end| end.open().ok());
    let (writer, mut reader) = ends.ok_or_else(|| wrong("no channel"))?;
    let say = |port: &Port, payload| port.send(Packet { payload, ..Packet::default() });
    say(&port, ATTACHED.to_vec()).map_err(|e| wrong(&e.to_string()))?;
    if !measures {
        return respond(&writer, &mut reader).await;
    }
    while let Some(packet) = port.recv().await {
        let [what, bytes, rounds] = packet.payload.as_chunks().0 else { return Err(wrong("not a command")) };
        let [what, bytes, rounds] = [what, bytes, rounds].map(|four| u32::from_le_bytes(*four));
        let times = measure(&writer, &mut reader, what, bytes, rounds).await?;
        let payload = times.into_iter().flat_map(f64::to_le_bytes).collect();
        say(&port, payload).map_err(|e| wrong(&e.to_string()))?;
    }
    Ok(())
}

async fn measure(
    writer: &Writer,
    reader: &mut Reader,
    what: u32,
    bytes: u32,
    rounds: u32,
) -> Result<Vec<f64>, StreamFailure> {
    let mut times = Vec::new();
    for _ in 0..rounds {
        let begin = Instant::now();
        if what == ECHO {
            send(writer, &rows(ECHO, &frame(bytes as usize))).await?;
            skip(reader, 1).await?;
        } else {
            send(writer, &Message::Credit { link: what, have: bytes }.encode()).await?;
            let back = if what == BOTH { bytes as usize } else { 0 };
            try_join(fill(writer, what, bytes as usize), skip(reader, back)).await?;
            credit(reader).await?;
        }
        times.push(begin.elapsed().as_secs_f64() * 1e3);
    }
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Does for the other end what it asks for, until the channel is closed.
async fn respond(writer: &Writer, reader: &mut Reader) -> Result<(), StreamFailure> {
    while let Some(message) = reader.recv().await {
        match Message::decode(&message).map_err(|e| wrong(&e.to_string()))? {
            Message::Rows { link: ECHO, frame } => {
                let frame = Frame::decode(frame).map_err(|e| wrong(&e.to_string()))?;
                send(writer, &rows(ECHO, &frame)).await?;
            }
            Message::Credit { link, have } => {
                let back = if link == BOTH { have as usize } else { 0 };
                try_join(fill(writer, link, back), skip(reader, have as usize)).await?;
                send(writer, &Message::Credit { link, have: 0 }.encode()).await?;
            }
            _ => return Err(wrong("an unknown link")),
        }
    }
    Ok(())
}

fn frame(bytes: usize) -> Frame {
    Frame { session: [1; 16], attempt: 0, position: 0, rows: 1, transcript: [0; 32], payload: vec![0; bytes] }
}

async fn send(writer: &Writer, message: &[u8]) -> Result<(), StreamFailure> {
    let closed = |_| wrong("the channel is closed");
    writer.room(WATER).await.map_err(closed)?;
    writer.send(message).map_err(closed)
}

async fn fill(writer: &Writer, link: u32, bytes: usize) -> Result<(), StreamFailure> {
    let (whole, mut left) = (frame(CHUNK), bytes);
    while left > 0 {
        let count = left.min(CHUNK);
        let message = if count == CHUNK { rows(link, &whole) } else { rows(link, &frame(count)) };
        send(writer, &message).await?;
        left -= count;
    }
    Ok(())
}

/// Reads frames until as many bytes of rows have come.
async fn skip(reader: &mut Reader, bytes: usize) -> Result<(), StreamFailure> {
    let mut left = bytes;
    while left > 0 {
        let message = reader.recv().await.ok_or_else(|| wrong("the channel is closed"))?;
        let Ok(Message::Rows { frame, .. }) = Message::decode(&message) else { return Err(wrong("not rows")) };
        let frame = Frame::decode(frame).map_err(|e| wrong(&e.to_string()))?;
        left = left.saturating_sub(frame.payload.len());
    }
    Ok(())
}

async fn credit(reader: &mut Reader) -> Result<(), StreamFailure> {
    let message = reader.recv().await.ok_or_else(|| wrong("the channel is closed"))?;
    match Message::decode(&message) {
        Ok(Message::Credit { .. }) => Ok(()),
        _ => Err(wrong("not a confirmation")),
    }
}
