//! Who shares what: clients by the network that they come from, and a fair share of each resource for each.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// Where clients come from, as far as fairness goes: an IPv4 address, or the /64 of an IPv6 address, which is the
/// least that a provider gives to one customer (RFC 6177).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Origin(IpAddr);

impl Origin {
    /// The origin of an address.
    pub(crate) fn of(ip: IpAddr) -> Self {
        Self(match ip.to_canonical() {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => {
                let [a, b, c, d, ..] = ip.segments();
                Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
            }
        })
    }

    /// The origin of a connection. One that names no IP address is this machine's.
    pub(crate) fn of_multiaddr(address: &Multiaddr) -> Self {
        let ip = address.iter().find_map(|part| match part {
            Protocol::Ip4(ip) => Some(ip.into()),
            Protocol::Ip6(ip) => Some(ip.into()),
            _ => None,
        });
        Self::of(ip.unwrap_or(IpAddr::V6(Ipv6Addr::LOCALHOST)))
    }
}

/// Places of one kind, and who holds how many.
///
/// An origin may take a place while it holds less than half of what is free (Choudhury and Hahne, "Dynamic queue
/// length thresholds for shared-memory packet switches", 1998). Alone it gets a third of all places; n greedy
/// origins leave (2/3)ⁿ of them; and somebody who holds nothing is always let in while anything is free.
#[derive(Debug)]
pub(crate) struct Shares {
    capacity: usize,
    taken: usize,
    held: HashMap<Origin, usize>,
}

impl Shares {
    /// Shares of `capacity` places.
    pub(crate) fn new(capacity: usize) -> Self {
        Self { capacity, taken: 0, held: HashMap::new() }
    }

    /// Whether `origin` may take one more place.
    pub(crate) fn allows(&self, origin: Origin) -> bool {
        let free = self.capacity.saturating_sub(self.taken);
        let held = self.held.get(&origin).copied().unwrap_or_default();
        free > 0 && (held == 0 || held < free / 2)
    }

    /// Takes a place without asking whether it is fair.
    pub(crate) fn add(&mut self, origin: Origin) {
        self.taken += 1;
        *self.held.entry(origin).or_default() += 1;
    }

    /// Takes a place, if that is fair or the origin is `exempt` and one is free.
    pub(crate) fn take(&mut self, origin: Origin, exempt: bool) -> bool {
        let allowed = self.allows(origin) || (exempt && self.taken < self.capacity);
        if allowed {
            self.add(origin);
        }
        allowed
    }

    /// Gives a place back.
    pub(crate) fn give_back(&mut self, origin: Origin) {
        let Some(held) = self.held.get_mut(&origin) else { return };
        self.taken -= 1;
        *held -= 1;
        if *held == 0 {
            self.held.remove(&origin);
        }
    }

    /// Places taken.
    pub(crate) const fn taken(&self) -> usize {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(ip: &str) -> Origin {
        Origin::of(ip.parse().expect("an address"))
    }

    #[test]
    fn an_origin_is_a_customer_not_an_address() {
        assert_eq!(origin("::ffff:192.0.2.1"), origin("192.0.2.1"), "the same address in other clothes");
        assert_eq!(origin("2001:db8:0:1::1"), origin("2001:db8:0:1:ffff::2"), "one /64");
        assert_ne!(origin("2001:db8:0:1::1"), origin("2001:db8:0:2::1"));
        assert_ne!(origin("192.0.2.1"), origin("192.0.2.2"));
        let circuit = "/ip4/192.0.2.1/tcp/1/ws".parse().expect("an address");
        assert_eq!(Origin::of_multiaddr(&circuit), origin("192.0.2.1"));
    }

    #[test]
    fn a_greedy_origin_leaves_room_for_others() {
        let mut shares = Shares::new(300);
        let greedy = (0..1000).filter(|_| shares.take(origin("192.0.2.1"), false)).count();
        assert!((95..=105).contains(&greedy), "a third, not {greedy}");
        let second = (0..1000).filter(|_| shares.take(origin("192.0.2.2"), false)).count();
        assert!((60..=70).contains(&second), "a third of the rest, not {second}");
        assert!(
            (3..100_u8).all(|n| shares.take(origin(&format!("192.0.2.{n}")), false)),
            "one each for everybody else"
        );
    }

    #[test]
    fn what_is_given_back_can_be_taken_again() {
        let mut shares = Shares::new(2);
        assert!(shares.take(origin("192.0.2.1"), false));
        assert!(shares.take(origin("192.0.2.2"), false));
        assert!(!shares.take(origin("192.0.2.3"), false), "full");
        shares.give_back(origin("192.0.2.3"));
        assert_eq!(shares.taken(), 2, "who holds nothing gives nothing back");
        shares.give_back(origin("192.0.2.1"));
        assert!(shares.take(origin("192.0.2.3"), false));
        shares.give_back(origin("192.0.2.2"));
        shares.give_back(origin("192.0.2.3"));
        assert!(shares.held.is_empty());
    }
}
