//! Who gets a reservation or a circuit: libp2p's relay asks here before it grants one.
//!
//! libp2p's own limits know one peer and one total. With them a single address that makes up peer ids takes all
//! of it, a full relay refuses renewals, and who is called by many may call nobody. So the totals are shared out
//! here, by origin.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cdi_platform::time::Instant;
use cdi_types::PeerId;
use libp2p::relay::RateLimiter;

use crate::limits;
use crate::origin::{Origin, Shares};
use cdi_net::rate::Rates;

/// Who holds what. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Admission(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    reservations: Shares,
    reserved: HashMap<PeerId, Origin>,
    reservation_rates: Rates<Origin>,
    circuits: Shares,
    /// Circuits of each peer that opened some, and where it opened them from.
    circuits_from: HashMap<PeerId, (Origin, usize)>,
    circuit_rates: Rates<Origin>,
}

impl Admission {
    /// Nobody holds anything.
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(State {
            reservations: Shares::new(limits::MAX_RESERVATIONS),
            reserved: HashMap::new(),
            reservation_rates: Rates::new(limits::RESERVATION_RATE),
            circuits: Shares::new(limits::MAX_CIRCUITS),
            circuits_from: HashMap::new(),
            circuit_rates: Rates::new(limits::CIRCUIT_RATE),
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whole between any two statements that can panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What libp2p asks before it grants a reservation.
    pub(crate) fn of_reservations(&self) -> Box<dyn RateLimiter> {
        let this = self.clone();
        Box::new(move |peer: PeerId, address: &libp2p::Multiaddr, _| {
            this.state().reserve(peer, Origin::of_multiaddr(address), Instant::now())
        })
    }

    /// What libp2p asks before it opens a circuit.
    pub(crate) fn of_circuits(&self) -> Box<dyn RateLimiter> {
        let this = self.clone();
        Box::new(move |peer: PeerId, address: &libp2p::Multiaddr, _| {
            this.state().may_open(peer, Origin::of_multiaddr(address), Instant::now())
        })
    }

    /// The peer's reservation ran out, or its last connection is gone.
    pub(crate) fn unreserve(&self, peer: &PeerId) {
        let mut state = self.state();
        if let Some(origin) = state.reserved.remove(peer) {
            state.reservations.give_back(origin);
        }
    }

    /// A circuit was opened by `source`, who was asked about before.
    pub(crate) fn opened(&self, source: PeerId, origin: Origin) {
        let mut state = self.state();
        let (origin, circuits) = state.circuits_from.entry(source).or_insert((origin, 0));
        *circuits += 1;
        let origin = *origin;
        state.circuits.add(origin);
    }

    /// A circuit that `source` had opened is closed.
    pub(crate) fn closed(&self, source: &PeerId) {
        let mut state = self.state();
        let Some((origin, circuits)) = state.circuits_from.get_mut(source) else { return };
        let origin = *origin;
        *circuits -= 1;
        if *circuits == 0 {
            state.circuits_from.remove(source);
        }
        state.circuits.give_back(origin);
    }

    /// Peers with a reservation.
    pub(crate) fn reservations(&self) -> usize {
        self.state().reserved.len()
    }

    /// Open circuits.
    pub(crate) fn circuits(&self) -> usize {
        self.state().circuits.taken()
    }
}

impl State {
    /// A renewal is granted even when all places are taken: the peer has one of them.
    fn reserve(&mut self, peer: PeerId, origin: Origin, now: Instant) -> bool {
        if !self.reservation_rates.allow(origin, now) {
            return false;
        }
        if self.reserved.contains_key(&peer) {
            return true;
        }
        let granted = self.reservations.take(origin, false);
        if granted {
            self.reserved.insert(peer, origin);
        }
        granted
    }

    /// Circuits that are being opened do not count yet; the rate bounds how many those can be.
    fn may_open(&mut self, peer: PeerId, origin: Origin, now: Instant) -> bool {
        let from = self.circuits_from.get(&peer).map_or(0, |(_, circuits)| *circuits);
        from < limits::MAX_CIRCUITS_FROM_PEER && self.circuits.allows(origin) && self.circuit_rates.allow(origin, now)
    }
}

#[cfg(test)]
mod tests {
    use libp2p::Multiaddr;

    use super::*;

    fn address(last: u8) -> Multiaddr {
        format!("/ip4/192.0.2.{last}/tcp/1").parse().expect("an address")
    }

    fn ask(limiter: &mut Box<dyn RateLimiter>, peer: PeerId, last: u8) -> bool {
        limiter.try_next(peer, &address(last), Instant::now())
    }

    #[test]
    fn made_up_peers_of_one_address_do_not_get_all_reservations() {
        let admission = Admission::new();
        let mut limiter = admission.of_reservations();
        let first = PeerId::random();
        assert!(ask(&mut limiter, first, 1));
        let more = (0..limits::MAX_RESERVATIONS).filter(|_| ask(&mut limiter, PeerId::random(), 1)).count();
        assert!(more < limits::MAX_RESERVATIONS / 2, "{more}");
        assert!(ask(&mut limiter, PeerId::random(), 2), "others get theirs");
        admission.unreserve(&first);
        assert_eq!(admission.reservations(), more + 1);
    }

    #[test]
    fn a_full_relay_renews() {
        let admission = Admission::new();
        let mut limiter = admission.of_reservations();
        let holder = PeerId::random();
        assert!(ask(&mut limiter, holder, 1));
        for last in 2..=255 {
            for _ in 0..limits::MAX_RESERVATIONS / 8 {
                ask(&mut limiter, PeerId::random(), last);
            }
        }
        assert!(!ask(&mut limiter, PeerId::random(), 1), "full");
        assert!(ask(&mut limiter, holder, 1), "but who is in stays in");
    }

    #[test]
    fn circuits_are_counted_by_who_opens_them() {
        let admission = Admission::new();
        let mut limiter = admission.of_circuits();
        let greedy = PeerId::random();
        let origin = Origin::of_multiaddr(&address(1));
        let mut opened = 0;
        while ask(&mut limiter, greedy, 1) {
            admission.opened(greedy, origin);
            opened += 1;
        }
        assert_eq!(opened, limits::MAX_CIRCUITS_FROM_PEER);
        assert!(ask(&mut limiter, PeerId::random(), 1), "a neighbour of the greedy one");
        admission.closed(&greedy);
        assert!(ask(&mut limiter, greedy, 1));
        for _ in 1..opened {
            admission.closed(&greedy);
        }
        assert_eq!(admission.circuits(), 0);
        assert!(admission.state().circuits_from.is_empty());
    }
}
