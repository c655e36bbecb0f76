//! The interface of Ollama: paths below `/api`.
//!
//! Source: <https://github.com/ollama/ollama/blob/main/docs/api.md>.

mod chat;
mod models;

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::dialect::Dialect;
use crate::endpoint::Endpoint;

const DIALECT: Dialect = Dialect::Ollama;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/api/version", "The version of the gateway.", version),
        Endpoint::get("/api/tags", "The models that can be asked.", models::tags),
        Endpoint::get("/api/ps", "The models that are loaded.", models::running),
        Endpoint::post::<models::Named, _>("/api/show", "One model.", models::show),
        Endpoint::post::<chat::Chat, _>("/api/chat", "Answers a conversation.", chat::chat),
        Endpoint::post::<chat::Generate, _>(
            "/api/generate",
            "Answers a question, or goes on with a text.",
            chat::generate,
        ),
    ]
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
