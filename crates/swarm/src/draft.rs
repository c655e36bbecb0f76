//! Guessing the next tokens of a text from the text itself.
//!
//! Prompt lookup: what followed the last few tokens when they came before. It costs nothing and is right wherever a text
//! repeats itself: names, code, quotations, lists. Source: Saxena, <https://github.com/apoorvumang/prompt-lookup-decoding>.

/// Longest and shortest run of tokens that must have come before.
const LONGEST: usize = 4;
const SHORTEST: usize = 2;
/// How far back is looked, in tokens, so that a long text costs no more than a short one.
const REACH: usize = 4_096;

/// Up to `most` tokens that may follow `text`; none when its end is new.
#[must_use]
pub fn lookup(text: &[u32], most: usize) -> Vec<u32> {
    let text = &text[text.len().saturating_sub(REACH)..];
    for length in (SHORTEST..=LONGEST).rev().filter(|length| *length < text.len()) {
        let end = &text[text.len() - length..];
        let earlier = text[..text.len() - 1].windows(length).rposition(|run| run == end);
        if let Some(at) = earlier {
            let mut known = text[at + length..].to_vec();
            // What repeats up to its very end goes on repeating.
            let period = known.len();
            (period..most).for_each(|i| known.push(known[i - period]));
            known.truncate(most);
            return known;
        }
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_followed_before_is_guessed() {
        assert_eq!(lookup(&[1, 2, 3, 4, 5, 9, 1, 2, 3], 2), [4, 5]);
        assert_eq!(lookup(&[7, 8, 1, 7, 8, 2, 7, 8], 1), [2], "the latest time counts");
        assert_eq!(lookup(&[1, 2, 3, 9, 2, 3, 8, 1, 2, 3], 1), [9], "a longer run counts more");
        assert_eq!(lookup(&[5, 6, 5, 6], 5), [5, 6, 5, 6, 5]);
    }

    #[test]
    fn what_is_new_is_not_guessed() {
        assert_eq!(lookup(&[], 4), []);
        assert_eq!(lookup(&[1], 4), []);
        assert_eq!(lookup(&[1, 2, 3, 4], 4), []);
        assert_eq!(lookup(&[1, 1, 2], 4), [], "one token alone says little");
        assert_eq!(lookup(&[1, 2, 1, 2], 0), []);
    }
}
