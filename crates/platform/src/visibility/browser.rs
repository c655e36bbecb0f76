//! Events of document, window and worker.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::channel::mpsc;
use futures::{Stream, StreamExt as _};
use gloo_events::EventListener;
use wasm_bindgen::JsCast as _;
use web_sys::{Event, EventTarget};

use super::Lifecycle;
use crate::js;
use crate::task::BoxStream;

const BACKLOG: usize = 64;

/// Whether the page is in the background. Never, natively and in workers.
#[must_use]
pub fn is_hidden() -> bool {
    let hidden = js::global("document").and_then(|document| js::member(&document, "hidden"));
    hidden.and_then(|hidden| hidden.as_bool()).unwrap_or(false)
}

/// Whether the system has a network, as far as it says.
#[must_use]
pub fn is_online() -> bool {
    let online = js::global("navigator").and_then(|navigator| js::member(&navigator, "onLine"));
    online.and_then(|online| online.as_bool()).unwrap_or(true)
}

pub(super) fn lifecycle() -> BoxStream<'static, Lifecycle> {
    let (sender, events) = mpsc::channel(BACKLOG);
    let mut listeners = Vec::new();
    let mut listen = |target: &EventTarget, name: &'static str, read: fn(&Event) -> Option<Lifecycle>| {
        let mut sender = sender.clone();
        listeners.push(EventListener::new(target, name, move |event| {
            if let Some(event) = read(event) {
                // The documented loss of a reader that does not read.
                let _full = sender.try_send(event);
            }
        }));
    };
    if let Some(document) = js::global("document").map(wasm_bindgen::JsCast::unchecked_into::<EventTarget>) {
        let visibility = |_: &Event| Some(if is_hidden() { Lifecycle::Hidden } else { Lifecycle::Shown });
        listen(&document, "visibilitychange", visibility);
        listen(&document, "freeze", |_| Some(Lifecycle::Frozen));
        listen(&document, "resume", |_| Some(Lifecycle::Resumed));
    }
    let global: EventTarget = js_sys::global().unchecked_into();
    listen(&global, "pagehide", |_| Some(Lifecycle::Leaving));
    // Also fires after the first load; only a page from the history was away.
    listen(&global, "pageshow", |event| {
        let persisted = js::member(event, "persisted").and_then(|persisted| persisted.as_bool());
        (persisted == Some(true)).then_some(Lifecycle::Resumed)
    });
    listen(&global, "online", |_| Some(Lifecycle::Online));
    listen(&global, "offline", |_| Some(Lifecycle::Offline));
    Box::pin(Events { events, _listeners: listeners })
}

/// The stream, with the listeners that feed it.
struct Events {
    events: mpsc::Receiver<Lifecycle>,
    _listeners: Vec<EventListener>,
}

impl Stream for Events {
    type Item = Lifecycle;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Lifecycle>> {
        self.events.poll_next_unpin(context)
    }
}
