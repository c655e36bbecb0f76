//! Cosines and sines of rotary embeddings, computed on the host and kept on the device.

use cdi_model::compute::{ComputeError, Rope};

use crate::gpu::memory::{Allocation, Memory};
use crate::gpu::recorder::Recorder;

/// Tables kept: the layers of a step share one, a batch has one a session.
const KEPT: usize = 16;

/// Recently used tables, the oldest first.
#[derive(Debug, Default)]
pub(crate) struct RopeTables(Vec<Table>);

#[derive(Debug)]
struct Table {
    rope: Rope,
    rows: u32,
    values: Allocation,
}

impl RopeTables {
    /// `[rows, head_dim / 2]` pairs of cosine and sine of the rows' angles.
    pub(crate) fn get(
        &mut self,
        memory: &mut Memory,
        recorder: &Recorder,
        rope: Rope,
        rows: u32,
    ) -> Result<&Allocation, ComputeError> {
        let known = self.0.iter().position(|table| table.rope == rope && table.rows == rows);
        let table = match known {
            Some(at) => self.0.remove(at),
            None => {
                let values = memory.upload_target(u64::from(rows) * u64::from(rope.head_dim) * 4)?;
                recorder.write(&values, 0, bytemuck::cast_slice(&angles(rope, rows)));
                Table { rope, rows, values }
            }
        };
        if self.0.len() == KEPT {
            self.0.remove(0);
        }
        self.0.push(table);
        Ok(&self.0[self.0.len() - 1].values)
    }

    /// Gives the tables back.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }
}

/// Computed in f64, because an f32 angle at position 100,000 is off by up to 0.004; and by `libm`, because the
/// system's functions give other bits on other systems.
#[allow(clippy::cast_possible_truncation, reason = "sines and cosines round to f32")]
fn angles(rope: Rope, rows: u32) -> Vec<[f32; 2]> {
    let pairs = rope.head_dim / 2;
    let frequencies: Vec<f64> =
        (0..pairs).map(|i| libm::pow(f64::from(rope.theta), -2.0 * f64::from(i) / f64::from(rope.head_dim))).collect();
    (0..rows)
        .map(|row| f64::from(rope.start) + f64::from(row))
        .flat_map(|position| {
            frequencies.iter().map(move |frequency| {
                let (sin, cos) = libm::sincos(position * frequency);
                [cos as f32, sin as f32]
            })
        })
        .collect()
}
