//! Native tasks: tokio.

/// `Send` natively, nothing in a browser, where no value leaves its thread.
pub trait MaybeSend: Send {}
impl<T: Send + ?Sized> MaybeSend for T {}

/// `Sync` natively, nothing in a browser.
pub trait MaybeSync: Sync {}
impl<T: Sync + ?Sized> MaybeSync for T {}

/// A boxed future; `Send` natively only.
pub type BoxFuture<'a, T> = futures::future::BoxFuture<'a, T>;
/// A boxed stream; `Send` natively only.
pub type BoxStream<'a, T> = futures::stream::BoxStream<'a, T>;

pub(super) fn spawn(future: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(future);
}

/// Gives other tasks, and in a browser the event loop (painting, input, messages), a turn.
pub async fn yield_now() {
    tokio::task::yield_now().await;
}

/// Runs the future that `make` returns on a thread of its own, natively. It may block, need not be
/// `Send`, and can spawn.
///
/// A browser runs it on the current thread: its own thread is a worker, which enters through
/// [`crate::port::Port::in_worker`] instead.
///
/// # Panics
/// When the system refuses a thread or an event queue.
pub fn spawn_dedicated<F, Fut>(name: &str, make: F)
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("the system gives this process an event queue");
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || runtime.block_on(make()))
        .expect("the system gives this process a thread");
}
