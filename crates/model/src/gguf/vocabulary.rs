//! From the vocabulary of the metadata to a `tokenizer.json` and a chat template.
//!
//! Two kinds: `gpt2` is byte-level BPE with its merges listed; `llama` is SentencePiece BPE, whose merges follow from
//! the tokens and their scores. The text is cut before BPE as `tokenizer.ggml.pre` names it.
//! Source: <https://github.com/ggml-org/llama.cpp/blob/master/src/llama-vocab.cpp>.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::{Gguf, GgufError};
use crate::chat::with_special_tokens;
use crate::range_read::RangeRead;

/// Longest token whose merges are searched for, in bytes; the search takes time with its square.
const MAX_MERGED_BYTES: usize = 256;

/// What `tokenizer.ggml.token_type` says of a token that is not ordinary text.
const UNKNOWN: i64 = 2;
const CONTROL: i64 = 3;
const USER_DEFINED: i64 = 4;

/// How Llama 3 cuts a text. Source: `tokenizer.json` of the model.
const LLAMA_3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// How Qwen 2 cuts a text. Source: `tokenizer.json` of the model.
const QWEN_2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// What the manifest needs of a vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vocabulary {
    /// A `tokenizer.json`.
    pub tokenizer: Vec<u8>,
    /// The chat template with the special tokens that it refers to, where the file has one.
    pub chat_template: Option<String>,
}

struct Tokens {
    texts: Vec<String>,
    types: Vec<i64>,
    bos: Option<u32>,
    unknown: Option<u32>,
    add_bos: Option<bool>,
}

/// Reads the vocabulary of a file whose network has `vocab_size` ids.
///
/// # Errors
/// [`GgufError::Unsupported`] for a kind of tokenizer that this build has not, or any error of the metadata.
pub fn vocabulary<R: RangeRead + ?Sized>(gguf: &Gguf, file: &R, vocab_size: u32) -> Result<Vocabulary, GgufError> {
    let metadata = gguf.metadata();
    let missing = |key: &str| GgufError::NoMetadata(key.to_owned());
    let kind = metadata.text("tokenizer.ggml.model")?.ok_or_else(|| missing("tokenizer.ggml.model"))?;
    let texts = metadata.texts(file, "tokenizer.ggml.tokens")?.ok_or_else(|| missing("tokenizer.ggml.tokens"))?;
    if texts.len() > vocab_size as usize {
        let reason = format!("{} tokens for a vocabulary of {vocab_size}", texts.len());
        return Err(GgufError::Metadata { key: "tokenizer.ggml.tokens".to_owned(), reason });
    }
    let types = metadata.integers(file, "tokenizer.ggml.token_type")?.unwrap_or_else(|| vec![1; texts.len()]);
    same_length("tokenizer.ggml.token_type", types.len(), texts.len())?;
    let tokens = Tokens {
        types,
        bos: metadata.u32("tokenizer.ggml.bos_token_id")?,
        unknown: metadata.u32("tokenizer.ggml.unknown_token_id")?,
        add_bos: metadata.bool("tokenizer.ggml.add_bos_token")?,
        texts,
    };
    let tokenizer = match kind {
        "gpt2" => byte_level(gguf, file, &tokens)?,
        "llama" => sentence_piece(gguf, file, &tokens)?,
        other => return Err(GgufError::Unsupported(format!("tokenizer of kind {other:?}"))),
    };
    let eos = metadata.u32("tokenizer.ggml.eos_token_id")?;
    let chat_template = metadata
        .text("tokenizer.chat_template")?
        .map(|template| with_special_tokens(template, tokens.text(tokens.bos), tokens.text(eos)));
    Ok(Vocabulary { tokenizer: tokenizer.to_string().into_bytes(), chat_template })
}

impl Tokens {
    fn text(&self, id: Option<u32>) -> Option<&str> {
        self.texts.get(id? as usize).map(String::as_str)
    }

    /// Ids by texts; of two tokens with one text the first counts, as in llama.cpp.
    fn ids(&self) -> HashMap<&str, usize> {
        self.texts.iter().enumerate().rev().map(|(id, text)| (text.as_str(), id)).collect()
    }

    /// The tokens that are looked for before anything else.
    fn added(&self) -> Vec<Value> {
        let added = |(id, (text, kind)): (usize, (&String, &i64))| {
            matches!(*kind, UNKNOWN | CONTROL | USER_DEFINED).then(|| {
                json!({
                    "id": id, "content": text, "special": *kind != USER_DEFINED, "single_word": false,
                    "lstrip": false, "rstrip": false, "normalized": false,
                })
            })
        };
        self.texts.iter().zip(&self.types).enumerate().filter_map(added).collect()
    }

    /// Puts the first token before a text, where the model wants that.
    fn post_processor(&self, by_default: bool) -> Value {
        match (self.add_bos.unwrap_or(by_default), self.bos, self.text(self.bos)) {
            (true, Some(id), Some(text)) => {
                let bos = json!({"SpecialToken": {"id": text, "type_id": 0}});
                let sequence = |name: &str, part: u32| json!({"Sequence": {"id": name, "type_id": part}});
                json!({
                    "type": "TemplateProcessing",
                    "single": [bos, sequence("A", 0)],
                    "pair": [bos, sequence("A", 0), bos, sequence("B", 1)],
                    "special_tokens": { text: {"id": text, "ids": [id], "tokens": [text]} },
                })
            }
            _ => Value::Null,
        }
    }
}

fn byte_level<R: RangeRead + ?Sized>(gguf: &Gguf, file: &R, tokens: &Tokens) -> Result<Value, GgufError> {
    let metadata = gguf.metadata();
    let key = "tokenizer.ggml.merges";
    let merges = metadata.texts(file, key)?.ok_or_else(|| GgufError::NoMetadata(key.to_owned()))?;
    // A space inside of a token is written as another character, so the first one divides.
    let pair = |merge: String| merge.split_once(' ').map(|(a, b)| [a.to_owned(), b.to_owned()]);
    let pairs: Option<Vec<[String; 2]>> = merges.into_iter().map(pair).collect();
    let pairs = pairs.ok_or_else(|| GgufError::Metadata { key: key.to_owned(), reason: "not pairs".to_owned() })?;

    let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let cut_by = |regex: &str| {
        let split = json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
        json!({"type": "Sequence", "pretokenizers": [split, bytes(false)]})
    };
    let pre = metadata.text("tokenizer.ggml.pre")?.unwrap_or("");
    let is_llama_3 = matches!(pre, "llama-bpe" | "llama3" | "llama-v3");
    let cut = match pre {
        "gpt-2" => bytes(true),
        "smollm" => {
            json!({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, bytes(true)]})
        }
        "qwen2" => cut_by(QWEN_2),
        _ if is_llama_3 => cut_by(LLAMA_3),
        other => return Err(GgufError::Unsupported(format!("text cut as {other:?} (tokenizer.ggml.pre)"))),
    };
    let normalizer = if pre == "qwen2" { json!({"type": "NFC"}) } else { Value::Null };
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": tokens.added(),
        "normalizer": normalizer, "pre_tokenizer": cut, "post_processor": tokens.post_processor(is_llama_3),
        "decoder": bytes(true),
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": is_llama_3,
            "vocab": tokens.ids(), "merges": pairs,
        },
    }))
}

fn sentence_piece<R: RangeRead + ?Sized>(gguf: &Gguf, file: &R, tokens: &Tokens) -> Result<Value, GgufError> {
    let metadata = gguf.metadata();
    let key = "tokenizer.ggml.scores";
    let scores = metadata.floats(file, key)?.ok_or_else(|| GgufError::NoMetadata(key.to_owned()))?;
    same_length(key, scores.len(), tokens.texts.len())?;
    let prefix = metadata.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
    let mut normalizers = vec![json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"})];
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if prefix {
        normalizers.insert(0, json!({"type": "Prepend", "prepend": "▁"}));
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    Ok(json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": tokens.added(),
        "normalizer": {"type": "Sequence", "normalizers": normalizers}, "pre_tokenizer": null,
        "post_processor": tokens.post_processor(true), "decoder": {"type": "Sequence", "decoders": decoders},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": tokens.text(tokens.unknown),
            "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true,
            "ignore_merges": false, "vocab": tokens.ids(), "merges": merges_by_score(tokens, &scores)?,
        },
    }))
}

/// SentencePiece joins the two neighbours whose joint token has the best score, and of equal ones the leftmost: BPE whose
/// merges are all cuts of all tokens into two tokens, best score first.
fn merges_by_score<'a>(tokens: &'a Tokens, scores: &[f32]) -> Result<Vec<[&'a str; 2]>, GgufError> {
    let ids = tokens.ids();
    let mut merges = Vec::new();
    for (text, score) in tokens.texts.iter().zip(scores) {
        if text.len() > MAX_MERGED_BYTES {
            return Err(GgufError::Unsupported(format!("a token of {} bytes", text.len())));
        }
        let cuts = text.char_indices().skip(1).map(|(at, _)| text.split_at(at));
        let tokens = cuts.filter_map(|(a, b)| Some((*score, *ids.get(a)?, *ids.get(b)?, [a, b])));
        merges.extend(tokens);
    }
    merges.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    Ok(merges.into_iter().map(|(.., pair)| pair).collect())
}

fn same_length(key: &str, found: usize, tokens: usize) -> Result<(), GgufError> {
    if found == tokens {
        return Ok(());
    }
    Err(GgufError::Metadata { key: key.to_owned(), reason: format!("{found} entries for {tokens} tokens") })
}
