//! A message as events: it starts, its one block of text starts, grows and stops, and it stops.
//!
//! Source: <https://docs.anthropic.com/en/docs/build-with-claude/streaming>.

use axum::response::sse::Event;
use futures::stream::{self, Stream, StreamExt as _};
use serde_json::{Value, json};

use super::DIALECT;
use super::messages::{Head, stopped};
use crate::completion::{Begun, Piece};
use crate::sse::named;

/// What comes while there is nothing to say.
pub(super) fn ping() -> Event {
    named(&json!({ "type": "ping" }))
}

/// The events of a message.
pub(super) fn events(head: &Head, begun: Begun) -> impl Stream<Item = Event> + Send + 'static {
    let beginning = [
        json!({ "type": "message_start", "message": head.begun(begun.prompt_tokens()) }),
        json!({ "type": "content_block_start", "index": 0, "content_block": { "type": "text", "text": "" } }),
        json!({ "type": "ping" }),
    ];
    let rest = begun.pieces().map(|piece| match piece {
        Ok(Piece::Text(text)) => {
            let delta = json!({ "type": "text_delta", "text": text });
            vec![json!({ "type": "content_block_delta", "index": 0, "delta": delta })]
        }
        Ok(Piece::End(end)) => {
            let (reason, sequence) = stopped(&end.reason);
            vec![
                json!({ "type": "content_block_stop", "index": 0 }),
                json!({
                    "type": "message_delta",
                    "delta": { "stop_reason": reason, "stop_sequence": sequence },
                    "usage": { "input_tokens": end.prompt_tokens, "output_tokens": end.tokens },
                }),
                json!({ "type": "message_stop" }),
            ]
        }
        Err(problem) => vec![DIALECT.body(&problem)],
    });
    let all = stream::iter(beginning).chain(rest.flat_map(stream::iter));
    all.map(|value: Value| named(&value))
}
