//! Browser timers: `setTimeout` of the window or worker.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::channel::mpsc;
use futures::{Stream, StreamExt as _};
use gloo_events::EventListener;
use js_sys::Array;
use wasm_bindgen::JsValue;
use web_sys::{Blob, Url, Worker};

use crate::js;
use crate::task::BoxStream;

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

/// A page asks a worker for the time; a worker's own timers are not slowed down.
pub(super) fn steady(period: Duration) -> BoxStream<'static, ()> {
    if js::global("document").is_none() {
        return super::ticks(period);
    }
    match Metronome::start(period) {
        Ok(metronome) => Box::pin(metronome),
        Err(error) => {
            tracing::warn!(error = js::describe(&error), "no worker for the time: a hidden page is late");
            super::ticks(period)
        }
    }
}

/// A worker that does nothing but send a message every period.
struct Metronome {
    worker: Worker,
    ticks: mpsc::Receiver<()>,
    _listener: EventListener,
}

impl Metronome {
    fn start(period: Duration) -> Result<Self, JsValue> {
        let code = format!("setInterval(() => postMessage(0), {})", period.as_millis());
        let url = Url::create_object_url_with_blob(&Blob::new_with_str_sequence(&Array::of1(&code.into()))?)?;
        let worker = Worker::new(&url);
        Url::revoke_object_url(&url)?;
        let worker = worker?;
        let (mut sender, ticks) = mpsc::channel(0);
        let listener = EventListener::new(&worker, "message", move |_| {
            // A reader that is busy gets one tick when it is done.
            let _full = sender.try_send(());
        });
        Ok(Self { worker, ticks, _listener: listener })
    }
}

impl Drop for Metronome {
    fn drop(&mut self) {
        self.worker.terminate();
    }
}

impl Stream for Metronome {
    type Item = ();

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<()>> {
        self.ticks.poll_next_unpin(context)
    }
}
