//! One answer as the interfaces need it: pieces of text that end at a stop text, and the figures at the end.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::meter::Meter;
use crate::places::Place;
use crate::problem::Problem;
use crate::stop::{Passed, Stops};
use cdi_node::Answering;
use cdi_node::view::{AnswerEvent, AnswerStats, Finish};
use futures::{Stream, StreamExt as _, stream};

/// Why an answer ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// The model ended it.
    EndOfText,
    /// This stop text ended it.
    Stop(String),
    /// The token limit, or the end of the context.
    Length,
}

impl Reason {
    /// As OpenAI and Ollama call it.
    pub(crate) const fn name(&self) -> &'static str {
        match self {
            Self::EndOfText | Self::Stop(_) => "stop",
            Self::Length => "length",
        }
    }
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct End {
    pub(crate) reason: Reason,
    pub(crate) prompt_tokens: u32,
    pub(crate) tokens: u32,
    /// From the question to the first text.
    pub(crate) until_first: Duration,
    /// From the question to the end.
    pub(crate) total: Duration,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Piece {
    Text(String),
    End(End),
}

/// An answer and its place in the gateway; both are given back when it is dropped.
struct Running {
    answering: Answering,
    _place: Place,
}

/// An answer being read.
pub(crate) struct Completion {
    running: Option<Running>,
    meter: Meter,
    stops: Stops,
    asked: Instant,
    first: Option<Instant>,
    prompt_tokens: u32,
    tokens: u32,
    ready: VecDeque<Piece>,
}

impl Completion {
    pub(crate) fn new(answering: Answering, place: Place, meter: Meter, stops: Vec<String>) -> Self {
        Self {
            running: Some(Running { answering, _place: place }),
            meter,
            stops: Stops::new(stops),
            asked: Instant::now(),
            first: None,
            prompt_tokens: 0,
            tokens: 0,
            ready: VecDeque::new(),
        }
    }

    /// The next piece; `None` after the end. An error is the last one.
    pub(crate) async fn next(&mut self) -> Option<Result<Piece, Problem>> {
        loop {
            if let Some(piece) = self.ready.pop_front() {
                return Some(Ok(piece));
            }
            let event = self.running.as_mut()?.answering.next().await;
            match event {
                Some(AnswerEvent::Route { .. }) => {}
                Some(AnswerEvent::Started { prompt_tokens }) => self.prompt_tokens = prompt_tokens,
                Some(AnswerEvent::Text { text, tokens }) => {
                    if self.first.is_none() {
                        self.first = Some(Instant::now());
                        self.meter.first_text(self.asked.elapsed());
                    }
                    self.tokens = tokens;
                    self.text(&text);
                }
                Some(AnswerEvent::Done(stats)) => self.done(&stats),
                Some(AnswerEvent::Failed { failure, message }) => {
                    self.running = None;
                    if self.tokens == 0 {
                        // Nobody has anything of it: it costs nothing.
                        self.prompt_tokens = 0;
                    }
                    return Some(Err(Problem::failed(failure, message)));
                }
                None => {
                    self.running = None;
                    return Some(Err(Problem::stopped()));
                }
            }
        }
    }

    fn text(&mut self, text: &str) {
        let Passed { text, stopped } = self.stops.push(text);
        if !text.is_empty() {
            self.ready.push_back(Piece::Text(text));
        }
        if let Some(stop) = stopped {
            // Dropping it frees every stage.
            self.running = None;
            self.end(Reason::Stop(stop));
        }
    }

    fn end(&mut self, reason: Reason) {
        let now = Instant::now();
        let (prompt_tokens, tokens) = (self.prompt_tokens, self.tokens);
        let until_first = self.first.unwrap_or(now).duration_since(self.asked);
        let total = now.duration_since(self.asked);
        self.ready.push_back(Piece::End(End { reason, prompt_tokens, tokens, until_first, total }));
    }

    fn done(&mut self, stats: &AnswerStats) {
        self.running = None;
        let held = self.stops.finish();
        if !held.is_empty() {
            self.ready.push_back(Piece::Text(held));
        }
        let reason = match stats.finish {
            Finish::Length => Reason::Length,
            Finish::EndOfText | Finish::Stopped => Reason::EndOfText,
        };
        self.tokens = stats.tokens;
        self.end(reason);
    }

    /// The whole text and the end.
    pub(crate) async fn whole(mut self) -> Result<(String, End), Problem> {
        let mut whole = String::new();
        while let Some(piece) = self.next().await {
            match piece? {
                Piece::Text(text) => whole += &text,
                Piece::End(end) => return Ok((whole, end)),
            }
        }
        Err(Problem::stopped())
    }
}

/// Whatever became of it: what was computed counts.
impl Drop for Completion {
    fn drop(&mut self) {
        self.meter.answer(self.prompt_tokens, self.tokens, self.asked.elapsed());
    }
}

/// An answer that has begun: from now on there can be no other status.
pub(crate) struct Begun {
    first: Piece,
    rest: Completion,
}

impl Completion {
    /// Waits for the first piece, which tells whether there is an answer at all.
    pub(crate) async fn begin(mut self) -> Result<Begun, Problem> {
        let first = self.next().await.ok_or_else(Problem::stopped)??;
        Ok(Begun { first, rest: self })
    }
}

impl Begun {
    pub(crate) const fn prompt_tokens(&self) -> u32 {
        self.rest.prompt_tokens
    }

    /// The pieces, from the first on.
    pub(crate) fn pieces(self) -> impl Stream<Item = Result<Piece, Problem>> + Send + 'static {
        let rest = stream::unfold(self.rest, |mut rest| async move { rest.next().await.map(|piece| (piece, rest)) });
        stream::iter([Ok(self.first)]).chain(rest)
    }
}
