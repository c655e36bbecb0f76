//! Stop texts: an answer ends before the first of them, wherever token boundaries fall.

use crate::problem::Problem;

/// Longest stop text in bytes.
const MAX_STOP_BYTES: usize = 256;

/// `stops`, at most `most` of them and none too long; `parameter` is their name.
pub(crate) fn checked(stops: Vec<String>, most: usize, parameter: &'static str) -> Result<Vec<String>, Problem> {
    if stops.len() > most || stops.iter().any(|stop| stop.len() > MAX_STOP_BYTES) {
        let message = format!("{parameter} takes at most {most} texts of at most {MAX_STOP_BYTES} bytes");
        return Err(Problem::parameter(parameter, message));
    }
    Ok(stops)
}

/// Looks for stop texts in a stream of text.
#[derive(Debug)]
pub(crate) struct Stops {
    stops: Vec<String>,
    /// Text that may be the beginning of a stop text.
    held: String,
}

/// What can be shown, and the stop text that was found behind it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) text: String,
    pub(crate) stopped: Option<String>,
}

impl Stops {
    /// Empty stop texts would stop everything; they mean nothing.
    pub(crate) fn new(stops: Vec<String>) -> Self {
        Self { stops: stops.into_iter().filter(|stop| !stop.is_empty()).collect(), held: String::new() }
    }

    /// More of the answer.
    pub(crate) fn push(&mut self, text: &str) -> Passed {
        self.held += text;
        let found = self.stops.iter().filter_map(|stop| Some((self.held.find(stop)?, stop)));
        if let Some((end, stop)) = found.min_by_key(|(at, _)| *at) {
            self.held.truncate(end);
            return Passed { text: std::mem::take(&mut self.held), stopped: Some(stop.clone()) };
        }
        let kept = self.held.len() - self.beginning();
        let held = self.held.split_off(kept);
        Passed { text: std::mem::replace(&mut self.held, held), stopped: None }
    }

    /// The end of the answer: what was held back was no stop text.
    pub(crate) fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Bytes at the end of the held text with which a stop text may begin.
    fn beginning(&self) -> usize {
        let longest = |stop: &String| {
            let begins = |length: &usize| stop.is_char_boundary(*length) && self.held.ends_with(&stop[..*length]);
            (1..stop.len()).rev().find(begins).unwrap_or(0)
        };
        self.stops.iter().map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run<'a>(stops: &[&str], pieces: impl IntoIterator<Item = &'a str>) -> (String, bool) {
        let mut machine = Stops::new(stops.iter().map(ToString::to_string).collect());
        let mut shown = String::new();
        for piece in pieces {
            let Passed { text, stopped } = machine.push(piece);
            shown += &text;
            if stopped.is_some() {
                return (shown, true);
            }
        }
        (shown + &machine.finish(), false)
    }

    #[test]
    fn an_answer_ends_before_the_stop_text() {
        assert_eq!(run(&["END"], ["one E", "N", "D two"]), ("one ".to_owned(), true));
        assert_eq!(run(&["END"], ["one E", "NX"]), ("one ENX".to_owned(), false));
        assert_eq!(run(&["END"], ["one EN"]), ("one EN".to_owned(), false), "what was held back comes at the end");
        assert_eq!(run(&["", "b", "ab"], ["xab"]), ("x".to_owned(), true), "the first place counts");
        assert_eq!(run(&["«»"], ["a«", "b«", "»"]), ("a«b".to_owned(), true));
        assert_eq!(run(&[], ["a", "b"]), ("ab".to_owned(), false));
    }

    #[test]
    fn nothing_waits_without_need() {
        let mut machine = Stops::new(vec!["\n\n".to_owned()]);
        assert_eq!(machine.push("a\nb").text, "a\nb");
        assert_eq!(machine.push("c\n").text, "c");
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(
            pieces in prop::collection::vec("[abé]{0,4}", 0..12),
            stops in prop::collection::vec("[abé]{1,3}", 0..3),
        ) {
            let whole = pieces.concat();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let first = stops.iter().filter_map(|stop| whole.find(stop)).min();
            let expected = first.map_or((whole.clone(), false), |end| (whole[..end].to_owned(), true));
            prop_assert_eq!(run(&stops, pieces.iter().map(String::as_str)), expected);
        }
    }
}
