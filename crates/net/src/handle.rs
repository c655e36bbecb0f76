//! The handle: what a node asks of the network.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cdi_platform::channel::End;
use cdi_platform::kv::KeyValue;
use cdi_types::ice::IceServer;
use cdi_types::{Keypair, Network, PeerId};
use futures::SinkExt as _;
use futures::channel::{mpsc, oneshot};
use futures::lock::Mutex;
use libp2p::StreamProtocol;

use crate::bans::Ban;
use crate::dials::{Reached, ReachedAddress};
use crate::event::Events;
use crate::streams::{OpenError, Opened};
use crate::worker::Worker;
use crate::{Address, Incoming, LinkInfo, LinkKind, NetError, NetStats, NetStream, gossip};

/// Commands that wait for the actor. A caller beyond it waits.
const COMMAND_QUEUE: usize = 64;
/// Connections of a node, relays aside.
const MAX_CONNECTIONS: u32 = 100;
/// Longest protocol name. libp2p's negotiation takes 140 with room to spare.
const MAX_PROTOCOL_CHARS: usize = 128;

/// How to start a node's network.
#[derive(Debug)]
pub struct NetArgs {
    /// The node's key: its peer id follows from it.
    pub keypair: Keypair,
    /// The network to join.
    pub network: Network,
    /// Relays to stay connected to.
    pub relays: Vec<Address>,
    /// Addresses to listen on. A tab cannot listen; it is reached through its relays.
    pub listen: Vec<Address>,
    /// Further STUN and TURN servers; those of the relays are used anyway.
    pub ice_servers: Vec<IceServer>,
    /// Name and version of the program, told to peers.
    pub agent: String,
    /// What has a sensible default.
    pub options: NetOptions,
}

/// What has a sensible default.
#[derive(Debug, Clone)]
pub struct NetOptions {
    /// Where bans, good relays and good peers are kept. Nothing outlives the program without it.
    pub store: Option<KeyValue>,
    /// Addresses of further relays, used when those of [`NetArgs::relays`] fail or are slow.
    pub more_relays: Vec<Address>,
    /// Connections at most, relays aside.
    pub max_connections: u32,
    /// Whether peers in the same local network are looked for (mDNS). Only native nodes can.
    pub lan: bool,
    /// Whether links of one's own are made and taken over WebRTC, for which a peer gets to know this node's IP
    /// addresses. Without them every link that is not dialled at an address goes through a relay.
    pub direct: bool,
}

impl Default for NetOptions {
    fn default() -> Self {
        Self { store: None, more_relays: Vec::new(), max_connections: MAX_CONNECTIONS, lan: false, direct: true }
    }
}

/// A handle to the swarm actor. Cheap to clone; the actor stops when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Net {
    peer: PeerId,
    network: Network,
    /// One sender for all clones: every further one would add a place to the queue.
    commands: Arc<Mutex<mpsc::Sender<Command>>>,
}

/// What a handle asks of the actor.
pub(crate) enum Command {
    Publish { data: Bytes, respond_to: oneshot::Sender<Result<(), NetError>> },
    Open { peer: PeerId, protocol: StreamProtocol, respond_to: Opened },
    Accept { protocol: StreamProtocol, respond_to: oneshot::Sender<Option<Incoming>> },
    Dial { peer: PeerId, respond_to: Reached },
    DialAddress { address: Address, respond_to: ReachedAddress },
    Disconnect { peer: PeerId },
    SetRelays { addresses: Vec<Address> },
    Report { peer: PeerId, delivered: bool },
    Ban { peer: PeerId, length: Duration },
    Unban { peer: PeerId },
    Bans { respond_to: oneshot::Sender<Vec<Ban>> },
    Links { respond_to: oneshot::Sender<Vec<LinkInfo>> },
    Beat { stream: NetStream, watched: Option<oneshot::Receiver<()>> },
    IceServers { respond_to: oneshot::Sender<Vec<IceServer>> },
    Stats { respond_to: oneshot::Sender<NetStats> },
    SideChannel { peer: PeerId, named: Option<String>, id: u16, respond_to: oneshot::Sender<Option<(String, End)>> },
    Wake,
    Shutdown { respond_to: oneshot::Sender<()> },
}

impl Net {
    /// Starts the actor. Natively this needs a tokio runtime around it.
    ///
    /// # Errors
    /// [`NetError::Start`] or [`NetError::Listen`].
    pub fn start(args: NetArgs) -> Result<(Self, Events), NetError> {
        let peer = args.keypair.public().peer_id();
        let (commands, receiver) = mpsc::channel(COMMAND_QUEUE);
        let network = args.network;
        let (worker, events) = Worker::new(args, receiver)?;
        #[allow(
            clippy::arc_with_non_send_sync,
            reason = "natively it is Send and Sync; in a browser nothing leaves its thread"
        )]
        let commands = Arc::new(Mutex::new(commands));
        // Boxed: the swarm's state is large.
        cdi_platform::task::spawn(Box::pin(worker.run()));
        Ok((Self { peer, network, commands }, events))
    }

    /// Name of the heartbeat protocol.
    pub(crate) fn beat_protocol(&self) -> String {
        crate::beat_protocol(self.network)
    }

    /// The network that it is on.
    pub(crate) const fn network(&self) -> Network {
        self.network
    }

    /// This node's peer id.
    #[must_use]
    pub fn peer(&self) -> PeerId {
        self.peer
    }

    /// Announces `data` to everybody on the network. That nobody listens yet is not an error.
    ///
    /// # Errors
    /// [`NetError::TooLarge`], [`NetError::Publish`] or [`NetError::Stopped`].
    pub async fn publish(&self, data: Bytes) -> Result<(), NetError> {
        if !gossip::is_acceptable(data.len()) {
            let limit = cdi_types::advert::MAX_ADVERT_BYTES;
            return Err(NetError::TooLarge { bytes: data.len(), limit });
        }
        self.ask(|respond_to| Command::Publish { data, respond_to }).await?
    }

    /// Opens a stream to a peer, on the best connection to it; dials it when there is none.
    ///
    /// # Errors
    /// [`NetError::ProtocolName`], [`NetError::Unsupported`], [`NetError::Stream`], those of [`Net::dial`].
    pub async fn open_stream(&self, peer: PeerId, protocol: &str) -> Result<NetStream, NetError> {
        let name = protocol_name(protocol)?;
        self.dial_if_needed(peer).await?;
        let opened: Result<Result<NetStream, OpenError>, NetError> =
            self.ask(|respond_to| Command::Open { peer, protocol: name, respond_to }).await;
        match opened {
            Ok(Ok(stream)) => {
                self.report(peer, true).await?;
                Ok(stream)
            }
            Ok(Err(OpenError::Unsupported)) => Err(NetError::Unsupported { peer, protocol: protocol.to_owned() }),
            Ok(Err(OpenError::Failed(reason))) => {
                self.report(peer, false).await?;
                Err(NetError::Stream { peer, reason })
            }
            // The actor drops the request when the connection goes away.
            Err(_) if !self.commands.lock().await.is_closed() => Err(NetError::NotConnected(peer)),
            Err(error) => Err(error),
        }
    }

    /// Takes the streams that peers open with `protocol`, until the result is dropped.
    ///
    /// # Errors
    /// [`NetError::ProtocolName`], [`NetError::ProtocolTaken`] or [`NetError::Stopped`].
    pub async fn accept(&self, protocol: &str) -> Result<Incoming, NetError> {
        let name = protocol_name(protocol)?;
        let incoming = self.ask(|respond_to| Command::Accept { protocol: name, respond_to }).await?;
        incoming.ok_or_else(|| NetError::ProtocolTaken(protocol.to_owned()))
    }

    /// Reaches a peer: directly over a relay's signalling where this node can, else through a relay.
    /// A peer that is reached directly already is left alone.
    ///
    /// # Errors
    /// [`NetError::Dial`], [`NetError::Busy`] or [`NetError::Stopped`].
    pub async fn dial(&self, peer: PeerId) -> Result<LinkKind, NetError> {
        self.ask(|respond_to| Command::Dial { peer, respond_to }).await?
    }

    /// Reaches whoever answers at an address.
    ///
    /// # Errors
    /// [`NetError::DialAddress`], [`NetError::Busy`] or [`NetError::Stopped`].
    pub async fn dial_address(&self, address: Address) -> Result<PeerId, NetError> {
        self.ask(|respond_to| Command::DialAddress { address, respond_to }).await?
    }

    /// Closes all connections to a peer.
    ///
    /// # Errors
    /// [`NetError::Stopped`].
    pub async fn disconnect(&self, peer: PeerId) -> Result<(), NetError> {
        self.send(Command::Disconnect { peer }).await
    }

    /// A peer did what it had promised, or did not: an answer in time, a stage that went on. Counts for its score;
    /// who delivers next to nothing is banned for a while.
    ///
    /// # Errors
    /// [`NetError::Stopped`].
    pub async fn report(&self, peer: PeerId, delivered: bool) -> Result<(), NetError> {
        self.send(Command::Report { peer, delivered }).await
    }

    /// Closes all connections to a peer and takes none for `length`, at most a week. A relay is not banned.
    ///
    /// # Errors
    /// [`NetError::Stopped`].
    pub async fn ban(&self, peer: PeerId, length: Duration) -> Result<(), NetError> {
        self.send(Command::Ban { peer, length }).await
    }

    /// Ends a ban.
    ///
    /// # Errors
    /// [`NetError::Stopped`].
    pub async fn unban(&self, peer: PeerId) -> Result<(), NetError> {
        self.send(Command::Unban { peer }).await
    }

    /// The bans that hold.
    ///
    /// # Errors
    /// [`NetError::Stopped`].
    pub async fn bans(&self) -> Result<Vec<Ban>, NetError> {
        self.ask(|respond_to| Command::Bans { respond_to }).await
    }

    /// The connected peers, relays aside.
    ///
    /// # Errors
    /// [`NetError::Stopped`].
    pub async fn links(&self) -> Result<Vec<LinkInfo>, NetError> {
        self.ask(|respond_to| Command::Links { respond_to }).await
    }

    /// The counters.
    ///
    /// # Errors
    /// [`NetError::Stopped`].
    pub async fn stats(&self) -> Result<NetStats, NetError> {
        self.ask(|respond_to| Command::Stats { respond_to }).await
    }

    /// The STUN and TURN servers that new direct links are made with.
    ///
    /// # Errors
    /// [`NetError::Stopped`].
    pub async fn ice_servers(&self) -> Result<Vec<IceServer>, NetError> {
        self.ask(|respond_to| Command::IceServers { respond_to }).await
    }

    /// The tab was shown again, or the network changed: relays that wait for their time are tried now.
    ///
    /// # Errors
    /// [`NetError::Stopped`].
    pub async fn wake(&self) -> Result<(), NetError> {
        self.send(Command::Wake).await
    }

    /// Stays connected to these relays from now on. One that is among them already is left as it is.
    ///
    /// # Errors
    /// [`NetError::Stopped`].
    pub async fn set_relays(&self, addresses: Vec<Address>) -> Result<(), NetError> {
        self.send(Command::SetRelays { addresses }).await
    }

    /// Closes all connections cleanly, so that peers notice at once, and stops the actor.
    pub async fn shutdown(&self) {
        // An error says that it has stopped already.
        let _ = self.ask(|respond_to| Command::Shutdown { respond_to }).await;
    }

    pub(crate) async fn dial_if_needed(&self, peer: PeerId) -> Result<(), NetError> {
        if self.links().await?.iter().any(|l| l.peer == peer) {
            return Ok(());
        }
        self.dial(peer).await.map(|_| ())
    }

    pub(crate) async fn send(&self, command: Command) -> Result<(), NetError> {
        self.commands.lock().await.send(command).await.map_err(|_| NetError::Stopped)
    }

    pub(crate) async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, NetError> {
        let (respond_to, response) = oneshot::channel();
        self.send(command(respond_to)).await?;
        response.await.map_err(|_| NetError::Stopped)
    }
}

fn protocol_name(name: &str) -> Result<StreamProtocol, NetError> {
    if name.len() > MAX_PROTOCOL_CHARS {
        return Err(NetError::ProtocolName(name.to_owned()));
    }
    StreamProtocol::try_from_owned(name.to_owned()).map_err(|_| NetError::ProtocolName(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    #[test]
    fn the_queue_of_commands_is_bounded_however_many_handles_there_are() {
        let (commands, mut queue) = mpsc::channel(COMMAND_QUEUE);
        let net = Net { peer: PeerId::random(), network: Network::Testnet, commands: Arc::new(Mutex::new(commands)) };
        let handles = vec![net; 3 * COMMAND_QUEUE];
        let sent = handles.iter().filter(|net| matches!(net.wake().now_or_never(), Some(Ok(())))).count();
        assert_eq!(sent, COMMAND_QUEUE);
        // The one that found no room holds the place of the one sender.
        for _ in 0..2 {
            assert!(block_on(queue.next()).is_some());
        }
        assert!(handles[0].wake().now_or_never().is_some(), "there is room again");
    }
}
