//! Which STUN and TURN servers new direct links are made with: those that the owner names, and those that each
//! connected relay offers on `/cdi/<network>/1/ice`. The list follows the relays.

use std::collections::BTreeMap;
use std::time::Duration;

use cdi_platform::task::BoxFuture;
use cdi_platform::time::{Instant, timeout};
use cdi_types::ice::{IceOffer, IceServer, MAX_ICE_BYTES};
use cdi_types::{Network, PeerId, cbor};
use futures::channel::oneshot;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _, future};
use libp2p::StreamProtocol;

use crate::framed::read_message;
use crate::streams::{OpenError, Opened};
use crate::transport;
use crate::worker::Worker;
use crate::{NetError, NetStream};

/// Most servers of a link: browsers ask all of them, and gather more slowly with each.
const MAX_SERVERS: usize = 8;
/// Time for a relay to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// Shortest and longest time until a relay is asked again, whatever it says.
const RENEW: (Duration, Duration) = (Duration::from_secs(60), Duration::from_secs(24 * 3600));

/// What a relay said; nothing, if it does not speak the protocol.
pub(crate) type Answer = (PeerId, Option<IceOffer>);

/// One relay's servers.
#[derive(Debug)]
struct Offered {
    servers: Vec<IceServer>,
    due: Instant,
}

/// All servers, and the questions on their way.
pub(crate) struct Ice {
    protocol: StreamProtocol,
    configured: Vec<IceServer>,
    hosts: BTreeMap<PeerId, String>,
    offered: BTreeMap<PeerId, Offered>,
    asked: FuturesUnordered<BoxFuture<'static, Answer>>,
}

impl Ice {
    /// # Errors
    /// [`NetError::Start`] when a configured server is malformed.
    pub(crate) fn new(network: Network, configured: Vec<IceServer>) -> Result<Self, NetError> {
        if let Some(bad) = configured.iter().find(|server| !server.is_valid()) {
            return Err(NetError::Start(format!("no STUN or TURN server: {:?}", bad.urls)));
        }
        let protocol = StreamProtocol::try_from_owned(crate::ice_protocol(network));
        let protocol = protocol.map_err(|e| NetError::Start(e.to_string()))?;
        let (hosts, offered) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { protocol, configured, hosts, offered, asked: FuturesUnordered::new() })
    }

    /// The servers to use, the owner's first, each once.
    pub(crate) fn servers(&self) -> Vec<IceServer> {
        let mut list: Vec<IceServer> = Vec::new();
        for server in self.configured.iter().chain(self.offered.values().flat_map(|o| &o.servers)) {
            if list.len() < MAX_SERVERS && !list.contains(server) {
                list.push(server.clone());
            }
        }
        list
    }

    /// Waits for the answer of the relay at `host`, on the stream that the returned sender completes.
    fn ask(&mut self, relay: PeerId, host: String) -> Opened {
        let (opened, stream) = oneshot::channel::<Result<NetStream, OpenError>>();
        self.hosts.insert(relay, host);
        let answer = async move {
            let mut stream = stream.await.ok()?.ok()?;
            cbor::decode(&read_message(&mut stream, MAX_ICE_BYTES).await.ok()??).ok()
        };
        let answer = timeout(ANSWER_TIMEOUT, answer).map(move |answer| (relay, answer.ok().flatten()));
        self.asked.push(Box::pin(answer));
        opened
    }

    /// The next answer of a relay; waits for ever while none was asked.
    pub(crate) fn answered(&mut self) -> impl future::FusedFuture<Output = Answer> {
        self.asked.select_next_some()
    }

    /// Takes in an answer; whether the list changed.
    fn take_in(&mut self, (relay, offer): Answer, now: Instant) -> bool {
        let Some(host) = self.hosts.get(&relay) else { return false };
        let before = self.servers();
        match offer {
            Some(offer) => {
                let renew = Duration::from_secs(offer.renew_s.into()).clamp(RENEW.0, RENEW.1);
                self.offered.insert(relay, Offered { servers: offer.servers_at(host), due: now + renew });
            }
            // What it said before holds until then.
            None => {
                self.offered.entry(relay).or_insert(Offered { servers: Vec::new(), due: now }).due = now + RENEW.1;
            }
        }
        self.servers() != before
    }

    /// The relay is gone; whether the list changed.
    pub(crate) fn forget(&mut self, relay: &PeerId) -> bool {
        self.hosts.remove(relay);
        self.offered.remove(relay).is_some_and(|offered| !offered.servers.is_empty())
    }

    /// When the next relay is to be asked again.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.offered.values().map(|offered| offered.due).min()
    }

    /// The relays to ask again now; each is named once.
    pub(crate) fn take_due(&mut self, now: Instant) -> Vec<PeerId> {
        let due = self.offered.iter_mut().filter(|(_, offered)| offered.due <= now);
        // Until its answer says otherwise.
        due.map(|(relay, offered)| (offered.due = now + RENEW.1, *relay).1).collect()
    }
}

impl Worker {
    /// Asks a connected relay for its servers.
    pub(crate) fn ask_ice(&mut self, index: usize) {
        let relay = self.relays.get(index);
        let (Some(peer), Some(connection), Some(host)) = (relay.peer, relay.connection, relay.address.host()) else {
            return;
        };
        let opened = self.ice.ask(peer, host);
        let protocol = self.ice.protocol.clone();
        self.swarm.behaviour_mut().streams.open(peer, connection, protocol, opened);
    }

    /// A relay answered.
    pub(crate) fn on_ice(&mut self, answer: Answer) {
        if self.ice.take_in(answer, Instant::now()) {
            self.apply_ice();
        }
    }

    /// Makes new direct links use the list.
    pub(crate) fn apply_ice(&mut self) {
        transport::set_ice_servers(&self.swarm.behaviour().direct, self.ice.servers());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offer(port: u16, renew_s: u32) -> Option<IceOffer> {
        Some(IceOffer { stun_port: Some(port), servers: Vec::new(), renew_s })
    }

    fn urls(ice: &Ice) -> Vec<String> {
        ice.servers().into_iter().flat_map(|s| s.urls).collect()
    }

    #[test]
    fn the_list_follows_the_relays() {
        let own = IceServer::stun("stun.example.org", 1);
        let mut ice = Ice::new(Network::Testnet, vec![own]).expect("well-formed");
        let (a, b, now) = (PeerId::random(), PeerId::random(), Instant::now());
        drop((ice.ask(a, "192.0.2.1".to_owned()), ice.ask(b, "::1".to_owned())));
        assert!(ice.take_in((a, offer(2, 3600)), now));
        assert!(!ice.take_in((a, offer(2, 3600)), now), "nothing new");
        assert!(ice.take_in((b, offer(3, 3600)), now));
        let mut all = urls(&ice);
        all.sort();
        assert_eq!(all, ["stun:192.0.2.1:2", "stun:[::1]:3", "stun:stun.example.org:1"]);
        assert!(ice.forget(&a));
        assert!(!ice.forget(&a));
        assert!(!ice.take_in((a, offer(2, 3600)), now), "an answer that comes after the relay has gone");
        assert_eq!(urls(&ice), ["stun:stun.example.org:1", "stun:[::1]:3"]);
    }

    #[test]
    fn relays_are_asked_again_but_cannot_ask_for_a_storm() {
        let mut ice = Ice::new(Network::Testnet, Vec::new()).expect("well-formed");
        let (relay, now) = (PeerId::random(), Instant::now());
        drop(ice.ask(relay, "192.0.2.1".to_owned()));
        ice.take_in((relay, offer(2, 0)), now);
        assert!(ice.take_due(now).is_empty());
        assert_eq!(ice.take_due(now + RENEW.0), [relay]);
        assert!(ice.take_due(now + RENEW.0).is_empty(), "once");
        ice.take_in((relay, None), now);
        assert_eq!(urls(&ice), ["stun:192.0.2.1:2"], "silence takes nothing back");
    }

    #[test]
    fn a_malformed_server_of_the_owner_is_refused() {
        let bad = IceServer { urls: vec!["stun:".to_owned()], username: None, credential: None };
        assert!(matches!(Ice::new(Network::Testnet, vec![bad]), Err(NetError::Start(_))));
    }
}
