//! The interface of Ollama: paths below `/api`.
//!
//! Source: <https://github.com/ollama/ollama/blob/main/docs/api.md>.

mod chat;
mod models;
mod problem;

use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use self::problem::respond;
use crate::gateway::Gateway;
use crate::problem::Problem;

pub(crate) fn router(gateway: Gateway) -> Router {
    Router::new()
        .route("/version", get(version))
        .route("/tags", get(models::tags))
        .route("/ps", get(models::running))
        .route("/show", post(models::show))
        .route("/chat", post(chat::chat))
        .route("/generate", post(chat::generate))
        .fallback(nothing)
        .method_not_allowed_fallback(other_method)
        .with_state(gateway)
}

async fn version() -> Response {
    Json(json!({ "version": env!("CARGO_PKG_VERSION") })).into_response()
}

async fn nothing(uri: Uri) -> Response {
    let message = format!("the path {} is not served by this gateway", uri.path());
    respond(&Problem::malformed(StatusCode::NOT_FOUND, message))
}

async fn other_method(uri: Uri) -> Response {
    let message = format!("the path {} does not take this method", uri.path());
    respond(&Problem::malformed(StatusCode::METHOD_NOT_ALLOWED, message))
}

/// A moment as Ollama writes it.
fn written(moment: OffsetDateTime) -> String {
    moment.format(&Rfc3339).unwrap_or_default()
}

fn now() -> String {
    written(OffsetDateTime::now_utc())
}
