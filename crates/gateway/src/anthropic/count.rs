//! `/v1/messages/count_tokens`.

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use serde_json::json;

use super::DIALECT;
use super::request::Conversation;
use crate::gateway::Gateway;
use crate::problem::Problem;
use crate::request::Body;

/// How many tokens a conversation has.
pub(super) async fn count(gateway: Gateway, Body(request): Body<Conversation>) -> Response {
    DIALECT.answer(try_count(&gateway, request).await)
}

async fn try_count(gateway: &Gateway, request: Result<Conversation, Problem>) -> Result<Response, Problem> {
    let request = request?;
    gateway.model(&request.model)?;
    let tokens = gateway.count(request.prompt()?).await?;
    Ok(Json(json!({ "input_tokens": tokens })).into_response())
}
