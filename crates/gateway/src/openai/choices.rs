//! Answers of both completion interfaces, several to a request, whole and as server-sent events. The newer one
//! answers with messages, the older one with text: they differ in where the text stands.

use axum::Json;
use axum::response::sse::Event;
use axum::response::{IntoResponse as _, Response};
use cdi_platform::time::unix_ms;
use futures::Stream;
use futures::future::try_join_all;
use futures::stream::{self, SelectAll, StreamExt as _};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::completion::{Begun, Completion, End, Piece};
use crate::gateway::{Gateway, Model, Order, fresh_id};
use crate::problem::Problem;
use crate::sse::{self, data};

/// Most answers to one request.
pub(super) const MAX_CHOICES: u32 = 8;
/// Most stop texts: OpenAI's own limit.
pub(super) const MAX_STOPS: usize = 4;

/// What is asked for.
pub(super) struct Asked {
    pub(super) shape: Shape,
    pub(super) choices: Vec<Choice>,
    /// Choices that answer the same prompt stand together, so many of them.
    pub(super) choices_per_prompt: usize,
    pub(super) stream: Option<bool>,
    pub(super) stream_options: Option<StreamOptions>,
}

/// One answer.
pub(super) struct Choice {
    pub(super) order: Order,
    /// Text that comes before it.
    pub(super) lead: String,
}

/// Where the text of an answer stands.
#[derive(Debug, Clone, Copy)]
pub(super) enum Shape {
    /// `/v1/chat/completions`.
    Chat,
    /// `/v1/completions`.
    Text,
}

#[derive(Deserialize, JsonSchema)]
pub(super) struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

/// A text or several.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    pub(super) fn into_vec(self) -> Vec<String> {
        match self {
            Self::One(text) => vec![text],
            Self::Many(texts) => texts,
        }
    }
}

/// Answers what is asked for by `model`.
pub(super) async fn answer(gateway: &Gateway, model: Model, asked: Asked) -> Result<Response, Problem> {
    let Asked { shape, choices, choices_per_prompt, stream, stream_options } = asked;
    let (prefix, created, model) = (shape.id_prefix(), unix_ms() / 1000, model.view.name);
    let head = Head { shape, id: fresh_id(prefix), created, model, choices_per_prompt };
    let (orders, leads): (Vec<_>, Vec<_>) = choices.into_iter().map(|choice| (choice.order, choice.lead)).unzip();
    let completions = gateway.complete_all(orders).await?;
    if stream.unwrap_or(false) {
        let with_usage = stream_options.is_some_and(|options| options.include_usage);
        let begun = try_join_all(completions.into_iter().map(Completion::begin)).await?;
        return Ok(sse::respond(events(head, &leads, begun, with_usage), None));
    }
    let whole = try_join_all(completions.into_iter().map(Completion::whole)).await?;
    Ok(Json(head.whole(&leads, whole)).into_response())
}

impl Shape {
    const fn id_prefix(self) -> &'static str {
        match self {
            Self::Chat => "chatcmpl-",
            Self::Text => "cmpl-",
        }
    }

    fn choice(self, index: usize, text: &str, finish: &str) -> Value {
        match self {
            Self::Chat => json!({
                "index": index,
                "message": { "role": "assistant", "content": text, "refusal": null },
                "logprobs": null,
                "finish_reason": finish,
            }),
            Self::Text => self.part(index, Some(text), Some(finish)),
        }
    }

    /// A part of a choice.
    fn part(self, index: usize, text: Option<&str>, finish: Option<&str>) -> Value {
        match self {
            Self::Chat => {
                let delta = text.map_or_else(|| json!({}), |text| json!({ "content": text }));
                json!({ "index": index, "delta": delta, "logprobs": null, "finish_reason": finish })
            }
            Self::Text => {
                json!({ "index": index, "text": text.unwrap_or(""), "logprobs": null, "finish_reason": finish })
            }
        }
    }

    /// What comes before the text, if anything does.
    fn beginning(self, index: usize, lead: &str) -> Option<Value> {
        match self {
            Self::Chat => {
                let delta = json!({ "role": "assistant", "content": "" });
                Some(json!({ "index": index, "delta": delta, "logprobs": null, "finish_reason": null }))
            }
            Self::Text => (!lead.is_empty()).then(|| self.part(index, Some(lead), None)),
        }
    }
}

/// What the response and every part of it repeat.
struct Head {
    shape: Shape,
    id: String,
    created: u64,
    model: String,
    choices_per_prompt: usize,
}

impl Head {
    fn object(&self, kind: &str, choices: &[Value]) -> Value {
        json!({
            "id": self.id, "object": kind, "created": self.created, "model": self.model, "choices": choices,
        })
    }

    fn whole(&self, leads: &[String], whole: Vec<(String, End)>) -> Value {
        let choices: Vec<Value> = leads
            .iter()
            .zip(&whole)
            .enumerate()
            .map(|(index, (lead, (text, end)))| self.shape.choice(index, &format!("{lead}{text}"), end.reason.name()))
            .collect();
        let kind = match self.shape {
            Shape::Chat => "chat.completion",
            Shape::Text => "text_completion",
        };
        let mut object = self.object(kind, &choices);
        object["usage"] = self.usage(whole.into_iter().map(|(_, end)| Some(end)));
        object
    }

    fn chunk(&self, choices: &[Value]) -> Value {
        let kind = match self.shape {
            Shape::Chat => "chat.completion.chunk",
            Shape::Text => "text_completion",
        };
        self.object(kind, choices)
    }

    fn part(&self, index: usize, text: Option<&str>, finish: Option<&str>) -> Event {
        data(&self.chunk(&[self.shape.part(index, text, finish)]))
    }

    /// A prompt counts once, however many answers it has.
    fn usage(&self, ends: impl Iterator<Item = Option<End>>) -> Value {
        let (mut prompt, mut tokens) = (0_u64, 0_u64);
        for (index, end) in ends.enumerate() {
            let Some(end) = end else { continue };
            tokens += u64::from(end.tokens);
            if index % self.choices_per_prompt == 0 {
                prompt += u64::from(end.prompt_tokens);
            }
        }
        json!({ "prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens })
    }
}

fn events(
    head: Head,
    leads: &[String],
    begun: Vec<Begun>,
    with_usage: bool,
) -> impl Stream<Item = Event> + Send + use<> {
    let beginning = |(index, lead): (usize, &String)| Some(data(&head.chunk(&[head.shape.beginning(index, lead)?])));
    let beginnings: Vec<Event> = leads.iter().enumerate().filter_map(beginning).collect();
    let mut ends: Vec<Option<End>> = vec![None; begun.len()];
    let numbered = |(index, begun): (usize, Begun)| begun.pieces().map(move |piece| (index, piece)).boxed();
    let pieces: SelectAll<_> = begun.into_iter().enumerate().map(numbered).collect();
    let texts = pieces.map(Some).chain(stream::once(async { None })).map(move |piece| match piece {
        Some((index, Ok(Piece::Text(text)))) => vec![head.part(index, Some(&text), None)],
        Some((index, Ok(Piece::End(end)))) => {
            let last = head.part(index, None, Some(end.reason.name()));
            ends[index] = Some(end);
            vec![last]
        }
        Some((_, Err(problem))) => vec![data(&super::DIALECT.body(&problem))],
        None => {
            let usage = with_usage.then(|| {
                let mut chunk = head.chunk(&[]);
                chunk["usage"] = head.usage(ends.drain(..));
                data(&chunk)
            });
            usage.into_iter().chain([Event::default().data("[DONE]")]).collect()
        }
    });
    stream::iter(beginnings).chain(texts.flat_map(stream::iter))
}
