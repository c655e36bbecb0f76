//! From a target or a datagram to an authenticated connection.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use libp2p_identity::{Keypair, PeerId};
use tokio::sync::mpsc;

use super::channel::NativeChannel;
use super::driver::{Datagram, Driver, INBOX_DATAGRAMS, Local};
use super::link::{Link, LinkOwner};
use super::places::Places;
use super::session::{self, Ends};
use super::{Certificate, Config, Connection, Counters, Error, udp};
use crate::authenticate::{Certificates, Side, authenticate};
use crate::direct::{self, DialTarget};
use crate::fingerprint::Fingerprint;
use crate::substream::Substream;

/// What all connections of a transport share.
pub(super) struct Shared {
    pub(super) identity: Keypair,
    pub(super) certificate: Certificate,
    pub(super) config: Config,
    pub(super) counters: Counters,
    pub(super) places: Places,
}

/// A connection that is being made.
pub(super) struct Beginning {
    link: LinkOwner,
    noise: Substream<NativeChannel>,
    /// Where its datagrams go.
    pub(super) inbox: mpsc::Sender<Datagram>,
}

impl Beginning {
    /// Starts the connection `ufrag`. A client names the hash that it expects.
    pub(super) fn start(
        shared: &Shared,
        certificate: &Certificate,
        ufrag: &str,
        remote: SocketAddr,
        local: Local,
        expected: Option<Fingerprint>,
    ) -> Result<Self, Error> {
        let ends = Ends { local: local.address, remote };
        let (rtc, channel) = session::direct(certificate, ufrag, ends, expected)?;
        let link = Link::new();
        let (noise, end) = link.new_stream(true);
        let (inbox, datagrams) = mpsc::channel(INBOX_DATAGRAMS);
        let (silence_timeout, counters) = (shared.config.silence_timeout, shared.counters.clone());
        let mut driver = Driver::new(rtc, Arc::clone(&link), vec![local], datagrams, silence_timeout, counters);
        driver.add(channel, end);
        tokio::spawn(driver.run());
        Ok(Self { link: LinkOwner(link), noise, inbox })
    }

    /// Ready when the DTLS handshake is done, with the hash of the peer's certificate.
    pub(super) async fn connected(&self) -> Result<Fingerprint, Error> {
        poll_fn(|cx| self.link.0.poll_connected(cx)).await
    }

    /// Finds out who the peer is.
    pub(super) async fn authenticated(
        self,
        identity: &Keypair,
        side: Side,
        certificates: Certificates,
    ) -> Result<(PeerId, Connection), Error> {
        let peer = authenticate(identity, self.noise, side, certificates).await?;
        Ok((peer, Connection::new(self.link)))
    }
}

/// Runs a handshake within `timeout` and counts how it ends.
pub(super) async fn counted<T>(
    counters: &Counters,
    timeout: Duration,
    handshake: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let result = tokio::time::timeout(timeout, handshake).await.unwrap_or(Err(Error::Timeout));
    if result.is_err() {
        counters.failed();
    }
    result
}

/// Connects to the server at `target`, with a certificate and a socket of its own.
pub(super) async fn dial(shared: Arc<Shared>, target: DialTarget) -> Result<(PeerId, Connection), Error> {
    let handshake = async {
        let mine = Certificate::generate().map_err(|error| Error::Stack(error.to_string()))?;
        let mut random = [0; 16];
        getrandom::fill(&mut random).map_err(|error| Error::Stack(error.to_string()))?;
        let socket = Arc::new(udp::bind((udp::local_ip_towards(target.socket)?, 0).into())?);
        let local = Local { address: socket.local_addr()?, socket: Arc::clone(&socket) };
        let (address, name) = (local.address, direct::ufrag(random));
        let beginning = Beginning::start(&shared, &mine, &name, target.socket, local, Some(target.fingerprint))?;
        let nothing = |_: SocketAddr, _: &[u8]| false;
        tokio::spawn(udp::read(socket, address, beginning.inbox.clone(), shared.counters.clone(), nothing));
        let server = beginning.connected().await?;
        let certificates = Certificates { client: mine.fingerprint(), server };
        let (peer, connection) = beginning.authenticated(&shared.identity, Side::Client, certificates).await?;
        if target.peer.is_some_and(|expected| expected != peer) {
            return Err(Error::WrongPeer);
        }
        Ok((peer, connection))
    };
    counted(&shared.counters, shared.config.handshake_timeout, handshake).await
}
