//! The heartbeat of links with a session, `/cdi/<network>/1/beat`: while its stream is open, both ends send a byte
//! whenever they sent nothing else for 250 ms, and take a second of silence for the end of the link.

use std::time::Duration;

use cdi_platform::task;
use cdi_platform::time::Instant;
use cdi_types::PeerId;
use futures::channel::{mpsc, oneshot};
use futures::{AsyncReadExt as _, AsyncWriteExt as _, FutureExt as _, StreamExt as _, select};
use libp2p::swarm::ConnectionId;

use crate::handle::Command;
use crate::liveness::Looked;
use crate::transport;
use crate::worker::Worker;
use crate::{Net, NetError, NetStream};

/// A beat says nothing but that it was sent.
const BEAT: [u8; 1] = [0];

/// How long a doubtful connection brought no packet, where the transport knows.
pub(crate) type Doubt = (ConnectionId, Option<Duration>);

/// While it lives, the loss of the peer is noticed within a second, at both ends.
#[derive(Debug)]
pub struct Watch(#[allow(dead_code, reason = "held, not used")] oneshot::Sender<()>);

impl Net {
    /// Watches the best connection to `peer` closely. A peer that falls silent is disconnected: its streams end, and
    /// [`NetEvent::PeerDown`](crate::NetEvent::PeerDown) follows.
    ///
    /// # Errors
    /// Those of [`Net::open_stream`]: [`NetError::Unsupported`] for a peer that knows no heartbeat.
    pub async fn watch(&self, peer: PeerId) -> Result<Watch, NetError> {
        let stream = self.open_stream(peer, &self.beat_protocol()).await?;
        let (watch, watched) = oneshot::channel();
        self.send(Command::Beat { stream, watched: Some(watched) }).await?;
        Ok(Watch(watch))
    }
}

impl Worker {
    /// A heartbeat stream was opened, by this end while `watched` is not dropped, or by the other.
    pub(crate) fn on_beat_stream(&mut self, stream: NetStream, watched: Option<oneshot::Receiver<()>>) {
        let (wishes, queue) = mpsc::channel(0);
        if self.liveness.beat_on(stream.connection(), wishes, Instant::now()) {
            task::spawn(beat(stream, queue, watched));
        }
    }

    /// It is time: beats are sent, and who sent none for too long is given up.
    pub(crate) fn beat(&mut self) {
        let Looked { dead, doubtful } = self.liveness.beat(Instant::now());
        for connection in dead {
            self.close_dead(connection);
        }
        for (connection, peer) in doubtful {
            let silence = transport::silence(&self.swarm.behaviour().direct, peer);
            self.doubts.push(Box::pin(silence.map(move |silence| (connection, silence))));
        }
    }

    /// The transport said how long no packet came, if it can.
    pub(crate) fn on_doubt(&mut self, (connection, silence): Doubt) {
        if let Some(silence) = silence {
            self.liveness.packets(connection, silence, Instant::now());
        }
    }

    /// A timer fired: idle connections are looked at, if it is time.
    pub(crate) fn sweep(&mut self) {
        for connection in self.liveness.sweep(Instant::now()) {
            self.close_dead(connection);
        }
    }

    /// Closes a connection whose other end does not answer.
    pub(crate) fn break_off(&mut self, connection: ConnectionId) {
        if self.swarm.close_connection(connection) {
            self.ladder.fell_silent(connection);
        }
    }

    /// Closes a connection of which nothing is heard any more.
    pub(crate) fn close_dead(&mut self, connection: ConnectionId) {
        self.stats.silent_links += 1;
        tracing::info!(%connection, "silent: closed");
        self.break_off(connection);
    }
}

/// Sends a beat for each wish and reads those of the other end, until either end has enough.
async fn beat(stream: NetStream, mut wishes: mpsc::Receiver<()>, watched: Option<oneshot::Receiver<()>>) {
    let (mut reader, mut writer) = stream.split();
    let write = async {
        while wishes.next().await.is_some() {
            if writer.write_all(&BEAT).await.is_err() || writer.flush().await.is_err() {
                return;
            }
        }
    };
    let read = async {
        let mut buffer = [0; 64];
        while matches!(reader.read(&mut buffer).await, Ok(1..)) {}
    };
    let unwatched = async {
        match watched {
            // The sender never sends: it is dropped.
            Some(watched) => drop(watched.await),
            None => futures::future::pending().await,
        }
    };
    select! {
        () = Box::pin(write.fuse()) => {}
        () = Box::pin(read.fuse()) => {}
        () = Box::pin(unwatched.fuse()) => {}
    }
    // The other end sees the end of the stream either way.
    let _closed = writer.close().await;
}
