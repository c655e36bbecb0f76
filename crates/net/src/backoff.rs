//! Waiting times between attempts: exponential, with jitter, deterministic from a seed.

use std::time::Duration;

/// Wait after the first failure.
const FIRST: Duration = Duration::from_millis(500);
/// Longest wait. A relay that comes back is found again within this time.
const LONGEST: Duration = Duration::from_secs(30);

/// The sequence of waiting times of one link.
///
/// The n-th wait is drawn evenly from the upper half of `FIRST × 2ⁿ`, capped at `LONGEST`: the half
/// keeps a floor under the load on the relay, the draw keeps the tabs that lost it together from
/// coming back together.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    failures: u32,
    random: u64,
}

impl Backoff {
    /// The sequence of `seed`, at its start.
    pub(crate) fn new(seed: u64) -> Self {
        Self { failures: 0, random: seed }
    }

    /// A number that differs from seed to seed.
    pub(crate) fn seed(&self) -> u64 {
        let mut other = self.clone();
        other.draw().to_bits()
    }

    /// The wait after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        let ceiling = FIRST.saturating_mul(1 << self.failures.min(16)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let half = ceiling / 2;
        half + half.mul_f64(self.draw())
    }

    /// Starts over, after a success.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }

    /// The next number in [0, 1).
    ///
    /// SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014):
    /// no dependency, and no secrecy is needed here.
    fn draw(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^= z >> 31;
        f64::from(u32::try_from(z >> 32).expect("32 bits")) / 4_294_967_296.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(seed: u64, length: usize) -> Vec<Duration> {
        let mut backoff = Backoff::new(seed);
        (0..length).map(|_| backoff.next()).collect()
    }

    #[test]
    fn a_seed_gives_one_sequence() {
        assert_eq!(sequence(1, 20), sequence(1, 20));
        assert_ne!(sequence(1, 20), sequence(2, 20));
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        for seed in 0..100 {
            let mut ceiling = FIRST;
            for wait in sequence(seed, 40) {
                assert!(wait >= ceiling / 2 && wait <= ceiling, "{wait:?} is not in the upper half of {ceiling:?}");
                ceiling = (ceiling * 2).min(LONGEST);
            }
        }
    }

    #[test]
    fn a_success_starts_over() {
        let mut backoff = Backoff::new(3);
        for _ in 0..10 {
            backoff.next();
        }
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
