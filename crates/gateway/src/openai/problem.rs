//! Problems in OpenAI's shape.

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::problem::Problem;

/// The body: what OpenAI's clients turn into their exceptions.
pub(super) fn body(problem: &Problem) -> Value {
    let kind = if problem.status.is_server_error() { "server_error" } else { "invalid_request_error" };
    json!({ "error": {
        "message": problem.message,
        "type": kind,
        "param": problem.parameter,
        "code": problem.code,
    }})
}

/// The response.
pub(super) fn respond(problem: &Problem) -> Response {
    let mut response = (problem.status, Json(body(problem))).into_response();
    if let Some(seconds) = problem.retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}
