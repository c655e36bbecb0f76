//! A response as events, numbered in their order.
//!
//! Source: <https://platform.openai.com/docs/api-reference/responses-streaming>.

use axum::response::sse::Event;
use futures::stream::{self, Stream, StreamExt as _};
use serde_json::{Value, json};

use super::object::{Head, part, status};
use crate::completion::{Begun, End, Piece};
use crate::sse::named;

/// The events of a response.
pub(super) fn events(head: Head, begun: Begun) -> impl Stream<Item = Event> + Send + 'static {
    let beginning = [
        json!({ "type": "response.created", "response": head.begun() }),
        json!({ "type": "response.in_progress", "response": head.begun() }),
        json!({ "type": "response.output_item.added", "output_index": 0, "item": head.message("in_progress", &[]) }),
        of_text(&head, "response.content_part.added", "part", &part("")),
    ];
    let mut whole = String::new();
    let rest = begun.pieces().map(move |piece| match piece {
        Ok(Piece::Text(text)) => {
            whole += &text;
            let mut delta = of_text(&head, "response.output_text.delta", "delta", &json!(text));
            delta["logprobs"] = json!([]);
            vec![delta]
        }
        Ok(Piece::End(end)) => ending(&head, &whole, &end),
        Err(problem) => vec![json!({ "type": "response.failed", "response": head.failed(&problem) })],
    });
    let all = stream::iter(beginning).chain(rest.flat_map(stream::iter));
    all.enumerate().map(|(number, mut event)| {
        event["sequence_number"] = json!(number);
        named(&event)
    })
}

fn ending(head: &Head, text: &str, end: &End) -> Vec<Value> {
    let mut done = of_text(head, "response.output_text.done", "text", &json!(text));
    done["logprobs"] = json!([]);
    let status = status(end);
    vec![
        done,
        of_text(head, "response.content_part.done", "part", &part(text)),
        json!({ "type": "response.output_item.done", "output_index": 0, "item": head.message(status, &[part(text)]) }),
        json!({ "type": format!("response.{status}"), "response": head.ended(text, end) }),
    ]
}

/// An event of the message's text, which has `field`.
fn of_text(head: &Head, kind: &str, field: &str, value: &Value) -> Value {
    json!({ "type": kind, "item_id": head.message_id, "output_index": 0, "content_index": 0, field: value })
}
