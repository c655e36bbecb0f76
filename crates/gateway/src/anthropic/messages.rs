//! `/v1/messages`.

use axum::Json;
use axum::response::{IntoResponse as _, Response};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::request::Conversation;
use super::{DIALECT, events};
use crate::completion::{End, Reason};
use crate::gateway::{Gateway, Order, fresh_id};
use crate::problem::Problem;
use crate::request::Body;
use crate::sampling::{Defaults, Given, between};
use crate::{sse, stop};

/// Most stop texts.
const MAX_STOPS: usize = 16;

const DEFAULTS: Defaults = Defaults { temperature: 1.0, hottest: 1.0, top_p: 1.0, top_k: 0 };

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "MessagesRequest")]
pub(super) struct Request {
    max_tokens: u32,
    stream: Option<bool>,
    #[serde(default)]
    stop_sequences: Vec<String>,
    #[serde(flatten)]
    sampling: Given,
    #[serde(flatten)]
    conversation: Conversation,
}

/// Answers a conversation.
pub(super) async fn create(gateway: Gateway, Body(request): Body<Request>) -> Response {
    DIALECT.answer(try_create(&gateway, request).await)
}

async fn try_create(gateway: &Gateway, request: Result<Request, Problem>) -> Result<Response, Problem> {
    let Request { max_tokens, stream, stop_sequences, sampling, conversation } = request?;
    let model = gateway.model(&conversation.model)?;
    let order = Order {
        sampling: sampling.sampling(DEFAULTS)?,
        max_tokens: between("max_tokens", max_tokens, 1, u32::MAX)?,
        stops: stop::checked(stop_sequences, MAX_STOPS, "stop_sequences")?,
        prompt: conversation.prompt()?,
    };
    let completion = gateway.complete(order).await?;
    let head = Head { id: fresh_id("msg_"), model: model.view.name };
    if stream.unwrap_or(false) {
        let begun = completion.begin().await?;
        return Ok(sse::respond(events::events(&head, begun), Some(events::ping())));
    }
    let (text, end) = completion.whole().await?;
    Ok(Json(head.whole(&text, &end)).into_response())
}

/// What a message repeats.
pub(super) struct Head {
    id: String,
    model: String,
}

impl Head {
    /// The message before it has text.
    pub(super) fn begun(&self, input_tokens: u32) -> Value {
        json!({
            "id": self.id, "type": "message", "role": "assistant", "model": self.model, "content": [],
            "stop_reason": null, "stop_sequence": null,
            "usage": { "input_tokens": input_tokens, "output_tokens": 0 },
        })
    }

    fn whole(&self, text: &str, end: &End) -> Value {
        let mut message = self.begun(end.prompt_tokens);
        message["content"] = json!([{ "type": "text", "text": text }]);
        message["usage"]["output_tokens"] = json!(end.tokens);
        let (reason, sequence) = stopped(&end.reason);
        (message["stop_reason"], message["stop_sequence"]) = (json!(reason), json!(sequence));
        message
    }
}

/// Why an answer ended, and the stop text that ended it.
pub(super) fn stopped(reason: &Reason) -> (&'static str, Option<&str>) {
    match reason {
        Reason::EndOfText => ("end_turn", None),
        Reason::Stop(text) => ("stop_sequence", Some(text)),
        Reason::Length => ("max_tokens", None),
    }
}
