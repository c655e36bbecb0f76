//! Problems in Ollama's shape.

use axum::Json;
use axum::http::header::RETRY_AFTER;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::problem::Problem;

pub(super) fn body(problem: &Problem) -> Value {
    json!({ "error": problem.message })
}

pub(super) fn respond(problem: &Problem) -> Response {
    let mut response = (problem.status, Json(body(problem))).into_response();
    if let Some(seconds) = problem.retry_after {
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
    }
    response
}
