//! `/v1/models`.

use axum::Json;
use axum::extract::Path;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::DIALECT;
use crate::gateway::{Gateway, Model};

/// All models.
pub(super) async fn list(gateway: Gateway) -> Response {
    let models: Vec<Value> = gateway.models().iter().map(describe).collect();
    Json(json!({ "object": "list", "data": models })).into_response()
}

/// One model.
pub(super) async fn one(gateway: Gateway, Path(name): Path<String>) -> Response {
    match gateway.model(&name) {
        Ok(model) => Json(describe(&model)).into_response(),
        Err(problem) => DIALECT.respond(&problem),
    }
}

fn describe(model: &Model) -> Value {
    json!({ "id": model.view.name, "object": "model", "created": model.known_since, "owned_by": "cdi" })
}
