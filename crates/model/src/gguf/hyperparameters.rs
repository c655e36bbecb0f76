//! What the metadata say about the network.

use cdi_types::manifest::Llama;

use super::{Gguf, GgufError, Metadata};
use crate::config::ModelConfig;

/// Ids that end an answer, in the order in which they are tried.
const END_OF_TEXT: [&str; 3] =
    ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"];
/// The factors of Llama 3's rotary scaling, which are stored as a tensor.
const ROPE_FACTORS: &str = "rope_freqs.weight";

/// Hyperparameters and end-of-text ids of a Llama network.
///
/// # Errors
/// [`GgufError::Unsupported`] names what is not computed; [`GgufError::NoMetadata`] and [`GgufError::Metadata`] for
/// entries that are missing or make no sense.
pub fn model_config(gguf: &Gguf) -> Result<ModelConfig, GgufError> {
    let metadata = gguf.metadata();
    check_supported(gguf)?;
    let hidden_size = required(metadata, "llama.embedding_length")?;
    let num_attention_heads = required(metadata, "llama.attention.head_count")?;
    let head_dim = head_dim(metadata, hidden_size, num_attention_heads)?;
    let embedding_rows = gguf.get("token_embd.weight").and_then(|info| info.shape.first().copied());
    let vocab_size = match metadata.u32("llama.vocab_size")? {
        Some(size) => size,
        // Files of older converters leave it to the embedding.
        None => embedding_rows.ok_or_else(|| GgufError::NoMetadata("llama.vocab_size".to_owned()))?,
    };
    let llama = Llama {
        vocab_size,
        hidden_size,
        intermediate_size: required(metadata, "llama.feed_forward_length")?,
        num_hidden_layers: required(metadata, "llama.block_count")?,
        num_attention_heads,
        num_key_value_heads: metadata.u32("llama.attention.head_count_kv")?.unwrap_or(num_attention_heads),
        head_dim,
        max_position_embeddings: required(metadata, "llama.context_length")?,
        rms_norm_eps: metadata
            .float("llama.attention.layer_norm_rms_epsilon")?
            .ok_or_else(|| GgufError::NoMetadata("llama.attention.layer_norm_rms_epsilon".to_owned()))?,
        rope_theta: metadata.float("llama.rope.freq_base")?.unwrap_or(10_000.0),
        tie_word_embeddings: gguf.get("output.weight").is_none(),
    };
    llama.validate().map_err(|e| GgufError::Unsupported(e.to_string()))?;
    Ok(ModelConfig { end_of_text: end_of_text(metadata, vocab_size)?, llama })
}

fn check_supported(gguf: &Gguf) -> Result<(), GgufError> {
    let metadata = gguf.metadata();
    let refuse = |what: String| Err(GgufError::Unsupported(what));
    match metadata.text("general.architecture")? {
        Some("llama") => {}
        Some(other) => return refuse(format!("architecture {other:?}")),
        None => return Err(GgufError::NoMetadata("general.architecture".to_owned())),
    }
    if metadata.u32("split.count")?.is_some_and(|parts| parts > 1) {
        return refuse("a file in several parts (merge them first: llama-gguf-split --merge)".to_owned());
    }
    if metadata.u32("llama.expert_count")?.is_some_and(|experts| experts > 0) {
        return refuse("a mixture of experts".to_owned());
    }
    if let Some(kind) = metadata.text("llama.rope.scaling.type")?.filter(|kind| *kind != "none") {
        return refuse(format!("rotary scaling of type {kind:?}"));
    }
    // The entry of files from before there was a type.
    if metadata.float("llama.rope.scale_linear")?.is_some_and(|scale| scale != 1.0) {
        return refuse("rotary scaling of type \"linear\"".to_owned());
    }
    if gguf.get(ROPE_FACTORS).is_some() {
        return refuse(format!("rotary scaling of Llama 3 ({ROPE_FACTORS})"));
    }
    let context = metadata.u32("llama.context_length")?.unwrap_or(0);
    if metadata.u32("llama.attention.sliding_window")?.is_some_and(|window| window > 0 && window < context) {
        return refuse("a sliding window".to_owned());
    }
    Ok(())
}

fn head_dim(metadata: &Metadata, hidden_size: u32, heads: u32) -> Result<u32, GgufError> {
    let unsupported = |what: &str| GgufError::Unsupported(what.to_owned());
    let dim = match metadata.u32("llama.attention.key_length")? {
        Some(dim) => dim,
        None if heads > 0 && hidden_size.is_multiple_of(heads) => hidden_size / heads,
        None => return Err(unsupported("a head count that does not divide the width")),
    };
    if metadata.u32("llama.attention.value_length")?.is_some_and(|value| value != dim) {
        return Err(unsupported("keys and values of different widths"));
    }
    if metadata.u32("llama.rope.dimension_count")?.is_some_and(|rotated| rotated != dim) {
        return Err(unsupported("rotation of a part of each head"));
    }
    Ok(dim)
}

fn end_of_text(metadata: &Metadata, vocab_size: u32) -> Result<Vec<u32>, GgufError> {
    let mut ids = Vec::new();
    for key in END_OF_TEXT {
        if let Some(id) = metadata.u32(key)?.filter(|id| !ids.contains(id)) {
            if id >= vocab_size {
                let reason = format!("{id} is outside of a vocabulary of {vocab_size}");
                return Err(GgufError::Metadata { key: key.to_owned(), reason });
            }
            ids.push(id);
        }
    }
    if ids.is_empty() { Err(GgufError::NoMetadata(END_OF_TEXT[0].to_owned())) } else { Ok(ids) }
}

fn required(metadata: &Metadata, key: &str) -> Result<u32, GgufError> {
    metadata.u32(key)?.ok_or_else(|| GgufError::NoMetadata(key.to_owned()))
}
