//! Stored rows of weights: widening them, and the Q8_0 blocks that back ends keep.

use cdi_types::manifest::DType;
use half::{bf16, f16};

/// Elements that share a scale in Q8_0.
pub(crate) const BLOCK: usize = 32;

/// Stored bytes of a Q8_0 block: an f16 scale and 32 signed bytes.
const STORED_BLOCK: usize = 34;

/// Elements `start .. start + out.len()` of stored values; `start` is a multiple of [`BLOCK`] for Q8_0.
fn widen_from(dtype: DType, bytes: &[u8], start: usize, out: &mut [f32]) {
    match dtype {
        DType::F32 => {
            for (out, b) in out.iter_mut().zip(&bytes.as_chunks::<4>().0[start..]) {
                *out = f32::from_le_bytes(*b);
            }
        }
        DType::F16 => {
            for (out, b) in out.iter_mut().zip(&bytes.as_chunks::<2>().0[start..]) {
                *out = f16::from_le_bytes(*b).to_f32();
            }
        }
        DType::BF16 => {
            for (out, b) in out.iter_mut().zip(&bytes.as_chunks::<2>().0[start..]) {
                *out = bf16::from_le_bytes(*b).to_f32();
            }
        }
        DType::Q8_0 => {
            let blocks = &bytes.as_chunks::<STORED_BLOCK>().0[start / BLOCK..];
            for (out, block) in out.chunks_mut(BLOCK).zip(blocks) {
                let (quants, scale) = split(block);
                let scale = scale.to_f32();
                for (out, q) in out.iter_mut().zip(quants) {
                    *out = scale * f32::from(q);
                }
            }
        }
        DType::Q4_0 | DType::Q4K | DType::Q6K => cdi_model::quant::widen(dtype, bytes, start, out),
    }
}

/// Widens stored values; `out` has as many elements as `bytes` holds.
pub(crate) fn widen(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    widen_from(dtype, bytes, 0, out);
}

/// Quants and scale of block `index`.
pub(crate) fn stored_block(dtype: DType, bytes: &[u8], index: usize) -> ([i8; BLOCK], f16) {
    if dtype == DType::Q8_0 {
        return split(&bytes.as_chunks::<STORED_BLOCK>().0[index]);
    }
    let mut values = [0.0; BLOCK];
    widen_from(dtype, bytes, index * BLOCK, &mut values);
    quantise(&values)
}

fn split(block: &[u8; STORED_BLOCK]) -> ([i8; BLOCK], f16) {
    let scale = f16::from_le_bytes([block[0], block[1]]);
    (std::array::from_fn(|i| i8::from_le_bytes([block[2 + i]])), scale)
}

/// llama.cpp's rule (`quantize_row_q8_0_ref`): `d = max|x| / 127`, `q = round(x * (1 / d))`, then `d` is kept as f16.
///
/// Source: <https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-quants.c>.
fn quantise(values: &[f32; BLOCK]) -> ([i8; BLOCK], f16) {
    let largest = values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    let scale = largest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    #[allow(clippy::cast_possible_truncation, reason = "rounded and within ±127; a float cast saturates")]
    let quants = values.map(|v| (v * inverse).round() as i8);
    (quants, f16::from_f32(scale))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantisation_follows_the_rule() {
        let mut values = [0.0; BLOCK];
        values[0] = 12.7;
        values[1] = -6.35;
        values[2] = 0.05;
        values[3] = 0.04;
        let (quants, scale) = quantise(&values);
        assert_eq!(quants[..5], [127, -64, 1, 0, 0]);
        assert_eq!(scale, f16::from_f32(0.1));
    }

    #[test]
    fn degenerate_blocks_quantise_without_surprise() {
        assert_eq!(quantise(&[0.0; BLOCK]), ([0; BLOCK], f16::ZERO));
        // Too small for an f16 scale: the block becomes zero, not infinite.
        let (_, scale) = quantise(&[1e-40; BLOCK]);
        assert_eq!(scale, f16::ZERO);
    }
}
