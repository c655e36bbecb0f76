//! `/v1/completions`, the older interface: texts that the model goes on with, without a chat template.

use axum::response::Response;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use super::choices::{Asked, Choice, MAX_CHOICES, MAX_STOPS, OneOrMany, Shape, StreamOptions, answer};
use super::{DEFAULTS, DIALECT};
use crate::gateway::{Gateway, Order, Prompt};
use crate::problem::Problem;
use crate::request::Body;
use crate::rest::Rest;
use crate::sampling::{Given, between, varied};
use crate::stop;

/// OpenAI's default.
const MAX_TOKENS: u32 = 16;

#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "CompletionRequest")]
pub(super) struct Request {
    model: String,
    #[schemars(with = "OneOrMany")]
    prompt: Value,
    #[serde(default)]
    echo: Option<bool>,
    stream: Option<bool>,
    stream_options: Option<StreamOptions>,
    #[serde(flatten)]
    sampling: Given,
    n: Option<u32>,
    stop: Option<OneOrMany>,
    max_tokens: Option<u32>,
    #[serde(flatten)]
    rest: Rest,
}

/// Parameters that change an answer and are not there yet.
fn refuse_unsupported(rest: &Rest) -> Result<(), Problem> {
    rest.refuse(&["suffix", "logprobs", "logit_bias"])?;
    rest.refuse_unless("best_of", &json!(1))?;
    rest.refuse_unless("frequency_penalty", &json!(0))?;
    rest.refuse_unless("presence_penalty", &json!(0))
}

/// A text or several. Token ids are an OpenAI model's own, which no model here has.
fn prompts(prompt: Value) -> Result<Vec<String>, Problem> {
    let wrong = || Problem::parameter("prompt", "prompt must be a text, or a list of texts, none of them empty");
    let text = |value| match value {
        Value::String(text) if !text.is_empty() => Ok(text),
        Value::Number(_) | Value::Array(_) => Err(Problem::unsupported_form("prompt", "token ids")),
        _ => Err(wrong()),
    };
    match prompt {
        Value::Array(prompts) if prompts.is_empty() => Err(wrong()),
        Value::Array(prompts) => prompts.into_iter().map(text).collect(),
        prompt => Ok(vec![text(prompt)?]),
    }
}

fn asked(request: Request) -> Result<Asked, Problem> {
    refuse_unsupported(&request.rest)?;
    let count = between("n", request.n.unwrap_or(1), 1, MAX_CHOICES)?;
    let sampling = request.sampling.sampling(DEFAULTS)?;
    let stops = stop::checked(request.stop.map(OneOrMany::into_vec).unwrap_or_default(), MAX_STOPS, "stop")?;
    let max_tokens = request.max_tokens.unwrap_or(MAX_TOKENS);
    let echo = request.echo.unwrap_or(false);
    let prompts = prompts(request.prompt)?;
    if prompts.len().saturating_mul(count as usize) > MAX_CHOICES as usize {
        let message = format!("prompt and n ask for more than {MAX_CHOICES} answers together");
        return Err(Problem::parameter("prompt", message));
    }
    let choice = |prompt: &String, number| Choice {
        order: Order {
            prompt: Prompt::Text(prompt.clone()),
            sampling: varied(sampling, number),
            max_tokens,
            stops: stops.clone(),
        },
        lead: if echo { prompt.clone() } else { String::new() },
    };
    Ok(Asked {
        shape: Shape::Text,
        choices: prompts.iter().flat_map(|prompt| (0..count).map(move |number| choice(prompt, number))).collect(),
        choices_per_prompt: count as usize,
        stream: request.stream,
        stream_options: request.stream_options,
    })
}

/// Goes on with texts.
pub(super) async fn complete(gateway: Gateway, Body(request): Body<Request>) -> Response {
    DIALECT.answer(try_complete(&gateway, request).await)
}

async fn try_complete(gateway: &Gateway, request: Result<Request, Problem>) -> Result<Response, Problem> {
    let request = request?;
    let model = gateway.model(&request.model)?;
    answer(gateway, model, asked(request)?).await
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(extra: &Value) -> Result<Asked, Problem> {
        let mut request = json!({ "model": "m", "prompt": "Once" });
        for (name, value) in extra.as_object().expect("an object") {
            request[name] = value.clone();
        }
        asked(serde_json::from_value(request).expect("a request"))
    }

    #[test]
    fn prompts_and_choices_are_told_apart() {
        let asked =
            read(&json!({ "prompt": ["a", "b"], "n": 2, "seed": 5, "echo": true, "best_of": 1 })).expect("whole");
        let choices = asked.choices.iter().map(|choice| match &choice.order.prompt {
            Prompt::Text(text) => (text.as_str(), choice.lead.as_str(), choice.order.sampling.seed),
            Prompt::Chat(_) => unreachable!("it is a text"),
        });
        assert_eq!(choices.collect::<Vec<_>>(), [("a", "a", 5), ("a", "a", 6), ("b", "b", 5), ("b", "b", 6)]);
        assert_eq!((asked.choices_per_prompt, asked.choices[0].order.max_tokens), (2, MAX_TOKENS));
    }

    #[test]
    fn what_is_absurd_or_not_there_is_refused_by_name() {
        for (extra, parameter, status) in [
            (json!({ "prompt": "" }), "prompt", 400),
            (json!({ "prompt": [] }), "prompt", 400),
            (json!({ "prompt": {} }), "prompt", 400),
            (json!({ "prompt": [5, 6] }), "prompt", 501),
            (json!({ "prompt": [[5, 6]] }), "prompt", 501),
            (json!({ "prompt": ["a", "b", "c"], "n": 3 }), "prompt", 400),
            (json!({ "suffix": "end" }), "suffix", 501),
            (json!({ "logprobs": 0 }), "logprobs", 501),
            (json!({ "best_of": 2 }), "best_of", 501),
        ] {
            let problem = read(&extra).err().unwrap_or_else(|| unreachable!("{extra} is taken"));
            assert_eq!((problem.parameter, problem.status.as_u16()), (Some(parameter), status), "{extra}");
        }
    }
}
