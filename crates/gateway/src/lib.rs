//! OpenAI- and Ollama-compatible HTTP over a node.
//!
//! A gateway is a client of the swarm like any other: it drives a [`cdi_node::Handle`] and speaks the two interfaces
//! that chat programs know. [`Gateway::start`] takes the node over, [`router`] serves it.
//!
//! | paths | file |
//! |---|---|
//! | `/v1/models`, `/v1/chat/completions` | `openai/` |
//! | `/api/version`, `/api/tags`, `/api/show`, `/api/ps`, `/api/chat`, `/api/generate` | `ollama/` |
//!
//! What the interfaces know and this gateway does not have yet is refused in the interface's own words, never ignored:
//! see [`Problem`].

mod completion;
mod gateway;
mod number;
mod ollama;
mod openai;
mod problem;
mod request;
mod stop;

use axum::Router;
use axum::extract::DefaultBodyLimit;

pub use self::gateway::Gateway;
pub use self::problem::Problem;

/// Largest request, in bytes. The longest conversations that models read today take about a megabyte.
pub const MAX_REQUEST_BYTES: usize = 8 << 20;

/// Everything that the gateway serves.
pub fn router(gateway: Gateway) -> Router {
    Router::new()
        .nest("/v1", openai::router(gateway.clone()))
        .nest("/api", ollama::router(gateway))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
}
