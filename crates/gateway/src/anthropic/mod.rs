//! The interface of Anthropic: `/v1/messages` and what is below it.
//!
//! Source: <https://docs.anthropic.com/en/api/messages>.

mod count;
mod events;
mod messages;
mod request;

use crate::dialect::Dialect;
use crate::endpoint::Endpoint;

const DIALECT: Dialect = Dialect::Anthropic;

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::post::<messages::Request, _>("/v1/messages", "Answers a conversation.", messages::create),
        Endpoint::post::<request::Conversation, _>(
            "/v1/messages/count_tokens",
            "How many tokens a conversation has.",
            count::count,
        ),
    ]
}
