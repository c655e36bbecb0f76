//! The one UDP socket of a server: takes datagrams to their connections and lets new ones begin.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::crypto::CryptoProvider;
use str0m::ice::StunMessage;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::dial::{Beginning, Shared, counted};
use super::driver::{Datagram, Local};
use super::places::Place;
use super::rate::RateLimit;
use super::table::{Route, Table};
use super::udp::{ERROR_PAUSE, MAX_DATAGRAM_BYTES};
use crate::authenticate::Certificates;

/// How often connections that are over are forgotten.
const SWEEP_INTERVAL: Duration = Duration::from_secs(2);

/// The same, when only the last connections hold the port.
const STOPPING_SWEEP_INTERVAL: Duration = Duration::from_millis(50);

/// Connections that wait for the swarm to take them.
pub(super) const BACKLOG: usize = 32;

/// A connection whose client is where it says, but not yet who.
pub(super) struct Accepted {
    pub(super) beginning: Beginning,
    pub(super) certificates: Certificates,
    pub(super) remote: SocketAddr,
    /// Held until the client is authenticated.
    pub(super) place: Place,
}

/// See the module.
pub(super) struct Listener {
    shared: Arc<Shared>,
    local: Local,
    table: Table<mpsc::Sender<Datagram>>,
    rate: RateLimit,
    provider: CryptoProvider,
    accepted: mpsc::Sender<Accepted>,
    is_stopping: bool,
}

impl Listener {
    pub(super) fn new(
        shared: Arc<Shared>,
        socket: UdpSocket,
        address: SocketAddr,
        accepted: mpsc::Sender<Accepted>,
    ) -> Self {
        let rate = RateLimit::new(shared.config.rate_burst, shared.config.rate_interval);
        let local = Local { address: known_as(address), socket: Arc::new(socket) };
        let provider = str0m::crypto::from_feature_flags();
        Self { shared, local, table: Table::new(), rate, provider, accepted, is_stopping: false }
    }

    /// Runs until nobody takes connections any more and the last one is over.
    pub(super) async fn run(mut self) {
        let socket = Arc::clone(&self.local.socket);
        let mut buffer = [0; MAX_DATAGRAM_BYTES];
        let mut sweep = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            tokio::select! {
                received = socket.recv_from(&mut buffer) => match received {
                    Ok((length, source)) => self.on_datagram(source, &buffer[..length]),
                    Err(_) => tokio::time::sleep(ERROR_PAUSE).await,
                },
                _ = sweep.tick() => self.table.retain(|inbox| !inbox.is_closed()),
                () = self.accepted.closed(), if !self.is_stopping => {
                    self.is_stopping = true;
                    sweep = tokio::time::interval(STOPPING_SWEEP_INTERVAL);
                }
            }
            if self.is_stopping && self.table.len() == 0 {
                return;
            }
        }
    }

    fn on_datagram(&mut self, source: SocketAddr, bytes: &[u8]) {
        let hmac = |key: &[u8], payloads: &[&[u8]]| self.provider.sha1_hmac_provider.sha1_hmac(key, payloads);
        let verify = |message: &StunMessage<'_>, password: &str| message.verify(password.as_bytes(), hmac);
        let datagram = || Datagram { source, local: self.local.address, bytes: bytes.to_vec() };
        match self.table.route(source, bytes, verify) {
            Route::Known(names) => {
                for inbox in names.iter().filter_map(|name| self.table.get(name)) {
                    if let Err(mpsc::error::TrySendError::Full(_)) = inbox.try_send(datagram()) {
                        self.shared.counters.overrun();
                    }
                }
            }
            Route::New(name) => self.begin(&name, datagram()),
            Route::Stray => self.shared.counters.stray(),
        }
    }

    fn begin(&mut self, name: &str, first: Datagram) {
        let (source, shared) = (first.source, Arc::clone(&self.shared));
        if self.table.len() >= shared.config.max_connections {
            self.table.retain(|inbox| !inbox.is_closed());
        }
        let is_full = self.table.len() >= shared.config.max_connections || !self.table.has_room_at(source);
        let Some(place) = shared.places.take(source.ip()).filter(|_| !is_full && !self.is_stopping) else {
            shared.counters.refused_busy();
            return;
        };
        if !self.rate.admit(source.ip(), Instant::now()) {
            shared.counters.refused_rate();
            return;
        }
        let beginning = match Beginning::start(&shared, &shared.certificate, name, source, self.local.clone(), None) {
            Ok(beginning) => beginning,
            Err(error) => {
                tracing::debug!(%error, %source, "no connection could be set up");
                shared.counters.failed();
                return;
            }
        };
        // The channel is empty.
        let _ = beginning.inbox.try_send(first);
        self.table.insert(name, source, beginning.inbox.clone());
        tokio::spawn(hand_over(shared, beginning, source, place, self.accepted.clone()));
    }
}

/// Waits until the client has shown that it is at `source`, and gives the connection to the swarm.
async fn hand_over(
    shared: Arc<Shared>,
    beginning: Beginning,
    remote: SocketAddr,
    place: Place,
    accepted: mpsc::Sender<Accepted>,
) {
    match counted(&shared.counters, shared.config.handshake_timeout, beginning.connected()).await {
        Ok(client) => {
            let certificates = Certificates { client, server: shared.certificate.fingerprint() };
            // An error says that the listener has been removed.
            let _ = accepted.send(Accepted { beginning, certificates, remote, place }).await;
        }
        Err(error) => tracing::debug!(%error, %remote, "a WebRTC handshake failed"),
    }
}

/// What `str0m` takes for our address where we listen on all of them: a stand-in that no peer gets to see,
/// because a `/webrtc-direct` server announces no candidates.
const fn known_as(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
