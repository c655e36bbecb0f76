//! Native timers: tokio.

use std::time::Duration;

/// Waits.
pub async fn sleep(duration: Duration) {
    tokio::time::sleep(duration).await;
}
