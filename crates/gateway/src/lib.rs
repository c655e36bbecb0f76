//! OpenAI-, Anthropic- and Ollama-compatible HTTP over a node.
//!
//! A gateway is a client of the swarm like any other: it drives a [`cdi_node::Handle`] and speaks the interfaces that
//! chat programs know. [`Gateway::start`] takes the node over, [`router`] serves it.
//!
//! | paths | file |
//! |---|---|
//! | `/v1/models`, `/v1/chat/completions`, `/v1/completions`, `/v1/responses` | `openai/` |
//! | `/v1/messages`, `/v1/messages/count_tokens` | `anthropic/` |
//! | `/api/version`, `/api/tags`, `/api/show`, `/api/ps`, `/api/chat`, `/api/generate` | `ollama/` |
//!
//! An interface knows its shapes only. What the interfaces share stands beside them: reading a request (`request.rs`,
//! `rest.rs`, `conversation.rs`, `sampling.rs`, `stop.rs`), asking the swarm (`gateway.rs`) and the stream of its answer
//! (`completion.rs`).
//!
//! What the interfaces know and this gateway does not have yet is refused in the interface's own words, never ignored:
//! see [`Problem`].

mod anthropic;
mod completion;
mod conversation;
mod dialect;
mod gateway;
mod ollama;
mod openai;
mod problem;
mod request;
mod rest;
mod sampling;
mod sse;
mod stop;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::any;

pub use self::gateway::Gateway;
pub use self::problem::Problem;

/// Largest request, in bytes. The longest conversations that models read today take about a megabyte.
pub const MAX_REQUEST_BYTES: usize = 8 << 20;

/// Everything that the gateway serves.
pub fn router(gateway: Gateway) -> Router {
    openai::router()
        .merge(anthropic::router())
        .merge(ollama::router())
        .method_not_allowed_fallback(dialect::other_method)
        .route("/v1/{*rest}", any(dialect::nothing))
        .route("/api/{*rest}", any(dialect::nothing))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(gateway)
}
