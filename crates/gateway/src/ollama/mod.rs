//! The interface of Ollama: paths below `/api`.
//!
//! Source: <https://github.com/ollama/ollama/blob/main/docs/api.md>.

mod chat;
mod models;

use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::dialect::Dialect;
use crate::gateway::Gateway;

const DIALECT: Dialect = Dialect::Ollama;

pub(crate) fn router() -> Router<Gateway> {
    Router::new()
        .route("/api/version", get(version))
        .route("/api/tags", get(models::tags))
        .route("/api/ps", get(models::running))
        .route("/api/show", post(models::show))
        .route("/api/chat", post(chat::chat))
        .route("/api/generate", post(chat::generate))
}

async fn version() -> Response {
    Json(json!({ "version": env!("CARGO_PKG_VERSION") })).into_response()
}

/// A moment as Ollama writes it.
fn written(moment: OffsetDateTime) -> String {
    moment.format(&Rfc3339).unwrap_or_default()
}

fn now() -> String {
    written(OffsetDateTime::now_utc())
}
