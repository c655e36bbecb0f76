//! `/api/tags`, `/api/ps` and `/api/show`.

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use time::OffsetDateTime;

use super::DIALECT;
use super::written;
use crate::gateway::{Gateway, Model};
use crate::request::Body;

/// Every model.
pub(super) async fn tags(gateway: Gateway) -> Response {
    list(&gateway, |model, entry| entry["modified_at"] = json!(since(model)))
}

/// The loaded models: the swarm holds them all, and none expires.
pub(super) async fn running(gateway: Gateway) -> Response {
    list(&gateway, |model, entry| {
        entry["size_vram"] = json!(0);
        entry["context_length"] = json!(model.view.context);
        // Ollama's way to say: never.
        entry["expires_at"] = json!("2318-01-01T00:00:00Z");
    })
}

fn list(gateway: &Gateway, more: impl Fn(&Model, &mut Value)) -> Response {
    let describe = |model: Model| {
        let mut entry = json!({
            "name": tagged(&model),
            "model": tagged(&model),
            "size": model.view.weight_bytes,
            "digest": model.view.id.to_string(),
            "details": details(),
        });
        more(&model, &mut entry);
        entry
    };
    let models: Vec<Value> = gateway.models().into_iter().map(describe).collect();
    Json(json!({ "models": models })).into_response()
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "ShowRequest")]
pub(super) struct Named {
    /// The old name of the same parameter is `name`.
    #[serde(alias = "name")]
    model: String,
}

/// One model.
pub(super) async fn show(gateway: Gateway, Body(request): Body<Named>) -> Response {
    match request.and_then(|named| gateway.model(&named.model)) {
        Ok(model) => Json(json!({
            "modified_at": since(&model),
            "details": details(),
            "model_info": {
                "general.architecture": "llama",
                "general.basename": model.view.name,
                "llama.block_count": model.view.layers,
                "llama.context_length": model.view.context,
            },
            "capabilities": ["completion"],
        }))
        .into_response(),
        Err(problem) => DIALECT.respond(&problem),
    }
}

/// Ollama's names have a tag.
pub(super) fn tagged(model: &Model) -> String {
    format!("{}:latest", model.view.name)
}

fn details() -> Value {
    json!({ "parent_model": "", "format": "cdi", "family": "llama", "families": ["llama"] })
}

fn since(model: &Model) -> String {
    let seconds = i64::try_from(model.known_since).unwrap_or_default();
    written(OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH))
}
