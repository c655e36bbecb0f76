//! How fast rows leave this node: the upload bandwidth of its advert.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Messages below this size tell how long a wake-up takes, not how fast the link is.
const BULK_BYTES: usize = 4 * 1024;
/// Bytes over which the figure forgets: a few prompts.
const WINDOW_BYTES: f64 = 4e6;
/// No clock of a browser is finer than this; what takes no time is counted with it.
const SHORTEST: Duration = Duration::from_micros(100);

/// Bytes and the seconds that they took, older ones counting less. A connection takes what fits its buffers at once,
/// so that of a link that is never filled the figure is an upper bound.
#[derive(Debug, Default)]
pub(crate) struct Uplink(Mutex<Sums>);

#[derive(Debug, Default)]
struct Sums {
    bytes: f64,
    seconds: f64,
}

impl Uplink {
    /// A message of `bytes` was written in this time.
    pub(crate) fn sent(&self, bytes: usize, took: Duration) {
        if bytes < BULK_BYTES {
            return;
        }
        #[allow(clippy::cast_precision_loss, reason = "a message is far below 2^53 bytes")]
        let bytes = bytes as f64;
        let mut sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kept = (1.0 - bytes / WINDOW_BYTES).max(0.0);
        sums.bytes = sums.bytes * kept + bytes;
        sums.seconds = sums.seconds * kept + took.max(SHORTEST).as_secs_f64();
    }

    /// Bytes a second; 0 while unknown.
    pub(crate) fn bytes_per_s(&self) -> u64 {
        let sums = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive and far below 2^63")]
        let rate = (sums.bytes / sums.seconds.max(SHORTEST.as_secs_f64())) as u64;
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bulk_is_measured_and_old_figures_fade() {
        let uplink = Uplink::default();
        assert_eq!(uplink.bytes_per_s(), 0);
        uplink.sent(100, Duration::from_nanos(1));
        assert_eq!(uplink.bytes_per_s(), 0, "a row says nothing");
        for _ in 0..10 {
            uplink.sent(100_000, Duration::from_millis(100));
        }
        assert!((999_999..=1_000_000).contains(&uplink.bytes_per_s()), "{}", uplink.bytes_per_s());
        for _ in 0..400 {
            uplink.sent(100_000, Duration::from_millis(10));
        }
        assert!((9_900_000..=10_000_001).contains(&uplink.bytes_per_s()), "{}", uplink.bytes_per_s());
        uplink.sent(100_000, Duration::ZERO);
        assert!(uplink.bytes_per_s() < 20_000_000, "a clock that stands still is no infinite link");
    }
}
