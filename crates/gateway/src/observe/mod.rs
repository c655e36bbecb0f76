//! What operators see of requests: a line in the log, figures, and names by which both sides find a request again.
//! What was asked and answered is in none of them.

mod figures;
mod trace;

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::Next;
use axum::response::Response;

pub(crate) use self::figures::Figures;
use self::trace::{Trace, request_id};
use crate::meter::Meter;

/// Under the first OpenAI's clients look for a request's name, under the second Anthropic's.
const ID_HEADERS: [HeaderName; 2] = [HeaderName::from_static("x-request-id"), HeaderName::from_static("request-id")];

/// Names a request, counts it and writes it down.
pub(crate) async fn observe(State(figures): State<Figures>, mut request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let (id, trace) = (request_id(request.headers()), Trace::of(request.headers()));
    // A pattern and no path: a path may hold anything.
    let route = request.extensions().get::<MatchedPath>().map_or_else(String::new, |path| path.as_str().to_owned());
    let method = request.method().clone();
    request.extensions_mut().insert(Meter::new(figures.clone(), id.clone()));
    let mut response = next.run(request).await;
    let status = response.status().as_u16();
    figures.request(&route, status);
    let ms = begun.elapsed().as_millis();
    // Until the response begins; a stream goes on after it.
    tracing::info!(%method, route, status, ms, request = id, %trace, "API request");
    let headers = response.headers_mut();
    for name in ID_HEADERS {
        headers.extend(HeaderValue::from_str(&id).ok().map(|value| (name, value)));
    }
    headers.extend(trace.header().map(|value| (HeaderName::from_static("traceparent"), value)));
    response
}
