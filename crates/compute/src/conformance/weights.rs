//! Loading of weights, embedding and matrix products.

use cdi_model::compute::{Compute, MatrixSpec, WeightFormat};
use cdi_types::manifest::DType;
use half::{bf16, f16};

use super::{Noise, apply, assert_close, le_bytes, matrix, reference};

const FORMATS: [WeightFormat; 2] = [WeightFormat::F32, WeightFormat::Q8_0];

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

/// Elements of a Q8_0 block.
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
    ];
    let ids = [4, 0, 1, 2, 3, 0];
    for (dtype, bytes, values) in stored {
        for format in FORMATS {
            let mut table = c.new_matrix(MatrixSpec { rows: 5, cols: COLS, format }).expect("a table");
            c.write_rows(&mut table, 0, dtype, &bytes).expect("its rows");
            let kept = match (format, dtype) {
                (WeightFormat::F32, _) | (_, DType::Q8_0) => values.clone(),
                (WeightFormat::Q8_0, _) => quantised(&values),
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

/// Q8_0 products are the products of the values that the blocks stand for.
pub async fn q8_0_matches_its_own_values<C: Compute>(c: &mut C) {
    let mut noise = Noise::new(4);
    for [n, cols, rows] in [[1, 32, 1], [3, 64, 5], [5, 96, 33], [2, 576, 67], [1, 2048, 9], [33, 128, 64]] {
        let x = noise.values((n * cols) as usize, 1.0);
        let (bytes, w) = stored_q8_0(&mut noise, (rows * cols) as usize / BLOCK);
        let spec = MatrixSpec { rows, cols, format: WeightFormat::Q8_0 };
        let mut loaded = c.new_matrix(spec).expect("a matrix");
        c.write_rows(&mut loaded, 0, DType::Q8_0, &bytes).expect("its rows");
        let got = apply(c, cols, &x, |c, x| c.matmul(x, &loaded)).await;
        let (want, magnitude) = reference::matmul(cols as usize, &reference::wide(&x), &reference::wide(&w));
        assert_close(&format!("Q8_0 matmul [{n}, {cols}] by [{rows}, {cols}]"), &got, &want, &magnitude);
    }
}
