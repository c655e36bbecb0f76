//! Bodies of requests: JSON of any content type, as clients send it.

use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{FromRequest, Request};
use serde::de::DeserializeOwned;

use crate::problem::Problem;

/// The body of a request, or what is wrong with it. Neither interface insists on a content type: `curl -d` sends none
/// that fits.
pub(crate) struct Body<T>(pub(crate) Result<T, Problem>);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = std::convert::Infallible;

    async fn from_request(request: Request, state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(match Bytes::from_request(request, state).await {
            Ok(bytes) => parse(&bytes),
            Err(rejection) => Err(unread(&rejection)),
        }))
    }
}

fn unread(rejection: &BytesRejection) -> Problem {
    Problem::malformed(rejection.status(), rejection.body_text())
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| {
        let message = format!("The request is not the JSON that this path expects: {error}");
        Problem::malformed(axum::http::StatusCode::BAD_REQUEST, message)
    })
}
