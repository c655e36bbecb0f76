//! Stored rows of weights: widening them, and the blocks of 8 and 4 bits that back ends keep.

use cdi_model::quant;
use cdi_types::manifest::DType;
use half::f16;

/// Elements that share a scale in Q8_0 and Q4_0.
pub(crate) const BLOCK: usize = 32;

/// Stored bytes of a Q8_0 block: an f16 scale and 32 signed bytes.
const STORED8: usize = 34;

/// Stored bytes of a Q4_0 block: an f16 scale and 32 halves of bytes.
const STORED4: usize = 18;

/// Widens stored values; `out` has as many elements as `bytes` holds.
pub(crate) fn widen(dtype: DType, bytes: &[u8], out: &mut [f32]) {
    quant::widen(dtype, bytes, 0, out);
}

/// Quants and scale of block `index` in 8 bits: as stored where the type has such blocks, else quantised.
pub(crate) fn block8(dtype: DType, bytes: &[u8], index: usize) -> ([i8; BLOCK], f16) {
    match dtype {
        DType::Q8_0 => split8(&bytes.as_chunks::<STORED8>().0[index]),
        DType::Q4_0 => split4(&bytes.as_chunks::<STORED4>().0[index]),
        _ => quantise8(&widened(dtype, bytes, index)),
    }
}

/// Quants, -8 to 7, and scale of block `index` in 4 bits: as stored, or quantised.
pub(crate) fn block4(dtype: DType, bytes: &[u8], index: usize) -> ([i8; BLOCK], f16) {
    match dtype {
        DType::Q4_0 => split4(&bytes.as_chunks::<STORED4>().0[index]),
        _ => quantise4(&widened(dtype, bytes, index)),
    }
}

fn widened(dtype: DType, bytes: &[u8], index: usize) -> [f32; BLOCK] {
    let mut values = [0.0; BLOCK];
    quant::widen(dtype, bytes, index * BLOCK, &mut values);
    values
}

fn split8(block: &[u8; STORED8]) -> ([i8; BLOCK], f16) {
    let scale = f16::from_le_bytes([block[0], block[1]]);
    (std::array::from_fn(|i| block[2 + i].cast_signed()), scale)
}

fn split4(block: &[u8; STORED4]) -> ([i8; BLOCK], f16) {
    let scale = f16::from_le_bytes([block[0], block[1]]);
    let nibble = |i: usize| if i < BLOCK / 2 { block[2 + i] & 15 } else { block[2 + i - BLOCK / 2] >> 4 };
    (std::array::from_fn(|i| nibble(i).cast_signed() - 8), scale)
}

/// llama.cpp's rule (`quantize_row_q8_0_ref`): `d = max|x| / 127`, `q = round(x * (1 / d))`, then `d` is kept as f16.
///
/// Source: <https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-quants.c>.
fn quantise8(values: &[f32; BLOCK]) -> ([i8; BLOCK], f16) {
    let largest = values.iter().fold(0.0_f32, |m, v| m.max(v.abs()));
    let scale = largest / 127.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    #[allow(clippy::cast_possible_truncation, reason = "rounded and within ±127; a float cast saturates")]
    let quants = values.map(|v| (v * inverse).round() as i8);
    (quants, f16::from_f32(scale))
}

/// llama.cpp's rule (`quantize_row_q4_0_ref`): the element `m` of largest magnitude becomes -8, so `d = m / -8` and
/// `q = min(15, trunc(x * (1 / d) + 8.5)) - 8`, then `d` is kept as f16.
fn quantise4(values: &[f32; BLOCK]) -> ([i8; BLOCK], f16) {
    let largest = values.iter().fold(0.0_f32, |m, v| if v.abs() > m.abs() { *v } else { m });
    let scale = largest / -8.0;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    #[allow(clippy::cast_possible_truncation, reason = "within -8 to 8; a float cast saturates")]
    let quants = values.map(|v| ((v * inverse + 8.5) as i8).min(15) - 8);
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
        let (quants, scale) = quantise8(&values);
        assert_eq!(quants[..5], [127, -64, 1, 0, 0]);
        assert_eq!(scale, f16::from_f32(0.1));
    }

    #[test]
    fn quantisation_in_4_bits_follows_the_rule() {
        let mut values = [0.0; BLOCK];
        values[..5].copy_from_slice(&[-4.0, 4.0, 0.5, 0.24, -0.26]);
        let (quants, scale) = quantise4(&values);
        assert_eq!(quants[..6], [-8, 7, 1, 0, -1, 0]);
        assert_eq!(scale, f16::from_f32(0.5));
        assert_eq!(quantise4(&[0.0; BLOCK]), ([0; BLOCK], f16::NEG_ZERO));
    }

    #[test]
    fn degenerate_blocks_quantise_without_surprise() {
        assert_eq!(quantise8(&[0.0; BLOCK]), ([0; BLOCK], f16::ZERO));
        // Too small for an f16 scale: the block becomes zero, not infinite.
        let (_, scale) = quantise8(&[1e-40; BLOCK]);
        assert_eq!(scale, f16::ZERO);
    }
}
