//! Tokens a second of whole models with random weights: how a change to the kernels is judged in a minute.
//!
//! Figures are best-of-many, one decode step or one prompt each, because other work on the machine only ever adds time;
//! the speed of reading memory is measured in the same run, so that the ratio can be compared between machines.

use std::hint::black_box;

use cdi_model::builder::StageBuilder;
use cdi_model::compute::{Compute, ComputeError, WeightFormat};
use cdi_model::llama::{LlamaStage, LogitRows, StageError, StageInput, StageOutput};
use cdi_model::tensors::{EMBEDDING, HEAD, Shape};
use cdi_types::LayerRange;
use cdi_types::manifest::{DType, Llama};

/// Bytes read to measure memory: beyond the caches of every machine that was seen.
const ROOF_BYTES: usize = 192 << 20;

/// Rows of stored weights that are made at once.
const ROWS: u32 = 64;

/// SmolLM2-135M.
#[must_use]
pub const fn smol135() -> Llama {
    Llama {
        vocab_size: 49_152,
        hidden_size: 576,
        intermediate_size: 1_536,
        num_hidden_layers: 30,
        num_attention_heads: 9,
        num_key_value_heads: 3,
        head_dim: 64,
        max_position_embeddings: 2_048,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        tie_word_embeddings: true,
    }
}

/// TinyLlama-1.1B.
#[must_use]
pub const fn tinyllama() -> Llama {
    Llama {
        vocab_size: 32_000,
        hidden_size: 2_048,
        intermediate_size: 5_632,
        num_hidden_layers: 22,
        num_attention_heads: 32,
        num_key_value_heads: 4,
        head_dim: 64,
        max_position_embeddings: 2_048,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        tie_word_embeddings: false,
    }
}

/// What is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// Type of the matrices of the layers. Embedding and head are in Q8_0 where these are quantised, as in the files
    /// that llama.cpp makes.
    pub dtype: DType,
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Tokens decoded after it.
    pub decoded: u32,
    /// How often.
    pub repetitions: usize,
}

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Speed {
    /// Tokens of the prompt a second, the best of the repetitions.
    pub prefill: f64,
    /// Tokens a second after it, the best single one.
    pub decode: f64,
    /// Tokens a second after it, the median one.
    pub decode_median: f64,
    /// 10⁹ bytes of weights a second that the best decode step read.
    pub decode_gb_s: f64,
    /// 10⁹ operations a second of the best prompt, a multiply-add counting as two, in matrices of the layers.
    pub prefill_gop_s: f64,
    /// 10⁹ bytes a second that one thread reads from memory.
    pub roof_gb_s: f64,
}

/// Measures a model of this shape. `now_ms` is a steady clock in milliseconds.
///
/// # Errors
/// As building and running a stage.
pub async fn measure<C: Compute>(
    c: &mut C,
    llama: &Llama,
    plan: Plan,
    now_ms: impl Fn() -> f64,
) -> Result<Speed, StageError> {
    let roof_gb_s = roof(&now_ms)?;
    let (stage, bytes, elements) = random_stage(c, llama, plan.dtype)?;
    let ids: Vec<u32> = (0..plan.prompt + plan.decoded).map(|i| (i * 7_919 + 1) % llama.vocab_size).collect();
    let mut prefill_ms = f64::MAX;
    let mut decode_ms = Vec::new();
    for _ in 0..plan.repetitions {
        let mut cache = stage.new_cache(c, plan.prompt + plan.decoded)?;
        for start in std::iter::once(0).chain(plan.prompt..plan.prompt + plan.decoded) {
            let count = if start == 0 { plan.prompt } else { 1 };
            let input = StageInput::Tokens(&ids[start as usize..][..count as usize]);
            let began = now_ms();
            if let StageOutput::Logits(x) = stage.forward(c, input, start, &mut cache, LogitRows::Last)? {
                black_box(c.read(&x).await?);
            }
            let ms = now_ms() - began;
            if start == 0 { prefill_ms = prefill_ms.min(ms) } else { decode_ms.push(ms) }
        }
    }
    decode_ms.sort_by(f64::total_cmp);
    let (best, median) = (decode_ms.first().copied(), decode_ms.get(decode_ms.len() / 2).copied());
    let (best, median) = (best.unwrap_or(f64::NAN), median.unwrap_or(f64::NAN));
    Ok(Speed {
        prefill: f64::from(plan.prompt) / prefill_ms * 1e3,
        decode: 1e3 / best,
        decode_median: 1e3 / median,
        decode_gb_s: bytes as f64 / best / 1e6,
        prefill_gop_s: 2.0 * f64::from(plan.prompt) * elements as f64 / prefill_ms / 1e6,
        roof_gb_s,
    })
}

/// 10⁹ bytes a second that reading memory gives, the best of five.
fn roof(now_ms: impl Fn() -> f64) -> Result<f64, StageError> {
    let mut words: Vec<u64> = Vec::new();
    let exhausted = |_| ComputeError::OutOfMemory { bytes: ROOF_BYTES as u64 };
    words.try_reserve_exact(ROOF_BYTES / 8).map_err(exhausted)?;
    words.resize(ROOF_BYTES / 8, 1);
    let best = (0..5).fold(f64::MAX, |best, _| {
        let began = now_ms();
        black_box(sum(&words));
        best.min(now_ms() - began)
    });
    Ok(ROOF_BYTES as f64 / best / 1e6)
}

/// Eight independent sums, so that the loads and not the additions decide.
#[inline(never)]
fn sum(words: &[u64]) -> u64 {
    let mut sums = [0_u64; 16];
    for words in words.as_chunks::<16>().0 {
        for (sum, word) in sums.iter_mut().zip(words) {
            *sum = sum.wrapping_add(*word);
        }
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}

/// A stage of all layers, the stored bytes that a decode step reads, and the elements of the layers' matrices.
fn random_stage<C: Compute>(c: &mut C, llama: &Llama, dtype: DType) -> Result<(LlamaStage<C>, u64, u64), StageError> {
    let whole = LayerRange::new(0, llama.num_hidden_layers - 1).map_err(|_| StageError::Missing(Vec::new()))?;
    let format = if dtype == DType::F32 { WeightFormat::F32 } else { WeightFormat::Q8_0 };
    let mut builder = StageBuilder::new(llama, whole, format)?;
    let (mut bytes, mut elements) = (0, 0);
    for spec in builder.needs().to_vec() {
        let (rows, cols) = spec.shape.rows_cols();
        let ends = spec.tensor.name == EMBEDDING || spec.tensor.name == HEAD;
        let kept = match spec.shape {
            Shape::Vector(_) => DType::F32,
            Shape::Matrix(..) if ends && dtype != DType::F32 => DType::Q8_0,
            Shape::Matrix(..) => dtype,
        };
        let row = kept.row_bytes(cols).unwrap_or(0);
        let read = spec.tensor.name != EMBEDDING || llama.tie_word_embeddings;
        bytes += if read { u64::from(rows) * row } else { 0 };
        if matches!(spec.shape, Shape::Matrix(..)) && !ends {
            elements += u64::from(rows) * u64::from(cols);
        }
        for first in (0..rows).step_by(ROWS as usize) {
            let count = ROWS.min(rows - first);
            let stored = random_rows(kept, cols, count, u64::from(first) + bytes);
            builder.write_rows(c, spec.tensor, first, kept, &stored)?;
        }
    }
    Ok((builder.finish()?, bytes, elements))
}

/// Stored rows of which the products stay of the order of one.
fn random_rows(dtype: DType, cols: u32, rows: u32, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let size = 1.0 / (cols as f32).sqrt();
    let (elements, block_bytes) = dtype.block();
    let blocks = rows * (cols / elements);
    let mut bytes = Vec::with_capacity((blocks * block_bytes) as usize);
    for _ in 0..blocks {
        match dtype {
            DType::F32 => bytes.extend((((next() >> 40) as f32 / 8_388_608.0 - 1.0) * size).to_le_bytes()),
            _ => {
                let steps = if dtype == DType::Q4_0 { 4.6 } else { 73.0 };
                bytes.extend(half::f16::from_f32(size / steps).to_le_bytes());
                while !(bytes.len() as u64).is_multiple_of(u64::from(block_bytes)) {
                    bytes.push(next().to_le_bytes()[3]);
                }
            }
        }
    }
    bytes
}
