//! What of the conversation the model is shown.

use std::rc::Rc;

use cdi_node::view::Message;

use super::turn::Turn;

/// Most tokens of an answer.
pub const MAX_ANSWER_TOKENS: u32 = 256;
/// Characters that one token stands for, rounded down: English text under byte-pair vocabularies has three
/// to four. Only the node, which has the tokenizer, counts exactly; it refuses what is too long.
const CHARS_PER_TOKEN: u32 = 3;

/// Most tokens of an answer of a model of `context` positions: never more than half of them.
#[must_use]
pub fn answer_tokens(context: Option<u32>) -> u32 {
    context.map_or(MAX_ANSWER_TOKENS, |c| MAX_ANSWER_TOKENS.min(c / 2)).max(1)
}

/// `question` and as many of the latest answered turns before it as should fit the model's context.
#[must_use]
pub fn messages(past: &[Rc<Turn>], question: &str, context: Option<u32>) -> Vec<Message> {
    let budget = context.map_or(u32::MAX, |c| (c - answer_tokens(context).min(c)).saturating_mul(CHARS_PER_TOKEN));
    let mut left = usize::try_from(budget).unwrap_or(usize::MAX).saturating_sub(question.len());
    let mut messages = vec![message("user", question)];
    for turn in past.iter().rev().filter(|t| t.is_answered()) {
        let Some(rest) = left.checked_sub(turn.question.len() + turn.answer.len()) else { break };
        left = rest;
        messages.push(message("assistant", &turn.answer));
        messages.push(message("user", &turn.question));
    }
    messages.reverse();
    messages
}

fn message(role: &str, content: &str) -> Message {
    Message { role: role.to_owned(), content: content.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::AnswerState;

    fn turn(question: &str, answer: &str, state: AnswerState) -> Rc<Turn> {
        Rc::new(Turn { question: question.into(), answer: answer.into(), state, ..Turn::default() })
    }

    fn contents(messages: &[Message]) -> Vec<(&str, &str)> {
        messages.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect()
    }

    #[test]
    fn failed_turns_are_not_shown_to_the_model() {
        let past = [
            turn("a", "A", AnswerState::Done),
            turn("b", "B, cut off", AnswerState::Error),
            turn("c", "", AnswerState::Done),
        ];
        let shown = messages(&past, "d", None);
        assert_eq!(contents(&shown), [("user", "a"), ("assistant", "A"), ("user", "d")]);
    }

    #[test]
    fn the_oldest_turns_go_first() {
        let long = "x".repeat(200);
        let past: Vec<_> = (0..9).map(|n| turn(&format!("question {n}"), &long, AnswerState::Done)).collect();
        // 512 positions, 256 of them for the answer: 768 characters, so three turns of 210.
        let shown = messages(&past, "now", Some(512));
        assert_eq!(shown.len(), 7);
        assert_eq!(shown[0].content, "question 6");
        assert_eq!(shown[6].content, "now");
    }

    #[test]
    fn the_question_is_always_sent() {
        let shown = messages(&[turn("a", "A", AnswerState::Done)], &"x".repeat(10_000), Some(2));
        assert_eq!(shown.len(), 1);
        assert_eq!(answer_tokens(Some(0)), 1);
    }
}
