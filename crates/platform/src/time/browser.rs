//! Browser timers: `setTimeout` of the window or worker.

use std::time::Duration;

/// Longest wait that `setTimeout` takes; it fires at once when asked for more.
/// Source: <https://developer.mozilla.org/docs/Web/API/Window/setTimeout#maximum_delay_value>.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

/// Waits.
pub async fn sleep(mut duration: Duration) {
    while duration > LONGEST {
        gloo_timers::future::sleep(LONGEST).await;
        duration -= LONGEST;
    }
    gloo_timers::future::sleep(duration).await;
}
