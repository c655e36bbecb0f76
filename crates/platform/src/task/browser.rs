//! Browser tasks: the event loop of this thread.

use futures::channel::oneshot;
use wasm_bindgen::JsCast as _;
use wasm_bindgen::prelude::Closure;
use web_sys::MessageChannel;

/// `Send` natively, nothing in a browser, where no value leaves its thread.
pub trait MaybeSend {}
impl<T: ?Sized> MaybeSend for T {}

/// `Sync` natively, nothing in a browser.
pub trait MaybeSync {}
impl<T: ?Sized> MaybeSync for T {}

/// A boxed future; `Send` natively only.
pub type BoxFuture<'a, T> = futures::future::LocalBoxFuture<'a, T>;
/// A boxed stream; `Send` natively only.
pub type BoxStream<'a, T> = futures::stream::LocalBoxStream<'a, T>;

pub(super) fn spawn(future: impl Future<Output = ()> + 'static) {
    wasm_bindgen_futures::spawn_local(future);
}

/// Gives other tasks, and in a browser the event loop (painting, input, messages), a turn.
///
/// A message to itself is a macrotask and, unlike a timer, is neither clamped to 4 ms nor throttled in
/// hidden tabs.
pub async fn yield_now() {
    let Ok(channel) = MessageChannel::new() else {
        return crate::time::sleep(std::time::Duration::ZERO).await;
    };
    let (sender, receiver) = oneshot::channel::<()>();
    let woken = Closure::once(move || {
        // Dropped when nobody waits any more.
        let _gone = sender.send(());
    });
    channel.port1().set_onmessage(Some(woken.as_ref().unchecked_ref()));
    if channel.port2().post_message(&wasm_bindgen::JsValue::NULL).is_ok() {
        let _woken = receiver.await;
    }
    channel.port1().set_onmessage(None);
    channel.port1().close();
}

/// Runs the future that `make` returns on a thread of its own, natively. It may block, need not be
/// `Send`, and can spawn.
///
/// A browser runs it on the current thread: its own thread is a worker, which enters through
/// [`crate::port::Port::in_worker`] instead.
pub fn spawn_dedicated<F, Fut>(_name: &str, make: F)
where
    F: FnOnce() -> Fut + 'static,
    Fut: Future<Output = ()> + 'static,
{
    wasm_bindgen_futures::spawn_local(make());
}
