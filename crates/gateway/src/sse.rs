//! Server-sent events.

use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::{Stream, StreamExt as _};
use serde_json::Value;

/// A proxy closes a connection on which nothing comes for long.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The response. Where nothing comes for long a comment does, or `ping` in interfaces that have one.
pub(crate) fn respond(events: impl Stream<Item = Event> + Send + 'static, ping: Option<Event>) -> Response {
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    let keep_alive = match ping {
        Some(ping) => keep_alive.event(ping),
        None => keep_alive,
    };
    Sse::new(events.map(Ok::<_, Infallible>)).keep_alive(keep_alive).into_response()
}

/// An event without a name.
pub(crate) fn data(value: &Value) -> Event {
    Event::default().data(value.to_string())
}

/// An event whose name is the `type` of its value.
pub(crate) fn named(value: &Value) -> Event {
    data(value).event(value["type"].as_str().unwrap_or_default())
}
