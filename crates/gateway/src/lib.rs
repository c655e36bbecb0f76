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
//! Each lists its `endpoints`: the router and the document at `/openapi.json` (`openapi.rs`) are made from that list.
//!
//! Before all of them: names and figures of requests (`observe/`), keys and quotas (`keys/`), and the line before the
//! places for answers (`places.rs`).
//!
//! What the interfaces know and this gateway does not have yet is refused in the interface's own words, never ignored:
//! see [`Problem`].

mod anthropic;
mod completion;
mod conversation;
mod dialect;
mod endpoint;
mod gateway;
pub mod keys;
mod meter;
mod observe;
mod ollama;
mod openai;
mod openapi;
mod places;
mod problem;
mod request;
mod rest;
mod sampling;
mod sse;
mod stop;

use axum::extract::DefaultBodyLimit;
use axum::middleware::from_fn_with_state;
use axum::routing::{any, get};
use axum::{Json, Router};

use self::endpoint::Endpoint;
pub use self::gateway::Gateway;
use self::keys::Keys;
pub use self::problem::Problem;

/// Largest request, in bytes. The longest conversations that models read today take about a megabyte.
pub const MAX_REQUEST_BYTES: usize = 8 << 20;

/// What is served, whether a key is asked for or not.
fn endpoints() -> Vec<Endpoint> {
    [openai::endpoints(), anthropic::endpoints(), ollama::endpoints()].into_iter().flatten().collect()
}

/// Everything that the gateway serves: to everybody, or to who has one of the keys. Its document (OpenAPI) is for
/// everybody.
pub fn router(gateway: Gateway, keys: Option<Keys>) -> Router {
    let (figures, endpoints) = (gateway.figures(), endpoints());
    let document = Json(openapi::document(&endpoints));
    let served =
        endpoints.into_iter().fold(Router::new(), |router, Endpoint { path, route, .. }| router.route(path, route));
    let served = served
        .method_not_allowed_fallback(dialect::other_method)
        .route("/v1/{*rest}", any(dialect::nothing))
        .route("/api/{*rest}", any(dialect::nothing))
        .layer(DefaultBodyLimit::max(MAX_REQUEST_BYTES))
        .with_state(gateway);
    let served = match keys {
        Some(keys) => served.layer(from_fn_with_state(keys, keys::admit)),
        None => served,
    };
    served
        .route(openapi::PATH, get(move || std::future::ready(document.clone())))
        .layer(from_fn_with_state(figures, observe::observe))
}
