//! How often somebody may do something: token buckets, one for each who does it.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use cdi_platform::time::Instant;

/// Buckets that are kept. Beyond it the full ones are forgotten, which changes nothing: a new one is full too.
const MAX_BUCKETS: usize = 16 * 1024;

/// How often: `burst` at once, then `per_second`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// At once.
    pub burst: f64,
    /// Afterwards, each second.
    pub per_second: f64,
}

/// A store of permissions that fills up with time.
#[derive(Debug, Clone, Copy)]
pub struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    /// A full bucket.
    #[must_use]
    pub const fn full(rate: Rate, now: Instant) -> Self {
        Self { tokens: rate.burst, at: now }
    }

    /// What is in it at `now`; below zero after [`Bucket::charge`] took more than there was.
    pub fn fill(&mut self, rate: Rate, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.tokens = rate.burst.min(rate.per_second.mul_add(passed, self.tokens));
        self.at = now;
        self.tokens
    }

    /// Takes `amount`, whether or not it is there.
    pub fn charge(&mut self, amount: f64) {
        self.tokens -= amount;
    }

    /// How long until it holds more than nothing.
    #[must_use]
    pub fn until_positive(&self, rate: Rate) -> Duration {
        Duration::from_secs_f64((-self.tokens / rate.per_second).clamp(0.0, 1.0))
    }
}

/// A bucket for each `K`.
#[derive(Debug)]
pub struct Rates<K> {
    rate: Rate,
    buckets: HashMap<K, Bucket>,
}

impl<K: Eq + Hash> Rates<K> {
    /// Buckets of this rate, all full.
    #[must_use]
    pub fn new(rate: Rate) -> Self {
        Self { rate, buckets: HashMap::new() }
    }

    /// Takes one token of `who`, if there is one.
    pub fn allow(&mut self, who: K, now: Instant) -> bool {
        let rate = self.rate;
        if self.buckets.len() >= MAX_BUCKETS && !self.buckets.contains_key(&who) {
            self.buckets.retain(|_, bucket| bucket.fill(rate, now) < rate.burst);
            if self.buckets.len() >= MAX_BUCKETS {
                return false;
            }
        }
        let bucket = self.buckets.entry(who).or_insert_with(|| Bucket::full(rate, now));
        let allowed = bucket.fill(rate, now) >= 1.0;
        if allowed {
            bucket.charge(1.0);
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 3.0, per_second: 2.0 };

    #[test]
    fn a_burst_and_then_the_rate_for_each() {
        let (mut rates, start) = (Rates::new(RATE), Instant::now());
        let granted = |rates: &mut Rates<u8>, who, now| (0..10).filter(|_| rates.allow(who, now)).count();
        assert_eq!(granted(&mut rates, 1, start), 3);
        assert_eq!(granted(&mut rates, 2, start), 3, "another's bucket is its own");
        assert_eq!(granted(&mut rates, 1, start + Duration::from_secs(1)), 2);
        assert_eq!(granted(&mut rates, 1, start + Duration::from_secs(100)), 3, "no more than the burst is saved up");
    }

    #[test]
    fn buckets_are_bounded_and_busy_ones_are_remembered() {
        let (mut rates, start) = (Rates::new(RATE), Instant::now());
        for who in 0..MAX_BUCKETS {
            assert!(rates.allow(who, start));
        }
        assert!(!rates.allow(MAX_BUCKETS, start), "nobody can be forgotten yet");
        let later = start + Duration::from_millis(500);
        for _ in 0..3 {
            rates.allow(0, later);
        }
        assert!(rates.allow(MAX_BUCKETS, later), "full buckets are forgotten");
        assert!(rates.buckets.len() < MAX_BUCKETS);
        assert!(!rates.allow(0, later), "an empty one is not");
    }
}
