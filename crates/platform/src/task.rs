//! Spawning.

use futures::future::{AbortHandle, Abortable};

#[cfg(target_arch = "wasm32")]
#[path = "task/browser.rs"]
mod imp;
#[cfg(not(target_arch = "wasm32"))]
#[path = "task/native.rs"]
mod imp;

pub use imp::{BoxFuture, BoxStream, MaybeSend, MaybeSync, spawn_dedicated, yield_now};

/// Handle of a spawned task. Dropping it lets the task run on; see [`Task::abort_on_drop`].
#[derive(Debug, Clone)]
pub struct Task(AbortHandle);

impl Task {
    /// Stops the task at its next suspension point.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// A guard that stops the task when it is dropped.
    #[must_use = "dropping the guard stops the task"]
    pub const fn abort_on_drop(self) -> AbortOnDrop {
        AbortOnDrop(self)
    }
}

/// Stops a task when dropped.
#[derive(Debug)]
pub struct AbortOnDrop(Task);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Runs `future` concurrently: on the current tokio runtime, or on this thread's event loop in a browser.
///
/// # Panics
/// Natively, outside a tokio runtime.
pub fn spawn(future: impl Future<Output = ()> + MaybeSend + 'static) -> Task {
    let (handle, registration) = AbortHandle::new_pair();
    let abortable = Abortable::new(future, registration);
    imp::spawn(async {
        // An aborted task has no result to report.
        let _aborted = abortable.await;
    });
    Task(handle)
}
