//! Whether the user sees the page, and when the browser is about to stop it.
//!
//! Natively a process is always visible and the streams stay silent. So they do in a worker, which is told
//! only whether there is a network: let the page pass on what it hears.

use futures::StreamExt as _;

use crate::task::BoxStream;

#[cfg(target_arch = "wasm32")]
#[path = "visibility/browser.rs"]
mod imp;
#[cfg(not(target_arch = "wasm32"))]
#[path = "visibility/native.rs"]
mod imp;

pub use imp::{is_hidden, is_online};

/// What happens to a page. Source: <https://wicg.github.io/page-lifecycle/>.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifecycle {
    /// In the background: timers are clamped from now on.
    Hidden,
    /// In the foreground again.
    Shown,
    /// Being closed, reloaded or navigated away from. The last chance to say goodbye, without waiting.
    Leaving,
    /// About to be stopped without notice of an end.
    Frozen,
    /// Running again after [`Lifecycle::Frozen`], or back from the history. Connections may be dead.
    Resumed,
    /// The system has a network again.
    Online,
    /// The system has no network.
    Offline,
}

/// Everything that happens to the page from now on. A reader that is 64 events behind loses the newest;
/// [`is_hidden`] and [`is_online`] always tell the truth.
#[must_use]
pub fn lifecycle() -> BoxStream<'static, Lifecycle> {
    imp::lifecycle()
}

/// Whether the page is hidden, whenever that changes.
#[must_use]
pub fn changes() -> BoxStream<'static, bool> {
    let changes = lifecycle().filter_map(async |event| match event {
        Lifecycle::Hidden => Some(true),
        Lifecycle::Shown => Some(false),
        _ => None,
    });
    Box::pin(changes)
}
