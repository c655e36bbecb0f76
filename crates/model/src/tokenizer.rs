//! Text to token ids and back.
//!
//! The `tokenizers` library with its pure Rust regex engine, on every target: the same text has the same ids in
//! a tab and in a native node.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value;

/// Largest `tokenizer.json` in bytes (the largest published ones have about 35 MB).
pub const MAX_TOKENIZER_BYTES: usize = 64 << 20;
/// Longest text to encode in bytes.
pub const MAX_TEXT_BYTES: usize = 4 << 20;

/// Bytes of an incomplete UTF-8 character, at most.
const MAX_INCOMPLETE: usize = 3;

/// Why text or ids were not converted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenizerError {
    /// The file is larger than [`MAX_TOKENIZER_BYTES`].
    #[error("tokenizer of {0} bytes is over the limit of {MAX_TOKENIZER_BYTES}")]
    TooLarge(usize),
    /// The file is not a tokenizer that the library reads.
    #[error("invalid tokenizer.json: {0}")]
    Invalid(String),
    /// The text is longer than [`MAX_TEXT_BYTES`].
    #[error("text of {0} bytes is over the limit of {MAX_TEXT_BYTES}")]
    TextTooLong(usize),
    /// The library could not convert the text.
    #[error("encoding failed: {0}")]
    Encode(String),
    /// The library could not convert the ids.
    #[error("decoding failed: {0}")]
    Decode(String),
}

/// The parts of a file that the library reads with less care than the others.
#[derive(Deserialize)]
struct Fragile {
    normalizer: Option<Value>,
    /// Where it cannot be parsed the library panics.
    #[serde(rename = "decoder")]
    _decoder: Option<Value>,
}

/// Refuses what would make the library panic: it takes for granted that a decoder is well-formed, and that a character
/// map of SentencePiece (`Precompiled`) is sound. No architecture here needs such a map.
fn check(bytes: &[u8]) -> Result<(), TokenizerError> {
    let fragile: Fragile = serde_json::from_slice(bytes).map_err(|e| TokenizerError::Invalid(e.to_string()))?;
    let mut parts: Vec<&Value> = fragile.normalizer.iter().collect();
    while let Some(part) = parts.pop() {
        match part {
            Value::Object(fields) => parts.extend(fields.values()),
            Value::Array(items) => parts.extend(items),
            Value::String(text) if text == "Precompiled" => {
                return Err(TokenizerError::Invalid(
                    "a normalizer of the kind Precompiled is not supported".to_owned(),
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

/// A loaded `tokenizer.json`. Cloning is cheap.
#[derive(Debug, Clone)]
pub struct Tokenizer(Arc<tokenizers::Tokenizer>);

impl Tokenizer {
    /// Loads a `tokenizer.json`. Its padding and truncation are switched off: a prompt is neither.
    ///
    /// # Errors
    /// [`TokenizerError::TooLarge`] or [`TokenizerError::Invalid`].
    pub fn from_json(bytes: &[u8]) -> Result<Self, TokenizerError> {
        if bytes.len() > MAX_TOKENIZER_BYTES {
            return Err(TokenizerError::TooLarge(bytes.len()));
        }
        check(bytes)?;
        let invalid = |e: tokenizers::Error| TokenizerError::Invalid(e.to_string());
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(bytes).map_err(invalid)?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(invalid)?;
        Ok(Self(Arc::new(tokenizer)))
    }

    /// Ids of `text`. `add_special` adds what the tokenizer puts around a text, such as a first token;
    /// a rendered chat template has it already. Special tokens that are written out in the text count as such.
    ///
    /// # Errors
    /// [`TokenizerError::TextTooLong`] or [`TokenizerError::Encode`].
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, TokenizerError> {
        if text.len() > MAX_TEXT_BYTES {
            return Err(TokenizerError::TextTooLong(text.len()));
        }
        let encoding = self.0.encode_fast(text, add_special).map_err(|e| TokenizerError::Encode(e.to_string()))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Text of `ids`. Special tokens and unknown ids have none; bytes that are no UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// [`TokenizerError::Decode`].
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        self.0.decode(ids, true).map_err(|e| TokenizerError::Decode(e.to_string()))
    }

    /// Number of token ids, added tokens included.
    #[must_use]
    pub fn vocab_size(&self) -> usize {
        self.0.get_vocab_size(true)
    }

    /// Id of exactly this token, such as `<|im_end|>`.
    #[must_use]
    pub fn id(&self, token: &str) -> Option<u32> {
        self.0.token_to_id(token)
    }
}

/// Decodes ids as they arrive.
///
/// A character may be spread over several tokens; it is given out when its last byte is there.
#[derive(Debug, Clone)]
pub struct StreamDecoder {
    tokenizer: Tokenizer,
    /// Ids since a place where a character ended; the first of them gives context to the rest.
    ids: Vec<u32>,
    /// Bytes of their text that were given out.
    given: usize,
}

impl StreamDecoder {
    /// Decodes from the start of a text.
    #[must_use]
    pub const fn new(tokenizer: Tokenizer) -> Self {
        Self { tokenizer, ids: Vec::new(), given: 0 }
    }

    /// Takes the next id and returns the text that is complete now, which may be empty.
    ///
    /// # Errors
    /// [`TokenizerError::Decode`].
    pub fn push(&mut self, id: u32) -> Result<String, TokenizerError> {
        self.ids.push(id);
        let text = self.tokenizer.decode(&self.ids)?;
        let complete = complete_len(&text);
        let new = text.get(self.given..complete).unwrap_or_default().to_owned();
        self.given = self.given.max(complete);
        if complete == text.len() {
            self.restart(id)?;
        }
        Ok(new)
    }

    /// Ends the text: whatever is incomplete is given out as U+FFFD.
    ///
    /// # Errors
    /// [`TokenizerError::Decode`].
    pub fn flush(&mut self) -> Result<String, TokenizerError> {
        let text = self.tokenizer.decode(&self.ids)?;
        let rest = text.get(self.given..).unwrap_or_default().to_owned();
        self.ids.clear();
        self.given = 0;
        Ok(rest)
    }

    /// Forgets the ids before `last`, so that a step costs the same at the end of a long answer as at its start.
    /// One id with text stays: some decoders treat the first id of a text in a way of its own.
    fn restart(&mut self, last: u32) -> Result<(), TokenizerError> {
        let context = self.tokenizer.decode(&[last])?;
        if !context.is_empty() {
            self.ids.clear();
            self.ids.push(last);
            self.given = context.len();
        }
        Ok(())
    }
}

/// Length of `text` without the U+FFFD at its end that more bytes may turn into a character.
fn complete_len(text: &str) -> usize {
    let held: usize = text
        .chars()
        .rev()
        .take(MAX_INCOMPLETE)
        .take_while(|c| *c == char::REPLACEMENT_CHARACTER)
        .map(char::len_utf8)
        .sum();
    text.len() - held
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GENESIS: &[u8] = include_bytes!("../genesis/tokenizer.json");

    fn genesis() -> Tokenizer {
        Tokenizer::from_json(GENESIS).expect("loads")
    }

    fn stream(tokenizer: &Tokenizer, ids: &[u32]) -> (Vec<String>, String) {
        let mut decoder = StreamDecoder::new(tokenizer.clone());
        let parts: Vec<_> = ids.iter().map(|id| decoder.push(*id).expect("decodes")).collect();
        let rest = decoder.flush().expect("decodes");
        (parts, rest)
    }

    #[test]
    fn text_round_trips() {
        let tokenizer = genesis();
        assert_eq!(tokenizer.vocab_size(), 2560);
        assert_eq!(tokenizer.id("<|im_end|>"), Some(2));
        for text in ["", "What is a shard?", "naïve 日本語 🦀👩‍👩‍👧", "tab\tand  spaces\r\n", "12345"]
        {
            let ids = tokenizer.encode(text, false).expect("encodes");
            assert_eq!(tokenizer.decode(&ids).as_deref(), Ok(text));
        }
        assert_eq!(tokenizer.encode("<|im_start|>", true), Ok(vec![1]));
        assert_eq!(tokenizer.decode(&[1, 2, 99_999]).as_deref(), Ok(""));
    }

    #[test]
    fn a_character_is_given_out_when_it_is_complete() {
        let tokenizer = genesis();
        let ids = tokenizer.encode("a🦀b", false).expect("encodes");
        let (parts, rest) = stream(&tokenizer, &ids);
        assert_eq!(parts, ["a", "", "", "", "🦀", "b"]);
        assert_eq!(rest, "");
        let (parts, rest) = stream(&tokenizer, &ids[..3]);
        assert_eq!((parts.concat().as_str(), rest.as_str()), ("a", "\u{fffd}"));
    }

    #[test]
    fn bad_files_and_long_texts_are_refused() {
        assert!(matches!(Tokenizer::from_json(b"{}"), Err(TokenizerError::Invalid(_))));
        assert!(matches!(Tokenizer::from_json(b""), Err(TokenizerError::Invalid(_))));
        let text = String::from_utf8(GENESIS.to_vec()).expect("JSON");
        let (first, last) = (text.find("\"decoder\"").expect("one"), text.find("\"model\"").expect("one"));
        for at in first..last {
            let mut damaged = GENESIS.to_vec();
            damaged[at] = 0;
            assert!(Tokenizer::from_json(&damaged).is_err(), "byte {at}");
        }
        let map = text.replacen("\"normalizer\": null", "\"normalizer\": {\"type\": \"Precompiled\"}", 1);
        assert_ne!(map, text);
        assert!(matches!(Tokenizer::from_json(map.as_bytes()), Err(TokenizerError::Invalid(_))));
        let long = "x".repeat(MAX_TEXT_BYTES + 1);
        assert_eq!(genesis().encode(&long, false), Err(TokenizerError::TextTooLong(MAX_TEXT_BYTES + 1)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn damaged_files_never_panic(at in 0..GENESIS.len(), bytes in prop::collection::vec(any::<u8>(), 1..20)) {
            let mut file = GENESIS.to_vec();
            let end = file.len().min(at + bytes.len());
            file[at..end].copy_from_slice(&bytes[..end - at]);
            if let Ok(tokenizer) = Tokenizer::from_json(&file) {
                let _ = tokenizer.encode("What is a shard? 12 🦀", true).and_then(|ids| tokenizer.decode(&ids));
            }
        }

        #[test]
        fn streaming_gives_the_whole_text(ids in prop::collection::vec(0u32..2600, 0..40)) {
            let tokenizer = genesis();
            let (parts, rest) = stream(&tokenizer, &ids);
            prop_assert_eq!(parts.concat() + &rest, tokenizer.decode(&ids).expect("decodes"));
        }

        #[test]
        fn streaming_never_splits_a_character(text in any::<String>()) {
            let tokenizer = genesis();
            prop_assume!(!text.contains(char::REPLACEMENT_CHARACTER));
            let ids = tokenizer.encode(&text, false).expect("encodes");
            let (parts, rest) = stream(&tokenizer, &ids);
            prop_assert!(rest.is_empty());
            prop_assert!(parts.iter().all(|part| !part.contains(char::REPLACEMENT_CHARACTER)));
        }
    }
}
