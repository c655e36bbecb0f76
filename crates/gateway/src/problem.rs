//! Why a request is refused, in words that the interfaces share. Each interface gives them its own shape.

use std::time::Duration;

use axum::http::StatusCode;
use cdi_node::view::Failure;

/// Why a request is refused, or an answer ended early.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Problem {
    /// Of the response.
    pub status: StatusCode,
    /// For people: what is wrong, and what to do.
    pub message: String,
    /// The parameter that is wrong.
    pub parameter: Option<&'static str>,
    /// For programs, e.g. `model_not_found`.
    pub code: Option<&'static str>,
    /// Seconds after which another attempt makes sense.
    pub retry_after: Option<u32>,
    /// Tokens of the prompt, where it is too long.
    pub prompt_tokens: Option<u32>,
    /// The place in line that there was no room for.
    pub queue_place: Option<u32>,
}

impl Problem {
    fn new(status: StatusCode, code: Option<&'static str>, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            parameter: None,
            code,
            retry_after: None,
            prompt_tokens: None,
            queue_place: None,
        }
    }

    /// The request is not one.
    pub(crate) fn malformed(status: StatusCode, message: impl Into<String>) -> Self {
        Self::new(status, Some("invalid_request"), message)
    }

    /// A parameter has no usable value.
    pub(crate) fn parameter(name: &'static str, message: impl Into<String>) -> Self {
        Self { parameter: Some(name), ..Self::new(StatusCode::BAD_REQUEST, Some("invalid_value"), message) }
    }

    /// A parameter that the interface knows and this gateway does not have.
    pub(crate) fn unsupported(name: &'static str) -> Self {
        let message = format!("{name} is not supported by this gateway yet. Leave it out.");
        Self { parameter: Some(name), ..Self::new(StatusCode::NOT_IMPLEMENTED, Some("unsupported_parameter"), message) }
    }

    /// A form of a parameter that the interface knows and this gateway does not have.
    pub(crate) fn unsupported_form(name: &'static str, form: &str) -> Self {
        let message = format!("{name} with {form} is not supported by this gateway yet.");
        Self { message, ..Self::unsupported(name) }
    }

    pub(crate) fn no_model(name: &str) -> Self {
        let message = format!("The model `{name}` does not exist here. The list of models names those that do.");
        Self { parameter: Some("model"), ..Self::new(StatusCode::NOT_FOUND, Some("model_not_found"), message) }
    }

    /// The node has not heard of its model yet.
    pub(crate) fn starting() -> Self {
        let message = "The gateway is starting and knows no model yet. Try again in some seconds.";
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, Some("starting"), message);
        Self { retry_after: Some(2), ..problem }
    }

    /// All places are taken, and so are those in line.
    pub(crate) fn busy(queue_place: u32, seconds: u32) -> Self {
        let before = queue_place - 1;
        let message = format!(
            "The gateway answers as many requests as it can, and {before} more stand in line: place {queue_place} \
             would be yours. Try again in {seconds} seconds."
        );
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, Some("busy"), message);
        Self { retry_after: Some(seconds), queue_place: Some(queue_place), ..problem }
    }

    /// The request has no key.
    pub(crate) fn no_key() -> Self {
        let message = "This API asks for a key. Send it as `Authorization: Bearer` or as `x-api-key`.";
        Self::new(StatusCode::UNAUTHORIZED, Some("invalid_api_key"), message)
    }

    /// The request's key is not one, or not any more.
    pub(crate) fn wrong_key() -> Self {
        let message = "The key of this request is not known here, or was revoked. Ask the operator for another.";
        Self::new(StatusCode::UNAUTHORIZED, Some("invalid_api_key"), message)
    }

    /// The key's holder has asked often enough in this minute.
    pub(crate) fn too_often(most: u32, wait: Duration) -> Self {
        let message = format!("This key is good for {most} requests a minute. {}", again(wait));
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, Some("rate_limit_exceeded"), message);
        Self { retry_after: Some(seconds(wait)), ..problem }
    }

    /// The key's holder has used enough today.
    pub(crate) fn quota(most: u64, wait: Duration) -> Self {
        let message = format!("This key is good for {most} tokens a day. {}", again(wait));
        let problem = Self::new(StatusCode::TOO_MANY_REQUESTS, Some("insufficient_quota"), message);
        Self { retry_after: Some(seconds(wait)), ..problem }
    }

    /// The node gave no answer, and says why.
    pub(crate) fn failed(failure: Failure, message: String) -> Self {
        match failure {
            Failure::Question => Self::new(StatusCode::BAD_REQUEST, Some("invalid_prompt"), message),
            // OpenAI's code and Anthropic's words, by which programs know that they must shorten.
            Failure::TooLong { tokens, context } => {
                let message = format!(
                    "prompt is too long: {tokens} tokens > {context} maximum. The model's maximum context length is \
                     {context} tokens, with the answer. Shorten the conversation."
                );
                let problem = Self::new(StatusCode::BAD_REQUEST, Some("context_length_exceeded"), message);
                Self { prompt_tokens: Some(tokens), ..problem }
            }
            Failure::Swarm => Self::swarm(message),
        }
    }

    /// The swarm gave no answer. A tab that hosts what is missing may come at any time.
    fn swarm(message: impl Into<String>) -> Self {
        let problem = Self::new(StatusCode::SERVICE_UNAVAILABLE, Some("swarm"), message);
        Self { retry_after: Some(5), ..problem }
    }

    /// The node has stopped.
    pub(crate) fn stopped() -> Self {
        Self::swarm("The gateway's node has stopped.")
    }
}

/// A wait in whole seconds, rounded up.
fn seconds(wait: Duration) -> u32 {
    u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX)
}

fn again(wait: Duration) -> String {
    format!("Try again in {} seconds.", seconds(wait))
}
