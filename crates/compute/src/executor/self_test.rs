//! A stage checked against itself.
//!
//! Wrong shaders, a driver that reorders sums by batch size and weights that are not finite all show here, without
//! knowing what the model should answer.

use cdi_model::compute::Compute;
use cdi_model::llama::{LlamaStage, LogitRows, StageInput, StageOutput};
use cdi_types::LayerRange;

use super::{Clock, ExecutorError};

/// Rows of the computation: enough for one whole tile and a remainder.
const ROWS: u32 = 11;
/// How the second run is cut: single rows, and batches on both sides of a tile.
const PARTS: [usize; 4] = [4, 1, 5, 1];

pub(super) async fn run<C: Compute>(
    compute: &mut C,
    stage: &LlamaStage<C>,
    part: LayerRange,
) -> Result<(), ExecutorError> {
    let rows = ROWS.min(stage.llama().max_position_embeddings) as usize;
    let whole = forward(compute, stage, part, &[rows]).await?;
    let failed = |what| Err(ExecutorError::SelfTest { layers: part, what });
    if !whole.iter().all(|x| x.is_finite()) {
        return failed("a result is not finite");
    }
    if whole.iter().all(|x| *x == 0.0) {
        return failed("every result is zero");
    }
    let parts = forward(compute, stage, part, &PARTS).await?;
    if whole.iter().map(|x| x.to_bits()).ne(parts.iter().map(|x| x.to_bits())) {
        return failed("results depend on how rows are batched");
    }
    Ok(())
}

/// Median time of `steps` single rows, the first left out: it may compile or allocate.
pub(super) async fn measure<C: Compute>(
    compute: &mut C,
    stage: &LlamaStage<C>,
    part: LayerRange,
    steps: u32,
    clock: &Clock,
) -> Result<f64, ExecutorError> {
    let mut times = Vec::new();
    for _ in 0..=steps {
        let started = clock();
        forward(compute, stage, part, &[1]).await?;
        times.push(clock() - started);
    }
    times.remove(0);
    times.sort_by(f64::total_cmp);
    Ok(times.get(times.len() / 2).copied().unwrap_or(0.0))
}

/// Outputs of fixed inputs, run in batches of these sizes as far as the context reaches.
async fn forward<C: Compute>(
    compute: &mut C,
    stage: &LlamaStage<C>,
    part: LayerRange,
    batches: &[usize],
) -> Result<Vec<f32>, ExecutorError> {
    let (vocab, width) = (stage.llama().vocab_size, stage.llama().hidden_size as usize);
    let positions = stage.llama().max_position_embeddings.min(ROWS);
    let ids: Vec<u32> = (0..positions).map(|i| (i * 7_919 + 1) % vocab).collect();
    // Values in [-1, 1] that neither repeat along a row nor from row to row.
    let hidden: Vec<f32> =
        (0..positions as usize * width).map(|i| (i * 7_919 % 2_003) as f32 / 1_001.0 - 1.0).collect();
    let mut cache = stage.new_cache_of(compute, part, positions)?;
    let mut out = Vec::new();
    for size in batches {
        let start = cache.held() as usize;
        let end = (start + size).min(positions as usize);
        if start == end {
            break;
        }
        let input = if part.first() == 0 {
            StageInput::Tokens(&ids[start..end])
        } else {
            StageInput::Hidden(&hidden[start * width..end * width])
        };
        let start = cache.held();
        match stage.forward(compute, input, start, &mut cache, LogitRows::From(0))? {
            StageOutput::Hidden(x) | StageOutput::Logits(x) => out.extend(compute.read(&x).await?),
            StageOutput::Nothing => {}
        }
    }
    Ok(out)
}
