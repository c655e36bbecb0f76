//! After sleep, a change of network or a while in the background: which connections are still alive?
//!
//! A connection that died meanwhile looks as it did before, until something is sent on it. So a stream is opened on
//! each; one that does not answer within [`PATIENCE`] is closed, and whoever needs it dials again.

use std::time::Duration;

use cdi_platform::time::Instant;
use cdi_types::PeerId;
use futures::channel::oneshot;
use libp2p::StreamProtocol;
use libp2p::swarm::ConnectionId;

use crate::NetStream;
use crate::streams::OpenError;
use crate::worker::Worker;

/// What every libp2p program speaks.
const PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");
/// Time for an answer. A network that has just come back is slow at first.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection that was asked.
#[derive(Debug)]
struct Probe {
    connection: ConnectionId,
    deadline: Instant,
    answer: oneshot::Receiver<Result<NetStream, OpenError>>,
}

impl Probe {
    /// Whether something came back; a refusal is an answer too.
    fn is_answered(&mut self) -> bool {
        matches!(self.answer.try_recv(), Ok(Some(Ok(_) | Err(OpenError::Unsupported))))
    }
}

/// Connections that were asked and have not answered.
#[derive(Debug, Default)]
pub(crate) struct Probes(Vec<Probe>);

impl Probes {
    /// When the next one has had its time.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.0.iter().map(|probe| probe.deadline).min()
    }

    /// Those that have not answered in time.
    fn take_dead(&mut self, now: Instant) -> Vec<ConnectionId> {
        self.0.retain_mut(|probe| !probe.is_answered());
        let dead = self.0.extract_if(.., |probe| probe.deadline <= now);
        dead.map(|probe| probe.connection).collect()
    }
}

impl Worker {
    /// Tries waiting relays at once, and asks every connection whether it is alive.
    pub(crate) fn wake(&mut self, now: Instant) {
        self.relays.wake(now);
        self.ladder.wake(now);
        let connections: Vec<(PeerId, ConnectionId)> =
            self.relays.connections().chain(self.links.connected()).collect();
        for (peer, connection) in connections {
            if self.probes.0.iter().any(|probe| probe.connection == connection) {
                continue;
            }
            let (sender, answer) = oneshot::channel();
            self.swarm.behaviour_mut().streams.open(peer, connection, PROTOCOL, sender);
            self.probes.0.push(Probe { connection, deadline: now + PATIENCE, answer });
        }
    }

    /// Closes connections that were asked and stayed silent.
    pub(crate) fn close_silent(&mut self, now: Instant) {
        for connection in self.probes.take_dead(now) {
            self.stats.found_dead += 1;
            self.break_off(connection);
        }
    }
}
