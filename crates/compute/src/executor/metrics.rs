//! How fast stages run.

use std::collections::VecDeque;

use cdi_types::LayerRange;
use cdi_types::manifest::Llama;

use super::StageId;

/// Decode steps that the percentiles look back on.
const WINDOW: usize = 128;

/// Memory and speed of an executor.
#[derive(Debug, Clone, PartialEq)]
pub struct Stats {
    /// Bytes that the back end holds for weights, caches and activations.
    pub memory_bytes: u64,
    /// Bytes reserved for keys and values.
    pub kv_bytes: u64,
    /// Bytes that may be reserved.
    pub kv_limit_bytes: u64,
    /// Open sessions.
    pub sessions: usize,
    /// The loaded stages.
    pub stages: Vec<StageStats>,
}

/// Speed of a stage.
#[derive(Debug, Clone, PartialEq)]
pub struct StageStats {
    /// The stage.
    pub id: StageId,
    /// Names kernels and weight format: equal ids give equal bits.
    pub kernel_id: String,
    /// Median time of the last decode steps (one row each), read-back included.
    pub decode_ms: Option<f64>,
    /// Their 95th percentile.
    pub decode_p95_ms: Option<f64>,
    /// Rows a second over all steps of more than one row.
    pub prefill_rows_per_second: Option<f64>,
    /// Arithmetic of all steps, a multiply-add counting as two operations, over their time: 10⁹ operations a second.
    pub gflops: Option<f64>,
}

/// Counts a stage's steps.
#[derive(Debug, Default)]
pub(super) struct Meter {
    decode_ms: VecDeque<f64>,
    prefill_rows: u64,
    prefill_ms: f64,
    operations: f64,
    busy_ms: f64,
}

impl Meter {
    /// Takes in a step of `rows` rows from position `start` on, `wanted` of them through the head.
    pub(super) fn record(&mut self, llama: &Llama, layers: LayerRange, rows: usize, start: u32, wanted: u32, ms: f64) {
        self.operations += 2.0 * multiply_adds(llama, layers, rows, start, wanted);
        self.busy_ms += ms;
        if rows == 1 {
            if self.decode_ms.len() == WINDOW {
                self.decode_ms.pop_front();
            }
            self.decode_ms.push_back(ms);
        } else {
            self.prefill_rows += rows as u64;
            self.prefill_ms += ms;
        }
    }

    pub(super) fn stats(&self, id: StageId, kernel_id: &str) -> StageStats {
        let mut sorted: Vec<f64> = self.decode_ms.iter().copied().collect();
        sorted.sort_by(f64::total_cmp);
        let percentile =
            |percent: usize| sorted.get((sorted.len() * percent / 100).min(sorted.len().max(1) - 1)).copied();
        let over = |amount: f64, ms: f64| (ms > 0.0).then(|| amount / ms);
        StageStats {
            id,
            kernel_id: kernel_id.to_owned(),
            decode_ms: percentile(50),
            decode_p95_ms: percentile(95),
            prefill_rows_per_second: over(self.prefill_rows as f64 * 1e3, self.prefill_ms),
            gflops: over(self.operations / 1e6, self.busy_ms),
        }
    }
}

/// Multiply-adds of a step: every matrix of the layers for each row, scores and mixing of what each row sees, and the
/// head for the wanted rows. Element-wise operations are left out, as is usual.
fn multiply_adds(llama: &Llama, layers: LayerRange, rows: usize, start: u32, wanted: u32) -> f64 {
    let rows = rows as f64;
    let layers = f64::from(layers.count());
    let seen = rows * f64::from(start) + rows * (rows + 1.0) / 2.0;
    let attention = 2.0 * f64::from(llama.num_attention_heads) * f64::from(llama.head_dim) * seen * layers;
    let head = f64::from(wanted) * f64::from(llama.vocab_size) * f64::from(llama.hidden_size);
    rows * layers * layer_weights(llama) + attention + head
}

/// Elements of the matrices of one layer.
fn layer_weights(llama: &Llama) -> f64 {
    let [hidden, ffn, heads, kv_heads, dim] = [
        llama.hidden_size,
        llama.intermediate_size,
        llama.num_attention_heads,
        llama.num_key_value_heads,
        llama.head_dim,
    ]
    .map(f64::from);
    hidden * (2.0 * heads * dim + 2.0 * kv_heads * dim + 3.0 * ffn)
}
