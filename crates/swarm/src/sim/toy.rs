//! What the simulated nodes compute: a "model" whose every row depends on all earlier positions, so that a lost, doubled
//! or wrong row changes the text.

use cdi_types::LayerRange;
use cdi_types::sampling::{Sampling, uniform};

use crate::stage::{Output, Work, WorkInput};

/// Bytes of a row.
pub(super) const ROW_BYTES: usize = 8;
/// Ids are below this.
const VOCABULARY: u64 = 1_000;
/// Of this many tokens one is a surprise; the others repeat what came a few positions before, as text does.
const SURPRISE: u64 = 6;
const PERIOD: u32 = 11;

fn layer(state: u64, layer: u32, input: u64) -> u64 {
    (state ^ input.rotate_left(17)).wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(layer) << 7)
        ^ (state >> 29)
}

fn embed(id: u32) -> u64 {
    u64::from(id).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

/// The token at `position`, after a row that left the last layer.
fn choose(row: u64, position: u32, sampling: &Sampling) -> u32 {
    let drawn = if sampling.temperature > 0.0 { uniform(sampling.seed, position).to_bits() } else { 0 };
    let row = row ^ drawn;
    let id = if (row >> 40).is_multiple_of(SURPRISE) { row % VOCABULARY } else { u64::from(position % PERIOD) };
    u32::try_from(id).unwrap_or(0)
}

/// Keys and values of a stage: the state of each layer after each position.
#[derive(Debug)]
pub(super) struct Cache {
    layers: LayerRange,
    states: Vec<Vec<u64>>,
}

impl Cache {
    pub(super) fn new(layers: LayerRange) -> Self {
        Self { layers, states: vec![Vec::new(); layers.count() as usize] }
    }

    fn row(&mut self, position: u32, mut row: u64) -> u64 {
        for (l, states) in self.layers.iter().zip(&mut self.states) {
            states.truncate(position as usize);
            row = layer(states.last().copied().unwrap_or(0), l, row);
            states.push(row);
        }
        row
    }

    /// Runs the kernels. `None` for work that starts beyond what is held: real ones would refuse it too.
    pub(super) fn compute(&mut self, work: &Work, sampling: &Sampling) -> Option<Output> {
        if self.states.iter().any(|s| s.len() < work.start as usize) {
            return None;
        }
        let rows: Vec<u64> = match &work.input {
            WorkInput::Tokens(ids) => ids.iter().map(|id| embed(*id)).collect(),
            WorkInput::Rows(bytes) => bytes
                .chunks_exact(ROW_BYTES)
                .map(|b| b.iter().rev().fold(0, |row, byte| row << 8 | u64::from(*byte)))
                .collect(),
        };
        let out: Vec<(u32, u64)> = (work.start..).zip(rows).map(|(p, row)| (p, self.row(p, row))).collect();
        Some(match work.sample_from {
            None => Output::Rows(out.iter().flat_map(|(_, row)| row.to_le_bytes()).collect()),
            Some(from) => {
                let sampled = out.iter().filter(|(p, _)| *p >= from);
                Output::Tokens(sampled.map(|(p, row)| (p + 1, choose(*row, p + 1, sampling))).collect())
            }
        })
    }
}

/// The answer of one process that computes everything alone.
pub(super) fn reference(prompt: &[u32], tokens: usize, layers: u32, sampling: &Sampling) -> Vec<u32> {
    let Some(layers) = LayerRange::whole(layers) else { return Vec::new() };
    let mut cache = Cache::new(layers);
    let mut ids = prompt.to_vec();
    let mut position = 0;
    while ids.len() < prompt.len() + tokens {
        let row = cache.row(position, embed(ids[position as usize]));
        position += 1;
        if position as usize == ids.len() {
            ids.push(choose(row, position, sampling));
        }
    }
    ids.split_off(prompt.len())
}
