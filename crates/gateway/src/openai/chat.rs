//! `/v1/chat/completions`.

use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::choices::{Asked, Choice, MAX_CHOICES, MAX_STOPS, OneOrMany, Shape, StreamOptions, answer};
use super::{DEFAULTS, DIALECT};
use crate::conversation::{Turn, answerable};
use crate::gateway::{Gateway, Order, Prompt};
use crate::problem::Problem;
use crate::request::Body;
use crate::rest::Rest;
use crate::sampling::{Given, between, varied};
use crate::stop;

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "ChatCompletionRequest")]
pub(super) struct Request {
    model: String,
    messages: Vec<Turn>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    #[serde(flatten)]
    sampling: Given,
    n: Option<u32>,
    stop: Option<OneOrMany>,
    max_tokens: Option<u32>,
    /// The newer name.
    max_completion_tokens: Option<u32>,
    #[serde(flatten)]
    rest: Rest,
}

/// Parameters that change an answer and are not there yet.
fn refuse_unsupported(rest: &Rest) -> Result<(), Problem> {
    rest.refuse(&["tools", "functions", "logprobs", "logit_bias", "audio", "prediction", "web_search_options"])?;
    rest.refuse_unless("frequency_penalty", &json!(0))?;
    rest.refuse_unless("presence_penalty", &json!(0))?;
    rest.refuse_unless("response_format", &json!({ "type": "text" }))?;
    rest.refuse_unless("modalities", &json!(["text"]))
}

fn asked(request: Request, context: u32) -> Result<Asked, Problem> {
    refuse_unsupported(&request.rest)?;
    let count = between("n", request.n.unwrap_or(1), 1, MAX_CHOICES)?;
    let sampling = request.sampling.sampling(DEFAULTS)?;
    let max_tokens = request.max_completion_tokens.or(request.max_tokens).unwrap_or(context);
    let max_tokens = between("max_tokens", max_tokens, 1, u32::MAX)?;
    let stops = stop::checked(request.stop.map(OneOrMany::into_vec).unwrap_or_default(), MAX_STOPS, "stop")?;
    let messages = request.messages.into_iter().map(|turn| turn.message("messages")).collect::<Result<Vec<_>, _>>()?;
    let prompt = Prompt::Chat(answerable(messages, "messages")?);
    let order =
        |number| Order { prompt: prompt.clone(), sampling: varied(sampling, number), max_tokens, stops: stops.clone() };
    Ok(Asked {
        shape: Shape::Chat,
        choices: (0..count).map(|number| Choice { order: order(number), lead: String::new() }).collect(),
        choices_per_prompt: count as usize,
        stream: request.stream,
        stream_options: request.stream_options,
    })
}

/// Answers a conversation.
pub(super) async fn complete(gateway: Gateway, Body(request): Body<Request>) -> Response {
    DIALECT.answer(try_complete(&gateway, request).await)
}

async fn try_complete(gateway: &Gateway, request: Result<Request, Problem>) -> Result<Response, Problem> {
    let request = request?;
    let model = gateway.model(&request.model)?;
    let asked = asked(request, model.view.context)?;
    answer(gateway, model, asked).await
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn read(value: Value) -> Result<Asked, Problem> {
        asked(serde_json::from_value(value).expect("a request"), 512)
    }

    fn refused(extra: &Value) -> Problem {
        let mut request = json!({ "model": "m", "messages": [{ "role": "user", "content": "hi" }] });
        for (name, value) in extra.as_object().expect("an object") {
            request[name] = value.clone();
        }
        read(request).err().unwrap_or_else(|| panic!("{extra} is taken"))
    }

    #[test]
    fn a_request_becomes_an_order() {
        let asked = read(json!({
            "model": "m",
            "messages": [
                { "role": "developer", "content": "Be short." },
                { "role": "user", "content": [{ "type": "text", "text": "a" }, { "type": "text", "text": "b" }] },
            ],
            "n": 2, "seed": -1, "temperature": 0, "max_tokens": 9, "stop": "x",
            "frequency_penalty": 0, "response_format": { "type": "text" }, "user": "whoever",
        }))
        .expect("it is whole");
        let [first, second] = &asked.choices[..] else { unreachable!("there are two") };
        assert_eq!(first.order.stops, ["x"]);
        let Prompt::Chat(messages) = &first.order.prompt else { unreachable!("it is a conversation") };
        let texts: Vec<_> = messages.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect();
        assert_eq!(texts, [("system", "Be short."), ("user", "ab")]);
        assert_eq!((first.order.sampling.seed, second.order.sampling.seed), (u64::MAX, 0));
        assert_eq!((first.order.sampling.temperature, first.order.max_tokens), (0.0, 9));
    }

    #[test]
    fn what_is_absurd_or_not_there_is_refused_by_name() {
        for (extra, parameter) in [
            (json!({ "temperature": -0.1 }), "temperature"),
            (json!({ "temperature": 2.1 }), "temperature"),
            (json!({ "top_p": 0 }), "top_p"),
            (json!({ "n": 0 }), "n"),
            (json!({ "n": 99 }), "n"),
            (json!({ "max_tokens": 0 }), "max_tokens"),
            (json!({ "stop": ["a", "b", "c", "d", "e"] }), "stop"),
            (json!({ "messages": [] }), "messages"),
            (json!({ "messages": [{ "role": "user", "content": "  " }] }), "messages"),
            (json!({ "messages": [{ "role": "wizard", "content": "hi" }] }), "messages"),
            (
                json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": {} }] }] }),
                "messages",
            ),
            (json!({ "tools": [{ "type": "function" }] }), "tools"),
            (json!({ "logprobs": true }), "logprobs"),
            (json!({ "presence_penalty": 0.5 }), "presence_penalty"),
            (json!({ "response_format": { "type": "json_object" } }), "response_format"),
        ] {
            assert_eq!(refused(&extra).parameter, Some(parameter));
        }
    }
}
