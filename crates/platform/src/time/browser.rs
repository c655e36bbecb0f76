//! Browser timers: `setTimeout` of the window or worker.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::channel::mpsc;
use futures::{Stream, StreamExt as _};
use gloo_events::EventListener;
use wasm_bindgen::JsValue;
use web_sys::Worker;

use crate::js;
use crate::task::BoxStream;

/// Longest wait that `setTimeout` takes; it fires at once when asked for more.
/// Source: <https://developer.mozilla.org/docs/Web/API/Window/setTimeout#maximum_delay_value>.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

/// The script of a worker that, told a number of milliseconds, sends a message every so often; a file beside the page,
/// since a page with a strict policy runs no code of its own making.
const METRONOME: &str = "metronome.js";

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
        // It ends when there is no such file.
        Ok(metronome) => Box::pin(metronome.chain(super::ticks(period))),
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
    _listeners: [EventListener; 2],
}

impl Metronome {
    fn start(period: Duration) -> Result<Self, JsValue> {
        let worker = Worker::new(METRONOME)?;
        let milliseconds = u32::try_from(period.as_millis()).unwrap_or(u32::MAX);
        worker.post_message(&milliseconds.into())?;
        let (mut sender, ticks) = mpsc::channel(0);
        let mut ended = sender.clone();
        let heard = EventListener::new(&worker, "message", move |_| {
            // A reader that is busy gets one tick when it is done.
            let _full = sender.try_send(());
        });
        let failed = EventListener::new(&worker, "error", move |_| {
            tracing::warn!(METRONOME, "no worker for the time: a hidden page is late");
            ended.close_channel();
        });
        Ok(Self { worker, ticks, _listeners: [heard, failed] })
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
