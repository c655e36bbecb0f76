//! Clocks, timers and deadlines.
//!
//! Timers of hidden tabs fire once a second or less often: nothing on a hot path may wait for one. [`steady`] does not
//! suffer from it.

use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};

use crate::task::BoxStream;

#[cfg(target_arch = "wasm32")]
#[path = "time/browser.rs"]
mod imp;
#[cfg(not(target_arch = "wasm32"))]
#[path = "time/native.rs"]
mod imp;

pub use imp::sleep;
/// A monotonic clock: `std`'s natively, `performance.now()` in a browser, whose zero differs between a page
/// and its workers.
pub use web_time::Instant;

/// Fires every `period`, in a hidden page too: there a worker of its own keeps the time, which browsers do not slow
/// down. Firings that nobody waited for are skipped. Not for a page that only wants to be punctual: a worker costs
/// about a megabyte while the stream lives.
#[must_use]
pub fn steady(period: Duration) -> BoxStream<'static, ()> {
    imp::steady(period)
}

/// Firings of a [`Ticker`], for where there is nothing better.
fn ticks(period: Duration) -> BoxStream<'static, ()> {
    Box::pin(futures::stream::unfold(Ticker::every(period), |mut ticker| async {
        ticker.tick().await;
        Some(((), ticker))
    }))
}

/// The future did not complete in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("timed out")]
pub struct TimedOut;

/// Wall-clock time in milliseconds since 1970, for display and for envelopes; it may jump.
#[must_use]
pub fn unix_ms() -> u64 {
    let since_1970 = web_time::SystemTime::now().duration_since(web_time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
}

/// The result of `future`, if it completes within `limit`. Otherwise it is dropped.
///
/// # Errors
/// [`TimedOut`].
pub async fn timeout<F: Future>(limit: Duration, future: F) -> Result<F::Output, TimedOut> {
    match select(pin!(future), pin!(sleep(limit))).await {
        Either::Left((output, _)) => Ok(output),
        Either::Right(_) => Err(TimedOut),
    }
}

/// Fires again and again. Firings that were missed (a busy or sleeping machine, a hidden tab) are skipped.
#[derive(Debug)]
pub struct Ticker {
    period: Duration,
    next: Instant,
}

impl Ticker {
    /// Fires every `period`, the first time after one period.
    #[must_use]
    pub fn every(period: Duration) -> Self {
        Self { period, next: Instant::now() + period }
    }

    /// Waits for the next firing. Dropping the future loses nothing, so it can stand in a `select!`.
    pub async fn tick(&mut self) {
        sleep(self.next.saturating_duration_since(Instant::now())).await;
        let now = Instant::now();
        self.next += self.period;
        if self.next <= now {
            self.next = now + self.period;
        }
    }
}
