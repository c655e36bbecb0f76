//! Loading of weights, embedding and matrix products.

use cdi_model::compute::{Compute, MatrixSpec, WeightFormat};
use cdi_types::manifest::DType;
use half::{bf16, f16};

use super::{Noise, SUBNORMAL, TOLERANCE, apply, assert_close, le_bytes, matrix, reference};

const FORMATS: [WeightFormat; 3] = [WeightFormat::F32, WeightFormat::Q8_0, WeightFormat::Q4_0];

/// `[n, cols, rows]` of products: single rows and columns, odd sizes, more than one tile of anything.
const PRODUCTS: [[u32; 3]; 10] = [
    [1, 1, 1],
    [1, 7, 5],
    [2, 16, 1],
    [3, 33, 17],
    [5, 64, 16],
    [9, 48, 31],
    [4, 576, 64],
    [17, 96, 130],
    [1, 1030, 100],
    [64, 256, 65],
];

/// Elements of a Q8_0 or Q4_0 block.
const BLOCK: usize = 32;

/// The values that llama.cpp's rule keeps of a row: `d = max|x| / 127` as f16, `q = round(x / d)`.
fn quantised(values: &[f32]) -> Vec<f32> {
    let block = |x: &[f32]| {
        let scale = x.iter().fold(0.0_f32, |m, x| m.max(x.abs())) / 127.0;
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        let kept = f16::from_f32(scale).to_f32();
        x.iter().map(move |x| kept * (x * inverse).round().clamp(-127.0, 127.0)).collect::<Vec<_>>()
    };
    values.chunks(BLOCK).flat_map(block).collect()
}

/// The values that llama.cpp's rule keeps of a row in 4 bits: `d = m / -8` with `m` the element of largest magnitude,
/// `q = min(15, trunc(x / d + 8.5)) - 8`.
fn quantised_in_4_bits(values: &[f32]) -> Vec<f32> {
    let block = |x: &[f32]| {
        let scale = x.iter().fold(0.0_f32, |m, x| if x.abs() > m.abs() { *x } else { m }) / -8.0;
        let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
        let kept = f16::from_f32(scale).to_f32();
        x.iter().map(move |x| kept * ((x * inverse + 8.5).trunc().min(15.0) - 8.0)).collect::<Vec<_>>()
    };
    values.chunks(BLOCK).flat_map(block).collect()
}

/// Blocks of stored Q4_0 and the values they stand for.
fn stored_q4_0(noise: &mut Noise, blocks: usize) -> (Vec<u8>, Vec<f32>) {
    let (mut bytes, mut values) = (Vec::new(), Vec::new());
    for _ in 0..blocks {
        let scale = f16::from_f32(noise.unit() * 0.1);
        bytes.extend(scale.to_le_bytes());
        let halves: [u8; BLOCK / 2] = std::array::from_fn(|_| noise.bits().to_le_bytes()[0]);
        bytes.extend(halves);
        let value = |nibble: u8| scale.to_f32() * (f32::from(nibble) - 8.0);
        values.extend(halves.iter().map(|both| value(both & 15)));
        values.extend(halves.iter().map(|both| value(both >> 4)));
    }
    (bytes, values)
}

/// Stored blocks of a format, of as many columns, and the values they stand for.
fn stored_blocks(noise: &mut Noise, format: WeightFormat, blocks: usize) -> (DType, Vec<u8>, Vec<f32>) {
    if format == WeightFormat::Q4_0 {
        let (bytes, values) = stored_q4_0(noise, blocks);
        return (DType::Q4_0, bytes, values);
    }
    let (bytes, values) = stored_q8_0(noise, blocks);
    (DType::Q8_0, bytes, values)
}

/// Blocks of stored Q8_0 and the values they stand for.
fn stored_q8_0(noise: &mut Noise, blocks: usize) -> (Vec<u8>, Vec<f32>) {
    let (mut bytes, mut values) = (Vec::new(), Vec::new());
    for _ in 0..blocks {
        let scale = f16::from_f32(noise.unit() * 0.1);
        bytes.extend(scale.to_le_bytes());
        for _ in 0..BLOCK {
            let quant = noise.bits().to_le_bytes()[0];
            bytes.push(quant);
            values.push(scale.to_f32() * f32::from(i8::from_le_bytes([quant])));
        }
    }
    (bytes, values)
}

/// Every storage type widens to its exact values, or to the values that Q8_0 keeps of them.
pub async fn embed_widens_every_storage_type<C: Compute>(c: &mut C) {
    const COLS: u32 = 64;
    let mut noise = Noise::new(1);
    let mut values = noise.values(5 * COLS as usize, 3.0);
    // A block of zeros, one large value among small ones, one subnormal, and the largest magnitudes in use.
    values[..BLOCK].fill(0.0);
    values[BLOCK] = 60_000.0;
    values[2 * BLOCK] = 1e-7;
    values[3 * BLOCK] = -1e4;
    let halves: Vec<f16> = values.iter().copied().map(f16::from_f32).collect();
    let brains: Vec<bf16> = values.iter().copied().map(bf16::from_f32).collect();
    let (blocks, block_values) = stored_q8_0(&mut noise, 10);
    let (fours, four_values) = stored_q4_0(&mut noise, 10);
    let stored = [
        (DType::F32, le_bytes(&values), values.clone()),
        (
            DType::F16,
            halves.iter().flat_map(|v| v.to_le_bytes()).collect(),
            halves.iter().map(|v| v.to_f32()).collect(),
        ),
        (
            DType::BF16,
            brains.iter().flat_map(|v| v.to_le_bytes()).collect(),
            brains.iter().map(|v| v.to_f32()).collect(),
        ),
        (DType::Q8_0, blocks, block_values),
        (DType::Q4_0, fours, four_values),
    ];
    let ids = [4, 0, 1, 2, 3, 0];
    for (dtype, bytes, values) in stored {
        for format in FORMATS {
            let mut table = c.new_matrix(MatrixSpec { rows: 5, cols: COLS, format }).expect("a table");
            c.write_rows(&mut table, 0, dtype, &bytes).expect("its rows");
            let kept = match (format, dtype) {
                (WeightFormat::Q8_0, DType::F32 | DType::F16 | DType::BF16) => quantised(&values),
                // A back end may keep the stored elements in 8 bits instead, see below.
                (WeightFormat::Q4_0, DType::F32 | DType::F16 | DType::BF16 | DType::Q8_0) => continue,
                _ => values.clone(),
            };
            let want: Vec<f32> = ids.iter().flat_map(|id| kept[*id as usize * 64..][..64].to_vec()).collect();
            let rows = c.embed(&table, &ids).expect("rows");
            assert_eq!(c.shape(&rows), [6, COLS]);
            let got = c.read(&rows).await.expect("a result");
            assert_eq!(got, want, "{dtype:?} as {format:?}");
        }
    }
}

/// Rows written one by one, out of order and over each other give what they give at once; unwritten rows are zero.
pub async fn rows_load_in_parts<C: Compute>(c: &mut C) {
    let values = Noise::new(2).values(4 * 32, 1.0);
    for format in FORMATS {
        let whole = matrix(c, 32, &values, format);
        let mut parts = c.new_matrix(MatrixSpec { rows: 5, cols: 32, format }).expect("a matrix");
        c.write_rows(&mut parts, 1, DType::F32, &le_bytes(&values[..64])).expect("rows");
        for first in [3_u32, 0, 1, 2] {
            let row = &values[first as usize * 32..][..32];
            c.write_rows(&mut parts, first, DType::F32, &le_bytes(row)).expect("a row");
        }
        let whole = c.embed(&whole, &[0, 1, 2, 3]).expect("rows");
        let parts = c.embed(&parts, &[0, 1, 2, 3, 4]).expect("rows");
        let mut want = c.read(&whole).await.expect("a result");
        want.extend([0.0; 32]);
        assert_eq!(c.read(&parts).await.expect("a result"), want, "{format:?}");
    }
}

/// Products of every shape match the reference, also with zeros, large and tiny elements.
pub async fn matmul_matches<C: Compute>(c: &mut C) {
    let mut noise = Noise::new(3);
    for [n, cols, rows] in PRODUCTS {
        for scale in [1.0, 0.0, 1e15, 1e-20] {
            let x = noise.values((n * cols) as usize, scale);
            let w = noise.values((rows * cols) as usize, 1.0);
            let loaded = matrix(c, cols, &w, WeightFormat::F32);
            let got = apply(c, cols, &x, |c, x| c.matmul(x, &loaded)).await;
            let (want, magnitude) = reference::matmul(cols as usize, &reference::wide(&x), &reference::wide(&w));
            assert_close(&format!("matmul [{n}, {cols}] by [{rows}, {cols}] of {scale}"), &got, &want, &magnitude);
        }
    }
}

/// Embedding of a table that was quantised to 4 bits at loading: what llama.cpp's rule keeps, or, of a back end that
/// keeps 8 bits instead, something closer to the original.
pub async fn four_bits_lose_no_more_than_they_must<C: Compute>(c: &mut C) {
    let values = Noise::new(5).values(7 * 64, 2.0);
    let table = matrix(c, 64, &values, WeightFormat::Q4_0);
    let rows = c.embed(&table, &[0, 1, 2, 3, 4, 5, 6]).expect("rows");
    let got = c.read(&rows).await.expect("a result");
    for ((got, value), kept) in got.iter().zip(&values).zip(quantised_in_4_bits(&values)) {
        let allowed = (kept - value).abs().max(2.0 / 127.0);
        assert!(*got == kept || (got - value).abs() <= allowed, "{value} became {got}, not {kept}");
    }
}

const QUANTISED: [[u32; 3]; 8] =
    [[1, 32, 1], [3, 64, 5], [5, 96, 33], [2, 576, 67], [1, 2048, 9], [33, 128, 64], [8, 256, 8], [13, 160, 24]];

/// Quantised products are the products of the values that the blocks stand for, up to the rounding of the activations
/// to 8 bits, which a back end may do: by at most half a step of the block's largest magnitude over 127.
pub async fn quantised_products_match_their_own_values<C: Compute>(c: &mut C) {
    let mut noise = Noise::new(4);
    for format in [WeightFormat::Q8_0, WeightFormat::Q4_0] {
        for [n, cols, rows] in QUANTISED {
            for scale in [1.0, 0.0, 1e15, 1e-20] {
                let x = noise.values((n * cols) as usize, scale);
                let (dtype, bytes, w) = stored_blocks(&mut noise, format, (rows * cols) as usize / BLOCK);
                let got = product(c, format, dtype, [cols, rows], &bytes, &x).await;
                let (want, magnitude) = reference::matmul(cols as usize, &reference::wide(&x), &reference::wide(&w));
                let steps = |x: &[f32]| -> Vec<f64> {
                    let half = |x: &[f32]| x.iter().fold(0.0_f32, |m, x| m.max(x.abs())) / 254.0;
                    x.chunks(BLOCK).flat_map(|x| [f64::from(half(x)); BLOCK]).collect()
                };
                let (_, rounding) = reference::matmul(cols as usize, &steps(&x), &reference::wide(&w));
                for (i, (got, want)) in got.iter().zip(&want).enumerate() {
                    let error = (f64::from(*got) - want).abs();
                    let allowed = 1.001 * rounding[i] + TOLERANCE * magnitude[i] + SUBNORMAL;
                    let shape = [n, cols, rows];
                    assert!(error <= allowed, "{format:?} {shape:?} of {scale}: {i} is {got}, not {want}");
                }
            }
        }
    }
}

/// The integer kernels against f64 arithmetic on the values that quantised weights and quantised activations stand
/// for. Of back ends that quantise activations by the rule of the CPU's.
pub async fn integer_products_are_exact<C: Compute>(c: &mut C) {
    let mut noise = Noise::new(6);
    for format in [WeightFormat::Q8_0, WeightFormat::Q4_0] {
        for [n, cols, rows] in QUANTISED {
            for scale in [1.0, 0.0, 1e30, 1e-25, 1e-35] {
                let mut x = noise.values((n * cols) as usize, scale);
                // The extremes of what the sums must hold: every product of a block at its largest.
                x[..BLOCK].fill(scale);
                let (dtype, mut bytes, _) = stored_blocks(&mut noise, format, (rows * cols) as usize / BLOCK);
                let block = if format == WeightFormat::Q4_0 { 18 } else { 34 };
                bytes[2..block].fill(if format == WeightFormat::Q4_0 { 0 } else { 0x80 });
                let w = cdi_model::quant::dequantised(dtype, &bytes);
                let got = product(c, format, dtype, [cols, rows], &bytes, &x).await;
                let x = rounded_activations(&x);
                let (want, magnitude) = reference::matmul(cols as usize, &x, &reference::wide(&w));
                assert_close(&format!("{format:?} {:?} of {scale}", [n, cols, rows]), &got, &want, &magnitude);
            }
        }
    }
}

/// Activations that are not finite give results that are not, and only in their own rows.
pub async fn what_is_not_finite_stays_in_its_row<C: Compute>(c: &mut C) {
    let w = Noise::new(7).values(64 * 9, 1.0);
    for format in FORMATS {
        let loaded = matrix(c, 64, &w, format);
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = Noise::new(8).values(64 * 3, 1.0);
            let clean = apply(c, 64, &x, |c, x| c.matmul(x, &loaded)).await;
            x[64 + 40] = bad;
            let got = apply(c, 64, &x, |c, x| c.matmul(x, &loaded)).await;
            assert!(got[9..18].iter().all(|v| !v.is_finite()), "{format:?}: {bad} gave {:?}", &got[9..18]);
            assert_eq!((&got[..9], &got[18..]), (&clean[..9], &clean[18..]), "{format:?}");
        }
    }
}

async fn product<C: Compute>(
    c: &mut C,
    format: WeightFormat,
    dtype: DType,
    [cols, rows]: [u32; 2],
    bytes: &[u8],
    x: &[f32],
) -> Vec<f32> {
    let mut loaded = c.new_matrix(MatrixSpec { rows, cols, format }).expect("a matrix");
    c.write_rows(&mut loaded, 0, dtype, bytes).expect("its rows");
    apply(c, cols, x, |c, x| c.matmul(x, &loaded)).await
}

/// What the rule of the CPU back end keeps of activations.
fn rounded_activations(x: &[f32]) -> Vec<f64> {
    let block = |x: &[f32]| {
        let largest = x.iter().fold(0.0_f32, |m, x| m.max(x.abs()));
        let (scale, inverse) = if largest < 7.888_609e-31 { (0.0, 0.0) } else { (largest / 127.0, 127.0 / largest) };
        x.iter().map(move |x| f64::from(scale) * f64::from((x * inverse).round_ties_even())).collect::<Vec<_>>()
    };
    x.chunks(BLOCK).flat_map(block).collect()
}
