//! The interface of OpenAI: paths below `/v1`.
//!
//! Source: <https://platform.openai.com/docs/api-reference>.

mod chat;
mod choices;
mod completions;
mod models;
mod responses;

use crate::dialect::Dialect;
use crate::endpoint::Endpoint;
use crate::sampling::Defaults;

const DIALECT: Dialect = Dialect::OpenAi;

const DEFAULTS: Defaults = Defaults { temperature: 1.0, hottest: 2.0, top_p: 1.0, top_k: 0 };

pub(crate) fn endpoints() -> Vec<Endpoint> {
    vec![
        Endpoint::get("/v1/models", "The models that can be asked.", models::list),
        Endpoint::get("/v1/models/{model}", "One model.", models::one),
        Endpoint::post::<chat::Request, _>("/v1/chat/completions", "Answers a conversation.", chat::complete),
        Endpoint::post::<completions::Request, _>("/v1/completions", "Goes on with texts.", completions::complete),
        Endpoint::post::<responses::Request, _>("/v1/responses", "Answers a request.", responses::respond),
    ]
}
