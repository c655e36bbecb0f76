//! Conversations that are kept in this browser, and the form in which they are kept and exported.

use std::fmt::Write as _;
use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::turn::{AnswerState, Route, Turn};
use cdi_node::view::{AnswerStats, Drafts, Finish};

/// Most characters of a title in the list.
const TITLE_CHARS: usize = 60;

/// A conversation as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chat {
    /// Names it; 16 hexadecimal digits.
    pub id: String,
    /// When it was last changed, in Unix milliseconds; 0 until it is stored.
    #[serde(default)]
    pub changed_ms: u64,
    /// Its turns, oldest first.
    pub turns: Vec<KeptTurn>,
}

/// A turn as it is kept: what was said, and the figures.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct KeptTurn {
    /// What the user asked.
    pub question: String,
    /// What came.
    pub answer: String,
    /// Whether the answer is complete.
    pub complete: bool,
    /// Its tokens.
    pub tokens: u32,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens a second after the first.
    pub tokens_per_s: f64,
    /// From the question to the first token.
    pub first_token_ms: f64,
    /// Route changes on the way.
    pub failovers: u32,
    /// How many nodes besides this one computed it.
    pub peers: u32,
}

impl Chat {
    /// The first question, cut.
    #[must_use]
    pub fn title(&self) -> String {
        let first = self.turns.first().map_or("", |turn| turn.question.as_str());
        let line = first.lines().next().unwrap_or_default();
        match line.char_indices().nth(TITLE_CHARS) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line.to_owned(),
        }
    }

    /// The turns as the page shows them.
    #[must_use]
    pub fn shown(&self) -> Vec<Rc<Turn>> {
        self.turns.iter().map(|turn| Rc::new(turn.shown())).collect()
    }

    /// The conversation as a Markdown document.
    #[must_use]
    pub fn markdown(&self) -> String {
        let mut text = format!("# {}\n", self.title());
        for turn in &self.turns {
            let question = turn.question.lines().collect::<Vec<_>>().join("\n> ");
            // Writing to a string cannot fail.
            let _infallible = write!(text, "\n> {question}\n\n{}\n", turn.answer.trim_end());
        }
        text
    }
}

impl KeptTurn {
    /// What is kept of a turn; nothing of one that has no end yet.
    #[must_use]
    pub fn of(turn: &Turn) -> Option<Self> {
        if !matches!(turn.state, AnswerState::Done | AnswerState::Error) {
            return None;
        }
        let peers = turn.route.as_ref().map_or(0, Route::peers);
        let mut kept = Self {
            question: turn.question.clone(),
            answer: turn.answer.clone(),
            complete: turn.state == AnswerState::Done,
            tokens: turn.tokens,
            peers: if turn.peers > 0 { turn.peers } else { peers },
            ..Self::default()
        };
        if let Some(stats) = &turn.stats {
            kept.prompt_tokens = stats.prompt_tokens;
            kept.tokens_per_s = stats.tokens_per_s;
            kept.first_token_ms = stats.first_token_ms;
            kept.failovers = stats.failovers;
        }
        Some(kept)
    }

    fn shown(&self) -> Turn {
        let stats = self.complete.then_some(AnswerStats {
            tokens: self.tokens,
            prompt_tokens: self.prompt_tokens,
            first_token_ms: self.first_token_ms,
            tokens_per_s: self.tokens_per_s,
            finish: Finish::EndOfText,
            failovers: self.failovers,
            // Of no interest later.
            drafts: Drafts::default(),
        });
        Turn {
            question: self.question.clone(),
            answer: self.answer.clone(),
            tokens: self.tokens,
            state: if self.complete { AnswerState::Done } else { AnswerState::Error },
            stats,
            peers: self.peers,
            ..Turn::default()
        }
    }
}

/// What the browser must do to keep up with the state.
#[derive(Debug, Clone, PartialEq)]
pub enum Keep {
    /// Store this conversation.
    Chat(Chat),
    /// Forget the conversation with this id.
    Forget(String),
    /// Store these settings.
    Parameters(super::Parameters),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_one_short_line() {
        let chat = |question: &str| Chat {
            id: "0".into(),
            changed_ms: 0,
            turns: vec![KeptTurn { question: question.into(), ..KeptTurn::default() }],
        };
        assert_eq!(chat("What?\nReally?").title(), "What?");
        assert_eq!(chat(&"ü".repeat(99)).title().chars().count(), TITLE_CHARS + 1);
        assert_eq!(Chat { id: "0".into(), changed_ms: 0, turns: vec![] }.title(), "");
    }

    #[test]
    fn a_turn_comes_back_as_it_was_kept() {
        let turn = Turn { question: "a".into(), answer: "A".into(), state: AnswerState::Error, ..Turn::default() };
        let kept = KeptTurn::of(&turn).expect("it has ended");
        assert_eq!(kept.shown(), turn);
        assert_eq!(KeptTurn::of(&Turn::asked(1, "b".into())), None);
    }

    #[test]
    fn an_exported_chat_quotes_the_questions() {
        let turns =
            vec![KeptTurn { question: "two\nlines".into(), answer: "An answer.\n".into(), ..KeptTurn::default() }];
        let chat = Chat { id: "0".into(), changed_ms: 0, turns };
        assert_eq!(chat.markdown(), "# two\n\n> two\n> lines\n\nAn answer.\n");
    }
}
