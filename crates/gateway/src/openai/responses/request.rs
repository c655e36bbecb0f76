//! What a request asks for.

use cdi_node::view::Message;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::DEFAULTS;
use crate::conversation::{Turn, answerable};
use crate::gateway::{Order, Prompt};
use crate::problem::Problem;
use crate::rest::Rest;
use crate::sampling::{Given, between};

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "ResponseRequest")]
pub(in crate::openai) struct Request {
    pub(super) model: String,
    input: Input,
    pub(super) instructions: Option<String>,
    pub(super) stream: Option<bool>,
    pub(super) max_output_tokens: Option<u32>,
    #[serde(flatten)]
    pub(super) sampling: Given,
    #[serde(flatten)]
    pub(super) rest: Rest,
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "ResponseInput")]
#[serde(untagged)]
enum Input {
    Text(String),
    Items(Vec<Item>),
}

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "ResponseItem")]
struct Item {
    #[serde(rename = "type")]
    kind: Option<String>,
    #[serde(flatten)]
    #[schemars(with = "Turn")]
    turn: Value,
}

impl Item {
    fn message(self) -> Result<Message, Problem> {
        if let Some(kind) = self.kind.filter(|kind| kind != "message") {
            return Err(Problem::unsupported_form("input", &format!("an item of type `{kind}`")));
        }
        let turn = serde_json::from_value::<Turn>(self.turn);
        let wrong = |error| Problem::parameter("input", format!("input has a message that is none: {error}"));
        turn.map_err(wrong)?.message("input")
    }
}

/// Parameters that change an answer and are not there yet.
fn refuse_unsupported(rest: &Rest) -> Result<(), Problem> {
    rest.refuse(&["tools", "store", "previous_response_id", "conversation", "prompt", "background", "include"])?;
    rest.refuse_unless("truncation", &json!("disabled"))?;
    rest.refuse_unless("top_logprobs", &json!(0))?;
    match rest.get("text").and_then(|text| text.get("format")) {
        Some(format) if *format != json!({ "type": "text" }) && !format.is_null() => {
            Err(Problem::unsupported("text.format"))
        }
        _ => Ok(()),
    }
}

impl Request {
    /// What the swarm is asked.
    pub(super) fn order(self, context: u32) -> Result<Order, Problem> {
        refuse_unsupported(&self.rest)?;
        let said = match self.input {
            Input::Text(content) => vec![Message { role: "user".to_owned(), content }],
            Input::Items(items) => items.into_iter().map(Item::message).collect::<Result<_, _>>()?,
        };
        let instructions = self.instructions.filter(|text| !text.trim().is_empty());
        let system = instructions.map(|content| Message { role: "system".to_owned(), content });
        let messages = system.into_iter().chain(answerable(said, "input")?).collect();
        Ok(Order {
            prompt: Prompt::Chat(messages),
            sampling: self.sampling.sampling(DEFAULTS)?,
            max_tokens: between("max_output_tokens", self.max_output_tokens.unwrap_or(context), 1, u32::MAX)?,
            stops: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(extra: &Value) -> Result<Order, Problem> {
        let mut request = json!({ "model": "m", "input": "hi" });
        for (name, value) in extra.as_object().expect("an object") {
            request[name] = value.clone();
        }
        serde_json::from_value::<Request>(request).expect("a request").order(512)
    }

    #[test]
    fn texts_and_items_are_conversations() {
        let order = read(&json!({
            "instructions": "Be short.",
            "input": [
                { "role": "user", "content": [{ "type": "input_text", "text": "a" }] },
                { "type": "message", "id": "msg_1", "status": "completed", "role": "assistant",
                  "content": [{ "type": "output_text", "text": "b", "annotations": [] }] },
                { "role": "user", "content": "c" },
            ],
            "text": { "format": { "type": "text" } }, "tools": [], "store": false, "truncation": "disabled",
            "max_output_tokens": 7, "metadata": { "a": "b" },
        }))
        .expect("it is whole");
        let Prompt::Chat(messages) = order.prompt else { unreachable!("it is a conversation") };
        let texts: Vec<_> = messages.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect();
        assert_eq!(texts, [("system", "Be short."), ("user", "a"), ("assistant", "b"), ("user", "c")]);
        assert_eq!(order.max_tokens, 7);
    }

    #[test]
    fn what_is_absurd_or_not_there_is_refused_by_name() {
        for (extra, parameter, status) in [
            (json!({ "tools": [{ "type": "web_search" }] }), "tools", 501),
            (json!({ "store": true }), "store", 501),
            (json!({ "previous_response_id": "resp_1" }), "previous_response_id", 501),
            (json!({ "text": { "format": { "type": "json_object" } } }), "text.format", 501),
            (json!({ "truncation": "auto" }), "truncation", 501),
            (json!({ "input": [{ "type": "function_call_output", "call_id": "x", "output": "y" }] }), "input", 501),
            (json!({ "input": [{ "role": "user", "content": [{ "type": "input_image" }] }] }), "input", 400),
            (json!({ "input": [{ "role": 5 }] }), "input", 400),
            (json!({ "input": "" }), "input", 400),
            (json!({ "max_output_tokens": 0 }), "max_output_tokens", 400),
        ] {
            let problem = read(&extra).expect_err("refused");
            assert_eq!((problem.parameter, problem.status.as_u16()), (Some(parameter), status), "{extra}");
        }
    }
}
