//! What of the conversation the model is shown.

use std::rc::Rc;

use cdi_node::view::Message;

use super::turn::Turn;

/// Most tokens of an answer when the user says nothing.
pub const DEFAULT_ANSWER_TOKENS: u32 = 256;
/// Characters that one token stands for, rounded down: English text under byte-pair vocabularies has three
/// to four. Only the node, which has the tokenizer, counts exactly; it refuses what is too long.
const CHARS_PER_TOKEN: u32 = 3;

/// Most tokens of an answer: what was `asked`, or a default; never more than half of a model's `context` positions.
#[must_use]
pub fn answer_tokens(asked: Option<u32>, context: Option<u32>) -> u32 {
    let most = asked.unwrap_or(DEFAULT_ANSWER_TOKENS);
    context.map_or(most, |c| most.min(c / 2)).max(1)
}

/// `system`, unless it is empty, as many of the latest answered turns as should fit the model's context beside an answer
/// of `answer_tokens`, and `question`.
#[must_use]
pub fn messages(
    system: &str,
    past: &[Rc<Turn>],
    question: &str,
    answer_tokens: u32,
    context: Option<u32>,
) -> Vec<Message> {
    let budget = context.map_or(u32::MAX, |c| c.saturating_sub(answer_tokens).saturating_mul(CHARS_PER_TOKEN));
    let mut left = usize::try_from(budget).unwrap_or(usize::MAX).saturating_sub(question.len() + system.len());
    let mut messages = vec![message("user", question)];
    for turn in past.iter().rev().filter(|t| t.is_answered()) {
        let Some(rest) = left.checked_sub(turn.question.len() + turn.answer.len()) else { break };
        left = rest;
        messages.push(message("assistant", &turn.answer));
        messages.push(message("user", &turn.question));
    }
    if !system.is_empty() {
        messages.push(message("system", system));
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
        let shown = messages("", &past, "d", 9, None);
        assert_eq!(contents(&shown), [("user", "a"), ("assistant", "A"), ("user", "d")]);
    }

    #[test]
    fn the_oldest_turns_go_first() {
        let long = "x".repeat(200);
        let past: Vec<_> = (0..9).map(|n| turn(&format!("question {n}"), &long, AnswerState::Done)).collect();
        // 512 positions, 256 of them for the answer: 768 characters, so three turns of 210.
        let shown = messages("", &past, "now", 256, Some(512));
        assert_eq!(shown.len(), 7);
        assert_eq!(shown[0].content, "question 6");
        assert_eq!(shown[6].content, "now");
    }

    #[test]
    fn the_question_is_always_sent() {
        let shown = messages("", &[turn("a", "A", AnswerState::Done)], &"x".repeat(10_000), 1, Some(2));
        assert_eq!(shown.len(), 1);
        assert_eq!((answer_tokens(None, Some(0)), answer_tokens(Some(9_000), Some(512))), (1, 256));
        assert_eq!((answer_tokens(Some(30), Some(512)), answer_tokens(None, None)), (30, 256));
    }

    #[test]
    fn the_system_prompt_comes_first() {
        let past = [turn("a", "A", AnswerState::Done)];
        let shown = messages("Be brief.", &past, "b", 256, Some(512));
        assert_eq!(contents(&shown)[0], ("system", "Be brief."));
        assert_eq!(shown.len(), 4);
    }
}
