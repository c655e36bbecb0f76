//! The interface of OpenAI: paths below `/v1`.
//!
//! Source: <https://platform.openai.com/docs/api-reference>.

mod chat;
mod models;
mod problem;

use axum::Router;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use axum::routing::{get, post};

use self::problem::respond;
use crate::gateway::Gateway;
use crate::problem::Problem;

pub(crate) fn router(gateway: Gateway) -> Router {
    Router::new()
        .route("/models", get(models::list))
        .route("/models/{name}", get(models::one))
        .route("/chat/completions", post(chat::complete))
        .fallback(nothing)
        .method_not_allowed_fallback(other_method)
        .with_state(gateway)
}

/// Paths of the interface that are not served.
async fn nothing(uri: Uri) -> Response {
    let message = format!("The path {} is not served by this gateway.", uri.path());
    respond(&Problem::malformed(StatusCode::NOT_FOUND, message))
}

async fn other_method(uri: Uri) -> Response {
    let message = format!("The path {} does not take this method.", uri.path());
    respond(&Problem::malformed(StatusCode::METHOD_NOT_ALLOWED, message))
}
