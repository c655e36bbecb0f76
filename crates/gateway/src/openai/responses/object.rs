//! The response object, at its beginning and at its end, and the one message in it.

use cdi_platform::time::unix_ms;
use serde_json::{Value, json};

use super::super::DEFAULTS;
use super::request::Request;
use crate::completion::{End, Reason};
use crate::gateway::{Model, fresh_id};
use crate::problem::Problem;

/// What a response repeats.
pub(super) struct Head {
    /// The response without what changes.
    fixed: Value,
    pub(super) message_id: String,
}

impl Head {
    pub(super) fn new(model: &Model, request: &Request) -> Self {
        let fixed = json!({
            "id": fresh_id("resp_"),
            "object": "response",
            "created_at": unix_ms() / 1000,
            "status": "in_progress",
            "error": null,
            "incomplete_details": null,
            "instructions": request.instructions,
            "max_output_tokens": request.max_output_tokens,
            "metadata": request.rest.get("metadata").cloned().unwrap_or_else(|| json!({})),
            "model": model.view.name,
            "output": [],
            "parallel_tool_calls": false,
            "previous_response_id": null,
            "reasoning": { "effort": null, "summary": null },
            "store": false,
            "temperature": request.sampling.temperature.unwrap_or(DEFAULTS.temperature),
            "text": { "format": { "type": "text" } },
            "tool_choice": "none",
            "tools": [],
            "top_p": request.sampling.top_p.unwrap_or(DEFAULTS.top_p),
            "truncation": "disabled",
            "usage": null,
        });
        Self { fixed, message_id: fresh_id("msg_") }
    }

    /// The response before there is text.
    pub(super) fn begun(&self) -> Value {
        self.fixed.clone()
    }

    /// The response that has ended.
    pub(super) fn ended(&self, text: &str, end: &End) -> Value {
        let mut response = self.begun();
        let total = u64::from(end.prompt_tokens) + u64::from(end.tokens);
        response["status"] = json!(status(end));
        if end.reason == Reason::Length {
            response["incomplete_details"] = json!({ "reason": "max_output_tokens" });
        }
        response["output"] = json!([self.message(status(end), &[part(text)])]);
        response["usage"] = json!({
            "input_tokens": end.prompt_tokens,
            "input_tokens_details": { "cached_tokens": 0 },
            "output_tokens": end.tokens,
            "output_tokens_details": { "reasoning_tokens": 0 },
            "total_tokens": total,
        });
        response
    }

    /// The response that ended early.
    pub(super) fn failed(&self, problem: &Problem) -> Value {
        let mut response = self.begun();
        response["status"] = json!("failed");
        response["error"] = json!({ "code": "server_error", "message": problem.message });
        response
    }

    /// The message of the response.
    pub(super) fn message(&self, status: &str, content: &[Value]) -> Value {
        json!({
            "id": self.message_id, "type": "message", "role": "assistant", "status": status, "content": content,
        })
    }
}

/// How a response or its message ended.
pub(super) fn status(end: &End) -> &'static str {
    match end.reason {
        Reason::Length => "incomplete",
        Reason::EndOfText | Reason::Stop(_) => "completed",
    }
}

/// The text of a message.
pub(super) fn part(text: &str) -> Value {
    json!({ "type": "output_text", "text": text, "annotations": [], "logprobs": [] })
}
