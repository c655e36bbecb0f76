//! The interfaces, as far as something is said in each one's own shape.

use axum::Json;
use axum::http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use crate::problem::Problem;

/// Says which place in line there was no room for.
const QUEUE_PLACE: HeaderName = HeaderName::from_static("x-queue-place");

/// An interface that programs know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    OpenAi,
    Ollama,
    Anthropic,
}

impl Dialect {
    /// The interface that a path belongs to, served or not.
    pub(crate) fn of(path: &str) -> Self {
        let below = |root: &str| path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        if below("/api") {
            Self::Ollama
        } else if below("/v1/messages") {
            Self::Anthropic
        } else {
            Self::OpenAi
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::OpenAi => "OpenAI",
            Self::Ollama => "Ollama",
            Self::Anthropic => "Anthropic",
        }
    }

    /// A problem as the interface's clients turn it into their exceptions.
    pub(crate) fn body(self, problem: &Problem) -> Value {
        match self {
            Self::OpenAi => {
                let kind = match problem.status {
                    StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
                    status if status.is_server_error() => "server_error",
                    _ => "invalid_request_error",
                };
                let Problem { message, parameter, code, .. } = problem;
                json!({ "error": { "message": message, "type": kind, "param": parameter, "code": code } })
            }
            Self::Ollama => json!({ "error": problem.message }),
            Self::Anthropic => {
                // Source: <https://docs.anthropic.com/en/api/errors>.
                let kind = match problem.status {
                    StatusCode::UNAUTHORIZED => "authentication_error",
                    StatusCode::FORBIDDEN => "permission_error",
                    StatusCode::NOT_FOUND => "not_found_error",
                    StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
                    StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
                    StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
                    StatusCode::INTERNAL_SERVER_ERROR => "api_error",
                    _ => "invalid_request_error",
                };
                json!({ "type": "error", "error": { "type": kind, "message": problem.message } })
            }
        }
    }

    /// The response.
    pub(crate) fn respond(self, problem: &Problem) -> Response {
        let mut response = (problem.status, Json(self.body(problem))).into_response();
        if let Some(seconds) = problem.retry_after {
            response.headers_mut().insert(RETRY_AFTER, seconds.into());
        }
        if let Some(place) = problem.queue_place {
            response.headers_mut().insert(QUEUE_PLACE, place.into());
        }
        if problem.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }

    /// The response to a request, or to what is wrong with it.
    pub(crate) fn answer(self, result: Result<Response, Problem>) -> Response {
        result.unwrap_or_else(|problem| self.respond(&problem))
    }
}

/// Paths of the interfaces that are not served.
pub(crate) async fn nothing(uri: Uri) -> Response {
    let problem = match uri.path() {
        "/v1/embeddings" | "/api/embed" | "/api/embeddings" => Problem::unsupported("embeddings"),
        path => Problem::malformed(StatusCode::NOT_FOUND, format!("The path {path} is not served by this gateway.")),
    };
    Dialect::of(uri.path()).respond(&problem)
}

/// Methods that a path does not take.
pub(crate) async fn other_method(uri: Uri) -> Response {
    let message = format!("The path {} does not take this method.", uri.path());
    Dialect::of(uri.path()).respond(&Problem::malformed(StatusCode::METHOD_NOT_ALLOWED, message))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_has_its_interface() {
        for (path, dialect) in [
            ("/v1/models", Dialect::OpenAi),
            ("/v1/messages", Dialect::Anthropic),
            ("/v1/messages/count_tokens", Dialect::Anthropic),
            ("/v1/messages_of_others", Dialect::OpenAi),
            ("/api/chat", Dialect::Ollama),
            ("/apis", Dialect::OpenAi),
        ] {
            assert_eq!(Dialect::of(path), dialect, "{path}");
        }
    }
}
