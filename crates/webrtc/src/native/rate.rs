//! How often an address may ask for a connection.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

/// Addresses that are remembered. Of more, those are forgotten that have asked for nothing lately; when none of
/// them is, newcomers wait: whoever sends from so many addresses at once is no crowd of browsers.
const MAX_ADDRESSES: usize = 4096;

/// A bucket of tokens an address: one token a connection, refilled at a steady pace.
#[derive(Debug)]
pub(super) struct RateLimit {
    burst: u32,
    interval: Duration,
    /// When the bucket of an address will be full again.
    full_at: HashMap<IpAddr, Instant>,
}

impl RateLimit {
    pub(super) fn new(burst: u32, interval: Duration) -> Self {
        Self { burst, interval, full_at: HashMap::new() }
    }

    /// Takes a token from the bucket of `ip`; `false` when it is empty.
    pub(super) fn admit(&mut self, ip: IpAddr, now: Instant) -> bool {
        let ip = bucket_of(ip);
        if !self.full_at.contains_key(&ip) && self.full_at.len() >= MAX_ADDRESSES {
            self.full_at.retain(|_, full_at| *full_at > now);
            if self.full_at.len() >= MAX_ADDRESSES {
                return false;
            }
        }
        let full_at = self.full_at.entry(ip).or_insert(now);
        let after = (*full_at).max(now) + self.interval;
        if after > now + self.interval * self.burst {
            return false;
        }
        *full_at = after;
        true
    }
}

/// Who is counted as one: an IPv4 address, or the network that an IPv6 subscriber gets.
pub(super) fn bucket_of(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
        ip @ IpAddr::V4(_) => ip,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_every_interval() {
        let interval = Duration::from_secs(1);
        let mut limit = RateLimit::new(3, interval);
        let (a, b) = ("192.0.2.1".parse().unwrap(), "192.0.2.2".parse().unwrap());
        let start = Instant::now();
        let passed = |limit: &mut RateLimit, ip, now| (0..5).filter(|_| limit.admit(ip, now)).count();
        assert_eq!(passed(&mut limit, a, start), 3);
        assert_eq!(passed(&mut limit, b, start), 3, "another address has a bucket of its own");
        assert_eq!(passed(&mut limit, a, start + interval), 1);
        assert_eq!(passed(&mut limit, a, start + 60 * interval), 3, "no more than a burst is saved up");
    }

    #[test]
    fn one_ipv6_network_is_one_address() {
        let mut limit = RateLimit::new(1, Duration::from_secs(1));
        let now = Instant::now();
        assert!(limit.admit("2001:db8::1".parse().unwrap(), now));
        assert!(!limit.admit("2001:db8::2".parse().unwrap(), now));
        assert!(limit.admit("2001:db8:0:1::1".parse().unwrap(), now));
        assert!(limit.admit("192.0.2.1".parse().unwrap(), now));
        assert!(!limit.admit("::ffff:192.0.2.1".parse().unwrap(), now));
    }

    #[test]
    fn a_flood_of_addresses_is_bounded() {
        let mut limit = RateLimit::new(1, Duration::from_secs(1));
        let now = Instant::now();
        let passed = (0..10_000_u32).filter(|n| limit.admit(IpAddr::from(n.to_be_bytes()), now)).count();
        assert_eq!(passed, MAX_ADDRESSES);
        assert_eq!(limit.full_at.len(), MAX_ADDRESSES);
        assert!(limit.admit("192.0.2.1".parse().unwrap(), now + Duration::from_secs(2)), "the idle are forgotten");
    }
}
