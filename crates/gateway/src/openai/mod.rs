//! The interface of OpenAI: paths below `/v1`.
//!
//! Source: <https://platform.openai.com/docs/api-reference>.

mod chat;
mod choices;
mod completions;
mod models;
mod responses;

use axum::Router;
use axum::routing::{get, post};

use crate::dialect::Dialect;
use crate::gateway::Gateway;
use crate::sampling::Defaults;

const DIALECT: Dialect = Dialect::OpenAi;

const DEFAULTS: Defaults = Defaults { temperature: 1.0, hottest: 2.0, top_p: 1.0, top_k: 0 };

pub(crate) fn router() -> Router<Gateway> {
    Router::new()
        .route("/v1/models", get(models::list))
        .route("/v1/models/{name}", get(models::one))
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/completions", post(completions::complete))
        .route("/v1/responses", post(responses::respond))
}
