//! Signalling streams on one relayed connection.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p_core::upgrade::ReadyUpgrade;
use libp2p_swarm::handler::{ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound};
use libp2p_swarm::{
    ConnectionHandler, ConnectionHandlerEvent, Stream, StreamProtocol, StreamUpgradeError, SubstreamProtocol,
};

use super::{Error, Reply};
use crate::admission::MAX_PENDING_HANDSHAKES_PER_PEER;
use crate::signalling::PROTOCOL;

/// Opens signalling streams for the behaviour and hands over those of the peer.
pub struct Handler {
    requests: VecDeque<Reply>,
    accepted: VecDeque<Stream>,
}

impl Handler {
    pub(super) fn new() -> Self {
        Self { requests: VecDeque::new(), accepted: VecDeque::new() }
    }
}

fn protocol<Info>(info: Info) -> SubstreamProtocol<ReadyUpgrade<StreamProtocol>, Info> {
    SubstreamProtocol::new(ReadyUpgrade::new(StreamProtocol::new(PROTOCOL)), info)
}

impl ConnectionHandler for Handler {
    /// Open a signalling stream and send it there.
    type FromBehaviour = Reply;
    /// The peer opened a signalling stream.
    type ToBehaviour = Stream;
    type InboundProtocol = ReadyUpgrade<StreamProtocol>;
    type OutboundProtocol = ReadyUpgrade<StreamProtocol>;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Reply;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol> {
        protocol(())
    }

    fn connection_keep_alive(&self) -> bool {
        !self.requests.is_empty()
    }

    fn on_behaviour_event(&mut self, reply: Reply) {
        // Bounded: every request holds an admission permit.
        self.requests.push_back(reply);
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Reply, Stream>> {
        if let Some(stream) = self.accepted.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(stream));
        }
        while let Some(reply) = self.requests.pop_front() {
            if !reply.is_canceled() {
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol: protocol(reply) });
            }
        }
        Poll::Pending
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<Self::InboundProtocol, Self::OutboundProtocol, (), Reply>,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: stream, .. })
                if self.accepted.len() < MAX_PENDING_HANDSHAKES_PER_PEER =>
            {
                self.accepted.push_back(stream);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: stream, info: reply }) => {
                // The dial may have been given up; the stream is then dropped, which resets it.
                let _ = reply.send(Ok(stream));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: reply, error }) => {
                let _ = reply.send(Err(Error::SignallingStream(reason(error))));
            }
            _ => {}
        }
    }
}

fn reason(error: StreamUpgradeError<Infallible>) -> String {
    match error {
        StreamUpgradeError::Timeout => "timed out".to_owned(),
        StreamUpgradeError::NegotiationFailed => "the peer does not support WebRTC".to_owned(),
        StreamUpgradeError::Io(error) => error.to_string(),
        StreamUpgradeError::Apply(never) => match never {},
    }
}
