//! What the network tells its owner.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use cdi_types::PeerId;
use futures::Stream;
use futures::channel::mpsc;

use crate::{Address, LinkInfo, LinkKind, NetStats};

/// Events that wait for their reader. Beyond it events are lost, and [`NetEvent::Lagged`] says so.
const EVENT_QUEUE: usize = 1024;

/// What changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NetEvent {
    /// This node can be reached at the address.
    Listening(Address),
    /// The relay is connected and holds a reservation: other nodes reach this one through it.
    RelayUp {
        /// The relay.
        peer: PeerId,
        /// Where it was dialled.
        address: Address,
        /// The transport in plain words, e.g. `WebSocket`.
        transport: &'static str,
    },
    /// The relay is not usable; it is tried again after `retry_in`.
    RelayDown {
        /// Where it was dialled.
        address: Address,
        /// Why, in plain words.
        reason: String,
        /// When the next attempt comes.
        retry_in: Duration,
        /// Relays that are still usable.
        others_up: usize,
    },
    /// The first connection to a peer came up.
    PeerUp {
        /// The peer.
        peer: PeerId,
        /// How it is reached.
        link: LinkKind,
    },
    /// A peer is now reached in another way.
    PeerLink {
        /// The peer.
        peer: PeerId,
        /// How it is reached now.
        link: LinkKind,
    },
    /// The last connection to a peer is gone.
    PeerDown {
        /// The peer.
        peer: PeerId,
    },
    /// A peer said which program it runs.
    Identified {
        /// The peer.
        peer: PeerId,
        /// Its program, at most 128 characters.
        agent: String,
    },
    /// A neighbour listens to announcements: what is published now reaches it.
    Neighbour {
        /// The neighbour; it may be a relay.
        peer: PeerId,
    },
    /// Somebody announced something. The signature of `source` has been checked, the content has not.
    Gossip {
        /// Who published it; not necessarily connected.
        source: PeerId,
        /// What it said.
        data: Bytes,
    },
    /// What is known of a link changed: its kind at once, its figures at most once a second.
    Link(LinkInfo),
    /// A measured round trip.
    Rtt {
        /// The peer.
        peer: PeerId,
        /// The time.
        rtt: Duration,
    },
    /// Events were lost because this stream was not read; ask [`Net::links`](crate::Net::links).
    Lagged,
}

/// The stream of events. Ends when the actor stops.
#[derive(Debug)]
pub struct Events(mpsc::Receiver<NetEvent>);

impl Stream for Events {
    type Item = NetEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<NetEvent>> {
        Pin::new(&mut self.0).poll_next(cx)
    }
}

/// The actor's end: never waits for the reader, so that a slow reader cannot stall the swarm.
pub(crate) struct EventSender {
    queue: mpsc::Sender<NetEvent>,
    lagged: bool,
}

impl EventSender {
    /// Both ends of a new queue.
    pub(crate) fn new() -> (Self, Events) {
        let (queue, events) = mpsc::channel(EVENT_QUEUE);
        (Self { queue, lagged: false }, Events(events))
    }

    /// Queues `event`, or counts it as lost.
    pub(crate) fn send(&mut self, event: NetEvent, stats: &mut NetStats) {
        if self.lagged && self.queue.try_send(NetEvent::Lagged).is_ok() {
            self.lagged = false;
        }
        if let Err(error) = self.queue.try_send(event)
            && error.is_full()
        {
            stats.events_lost += 1;
            self.lagged = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn a_reader_that_fell_behind_is_told() {
        let (mut sender, mut events) = EventSender::new();
        let mut stats = NetStats::default();
        let event = || NetEvent::Rtt { peer: PeerId::random(), rtt: Duration::ZERO };
        for _ in 0..EVENT_QUEUE + 10 {
            sender.send(event(), &mut stats);
        }
        assert!(stats.events_lost > 0);
        for _ in 0..EVENT_QUEUE {
            assert!(matches!(block_on(events.next()), Some(NetEvent::Rtt { .. })));
        }
        sender.send(event(), &mut stats);
        let rest: Vec<_> = block_on(events.by_ref().take(3).collect());
        assert!(rest.contains(&NetEvent::Lagged), "{rest:?}");
    }
}
