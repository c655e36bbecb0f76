//! What stored elements mean, as f32: the reference that every kernel and every conversion is held against.
//!
//! Bit for bit what ggml's `dequantize_row_*` gives; the fixtures hold its results. Every product below but that of
//! `Q6K` is exact in f32, so it does not matter whether a compiler fuses it with the sum.
//! Source: <https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-quants.c>.

use cdi_types::manifest::DType;
use half::{bf16, f16};

/// Writes the elements from `start` on to `out`; elements past the end of `bytes` are left as they are.
pub fn widen(dtype: DType, bytes: &[u8], start: usize, out: &mut [f32]) {
    match dtype {
        DType::F32 => by_block(bytes, start, out, |b, out: &mut [f32; 1]| *out = [f32::from_le_bytes(*b)]),
        DType::F16 => by_block(bytes, start, out, |b, out: &mut [f32; 1]| *out = [f16::from_le_bytes(*b).to_f32()]),
        DType::BF16 => by_block(bytes, start, out, |b, out: &mut [f32; 1]| *out = [bf16::from_le_bytes(*b).to_f32()]),
        DType::Q8_0 => by_block(bytes, start, out, q8_0),
        DType::Q4_0 => by_block(bytes, start, out, q4_0),
        DType::Q4K => by_block(bytes, start, out, q4_k),
        DType::Q6K => by_block(bytes, start, out, q6_k),
    }
}

/// All elements of whole stored blocks.
#[must_use]
pub fn dequantised(dtype: DType, bytes: &[u8]) -> Vec<f32> {
    let (elements, block_bytes) = dtype.block();
    let mut out = vec![0.0; bytes.len() / block_bytes as usize * elements as usize];
    widen(dtype, bytes, 0, &mut out);
    out
}

/// Whether no stored element is NaN or infinite.
#[must_use]
pub fn all_finite(dtype: DType, bytes: &[u8]) -> bool {
    let finite = |half: [u8; 2]| f16::from_le_bytes(half).is_finite();
    match dtype {
        DType::F32 => bytes.as_chunks::<4>().0.iter().all(|b| f32::from_le_bytes(*b).is_finite()),
        DType::F16 => bytes.as_chunks::<2>().0.iter().all(|b| finite(*b)),
        DType::BF16 => bytes.as_chunks::<2>().0.iter().all(|b| bf16::from_le_bytes(*b).is_finite()),
        // Finite scales are enough: f16 times the largest integers is far from the end of f32.
        DType::Q8_0 => bytes.as_chunks::<34>().0.iter().all(|b| finite([b[0], b[1]])),
        DType::Q4_0 => bytes.as_chunks::<18>().0.iter().all(|b| finite([b[0], b[1]])),
        DType::Q4K => bytes.as_chunks::<144>().0.iter().all(|b| finite([b[0], b[1]]) && finite([b[2], b[3]])),
        DType::Q6K => bytes.as_chunks::<210>().0.iter().all(|b| finite([b[208], b[209]])),
    }
}

/// Runs `decode` on the blocks of `N` bytes and `E` elements that `out`, which begins at element `start`, touches.
fn by_block<const N: usize, const E: usize>(
    bytes: &[u8],
    start: usize,
    out: &mut [f32],
    decode: impl Fn(&[u8; N], &mut [f32; E]),
) {
    let blocks = bytes.as_chunks::<N>().0.get(start / E..).unwrap_or_default();
    let mut skip = start % E;
    let mut rest = out;
    for block in blocks {
        if rest.is_empty() {
            return;
        }
        let mut values = [0.0; E];
        decode(block, &mut values);
        let (now, later) = rest.split_at_mut(rest.len().min(E - skip));
        now.copy_from_slice(&values[skip..][..now.len()]);
        (rest, skip) = (later, 0);
    }
}

fn scale(block: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}

/// Scale, then 32 signed bytes.
fn q8_0(block: &[u8; 34], out: &mut [f32; 32]) {
    let d = scale(block, 0);
    for (out, q) in out.iter_mut().zip(&block[2..]) {
        *out = f32::from(q.cast_signed()) * d;
    }
}

/// Scale, then 16 bytes: elements 0 to 15 in the low halves, 16 to 31 in the high ones, 8 being zero.
fn q4_0(block: &[u8; 18], out: &mut [f32; 32]) {
    let d = scale(block, 0);
    let (low, high) = out.split_at_mut(16);
    for ((low, high), q) in low.iter_mut().zip(high).zip(&block[2..]) {
        *low = (f32::from(q & 15) - 8.0) * d;
        *high = (f32::from(q >> 4) - 8.0) * d;
    }
}

/// Scale of the scales, scale of the minima, eight 6-bit pairs of them in 12 bytes, and 128 bytes of which each 32 hold
/// one group of 32 elements in their low halves and the next in their high ones.
fn q4_k(block: &[u8; 144], out: &mut [f32; 256]) {
    let (d, dmin) = (scale(block, 0), scale(block, 2));
    let (packed, quants) = block[4..].split_at(12);
    for (group, out) in out.chunks_exact_mut(32).enumerate() {
        let (factor, minimum) = scale_and_minimum(packed, group);
        let (factor, minimum) = (d * f32::from(factor), dmin * f32::from(minimum));
        let shift = 4 * (group % 2);
        for (out, q) in out.iter_mut().zip(&quants[group / 2 * 32..]) {
            *out = factor * f32::from((q >> shift) & 15) - minimum;
        }
    }
}

/// The 6-bit pair of a group: the first four stand in the low bits of bytes 0 to 7; the low halves of the others in
/// bytes 8 to 11 and their upper two bits above the first four.
fn scale_and_minimum(packed: &[u8], group: usize) -> (u8, u8) {
    if group < 4 {
        return (packed[group] & 63, packed[group + 4] & 63);
    }
    let both = packed[group + 4];
    ((both & 15) | (packed[group - 4] >> 6 << 4), (both >> 4) | (packed[group] >> 6 << 4))
}

/// 128 bytes of low halves, 64 of the upper two bits, 16 signed scales, and the scale of these; 32 is zero.
/// In each half of the block, byte `i` of the upper bits belongs to the elements `i`, `32 + i`, `64 + i`, `96 + i`.
fn q6_k(block: &[u8; 210], out: &mut [f32; 256]) {
    let d = scale(block, 208);
    for (half, out) in out.chunks_exact_mut(128).enumerate() {
        let (low, high, scales) = (&block[half * 64..], &block[128 + half * 32..], &block[192 + half * 8..]);
        for (quarter, out) in out.chunks_exact_mut(32).enumerate() {
            for (i, out) in out.iter_mut().enumerate() {
                let low = low[quarter % 2 * 32 + i] >> (quarter / 2 * 4) & 15;
                let high = high[i] >> (quarter * 2) & 3;
                let factor = d * f32::from(scales[quarter * 2 + i / 16].cast_signed());
                *out = factor * (f32::from(low | high << 4) - 32.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [DType; 7] = [DType::F32, DType::F16, DType::BF16, DType::Q8_0, DType::Q4_0, DType::Q4K, DType::Q6K];

    /// Bytes without a pattern whose scales are small numbers.
    fn blocks(dtype: DType, count: usize) -> Vec<u8> {
        let bytes = dtype.block().1 as usize * count;
        (0..bytes).map(|i| u8::try_from(i * i % 251 % 60).unwrap_or(0)).collect()
    }

    #[test]
    fn any_part_is_what_it_is_in_the_whole() {
        for dtype in ALL {
            let stored = blocks(dtype, 3);
            let whole = dequantised(dtype, &stored);
            assert_eq!(whole.len(), dtype.block().0 as usize * 3);
            for start in 0..whole.len() {
                let mut part = vec![f32::NAN; (whole.len() - start).min(40)];
                widen(dtype, &stored, start, &mut part);
                assert_eq!(part, whole[start..][..part.len()], "{dtype:?} from {start}");
            }
        }
    }

    #[test]
    fn too_few_bytes_leave_the_rest_alone() {
        for dtype in ALL {
            let elements = dtype.block().0 as usize;
            let mut out = vec![7.0; elements * 2];
            widen(dtype, &blocks(dtype, 1), 0, &mut out);
            assert!(out[elements..].iter().all(|v| *v == 7.0), "{dtype:?}");
            widen(dtype, &[], usize::MAX, &mut out);
        }
    }

    #[test]
    fn scales_that_are_not_finite_are_found() {
        for dtype in ALL {
            let mut stored = blocks(dtype, 2);
            assert!(all_finite(dtype, &stored), "{dtype:?}");
            let at = if dtype == DType::Q6K { 210 + 208 } else { dtype.block().1 as usize };
            stored[at..at + 2].copy_from_slice(&[0xff, 0x7f]);
            if dtype == DType::F32 {
                stored[4..].copy_from_slice(&f32::NAN.to_le_bytes());
            }
            assert!(!all_finite(dtype, &stored), "{dtype:?}");
        }
        let mut minimum = blocks(DType::Q4K, 1);
        minimum[2..4].copy_from_slice(&[0, 0x7c]);
        assert!(!all_finite(DType::Q4K, &minimum));
    }
}
