//! `/v1/responses`, OpenAI's newest interface, for text.
//!
//! Source: <https://platform.openai.com/docs/api-reference/responses>.

mod events;
mod object;
mod request;

use axum::Json;
use axum::response::{IntoResponse as _, Response};

use self::object::Head;
pub(super) use self::request::Request;
use super::DIALECT;
use crate::gateway::Gateway;
use crate::problem::Problem;
use crate::request::Body;
use crate::sse;

/// Answers a request.
pub(super) async fn respond(gateway: Gateway, Body(request): Body<Request>) -> Response {
    DIALECT.answer(try_respond(&gateway, request).await)
}

async fn try_respond(gateway: &Gateway, request: Result<Request, Problem>) -> Result<Response, Problem> {
    let request = request?;
    let model = gateway.model(&request.model)?;
    let (stream, head) = (request.stream.unwrap_or(false), Head::new(&model, &request));
    let completion = gateway.complete(request.order(model.view.context)?).await?;
    if stream {
        return Ok(sse::respond(events::events(head, completion.begin().await?), None));
    }
    let (text, end) = completion.whole().await?;
    Ok(Json(head.ended(&text, &end)).into_response())
}
