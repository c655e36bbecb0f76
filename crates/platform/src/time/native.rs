//! Native timers: tokio.

use std::time::Duration;

use crate::task::BoxStream;

/// Waits.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}

/// Nobody slows down the timers of a process.
pub(super) fn steady(period: Duration) -> BoxStream<'static, ()> {
    super::ticks(period)
}
