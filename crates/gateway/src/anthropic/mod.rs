//! The interface of Anthropic: `/v1/messages` and what is below it.
//!
//! Source: <https://docs.anthropic.com/en/api/messages>.

mod count;
mod events;
mod messages;
mod request;

use axum::Router;
use axum::routing::post;

use crate::dialect::Dialect;
use crate::gateway::Gateway;

const DIALECT: Dialect = Dialect::Anthropic;

pub(crate) fn router() -> Router<Gateway> {
    Router::new().route("/v1/messages", post(messages::create)).route("/v1/messages/count_tokens", post(count::count))
}
