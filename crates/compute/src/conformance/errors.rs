//! Operands that do not fit, and memory.

use cdi_model::compute::{Attention, CacheSpec, Compute, ComputeError, MatrixSpec, Rope, WeightFormat};
use cdi_types::manifest::DType;

use super::{Noise, matrix};

#[track_caller]
fn assert_shape<T>(what: &str, result: Result<T, ComputeError>) {
    let error = result.err();
    assert!(matches!(error, Some(ComputeError::Shape(_))), "{what}: expected a shape error, got {error:?}");
}

/// Operands that do not fit together are refused by every operation.
pub async fn mismatches_are_shape_errors<C: Compute>(c: &mut C) {
    loading(c);
    operations(c);
    attention(c);
}

fn loading<C: Compute>(c: &mut C) {
    let spec = |rows, cols, format| MatrixSpec { rows, cols, format };
    for format in [WeightFormat::F32, WeightFormat::Q8_0, WeightFormat::Q4_0] {
        assert_shape("a matrix without rows", c.new_matrix(spec(0, 32, format)));
        assert_shape("a matrix without columns", c.new_matrix(spec(1, 0, format)));
    }
    assert_shape("half a block of 4 bits", c.new_matrix(spec(1, 16, WeightFormat::Q4_0)));
    assert_shape("half a block", c.new_matrix(spec(1, 16, WeightFormat::Q8_0)));
    assert_shape("a block and a bit", c.new_matrix(spec(1, 33, WeightFormat::Q8_0)));
    assert_shape("an empty vector", c.new_vector(&[]));
    for [kv_heads, head_dim, positions] in [[0, 2, 2], [2, 0, 2], [2, 2, 0]] {
        assert_shape("an empty cache", c.new_cache(CacheSpec { kv_heads, head_dim, positions }));
    }
    let mut odd = c.new_matrix(spec(3, 5, WeightFormat::F32)).expect("a matrix");
    assert_shape("Q8_0 into rows of 5", c.write_rows(&mut odd, 0, DType::Q8_0, &[0; 34]));
    let mut w = c.new_matrix(spec(3, 32, WeightFormat::F32)).expect("a matrix");
    let row = [0; 128];
    for (what, first, dtype, bytes) in [
        ("no rows", 0, DType::F32, &row[..0]),
        ("part of a row", 0, DType::F32, &row[..127]),
        ("part of a block", 0, DType::Q8_0, &row[..33]),
        ("beyond the end", 3, DType::F32, &row[..]),
        ("across the end", 2, DType::F16, &row[..]),
        ("far beyond the end", u32::MAX, DType::F32, &row[..]),
    ] {
        assert_shape(what, c.write_rows(&mut w, first, dtype, bytes));
    }
    assert_shape("no columns", c.upload(0, &[1.0]));
    assert_shape("no elements", c.upload(2, &[]));
    assert_shape("part of a row", c.upload(2, &[1.0; 3]));
}

fn operations<C: Compute>(c: &mut C) {
    let mut noise = Noise::new(50);
    let w = matrix(c, 32, &noise.values(96, 1.0), WeightFormat::F32);
    for ids in [&[][..], &[3], &[0, u32::MAX]] {
        assert_shape("ids", c.embed(&w, ids));
    }
    let mut x = c.upload(30, &noise.values(60, 1.0)).expect("an upload");
    let other_rows = c.upload(30, &noise.values(90, 1.0)).expect("an upload");
    let other_cols = c.upload(20, &noise.values(60, 1.0)).expect("an upload");
    let (short, fit) = (c.new_vector(&[1.0; 29]).expect("a vector"), c.new_vector(&[1.0; 30]).expect("a vector"));
    assert_shape("matmul", c.matmul(&x, &w));
    assert_shape("rms_norm", c.rms_norm(&x, &short, 1e-5));
    assert_shape("layer_norm's weight", c.layer_norm(&x, &short, &fit, 1e-5));
    assert_shape("layer_norm's bias", c.layer_norm(&x, &fit, &short, 1e-5));
    for other in [&other_rows, &other_cols] {
        assert_shape("silu_mul", c.silu_mul(&x, other));
        assert_shape("add", c.add(&mut x, other));
    }
    for head_dim in [0, 4, 15, 60] {
        assert_shape("rope", c.rope(&mut x, Rope { head_dim, theta: 1e4, start: 0 }));
    }
    for (first, count) in [(0, 0), (0, 3), (2, 1), (1, u32::MAX), (u32::MAX, 1)] {
        assert_shape("rows", c.rows(&x, first, count));
    }
}

fn attention<C: Compute>(c: &mut C) {
    let shape = Attention { heads: 4, kv_heads: 2, head_dim: 8, start: 0 };
    let spec = CacheSpec { kv_heads: 2, head_dim: 8, positions: 6 };
    let mut cache = c.new_cache(spec).expect("a cache");
    let mut other = c.new_cache(CacheSpec { kv_heads: 4, ..spec }).expect("a cache");
    let mut upload = |cols: u32, rows: usize| c.upload(cols, &vec![0.5; cols as usize * rows]).expect("an upload");
    let (q, kv, kv_short, kv_wide) = (upload(32, 3), upload(16, 3), upload(16, 2), upload(32, 3));
    for bad in [
        Attention { start: 4, ..shape },
        Attention { start: u32::MAX, ..shape },
        Attention { heads: 3, ..shape },
        Attention { heads: 0, ..shape },
        Attention { kv_heads: 0, ..shape },
        Attention { kv_heads: 3, ..shape },
        Attention { head_dim: 4, ..shape },
        Attention { head_dim: 0, ..shape },
    ] {
        assert_shape(&format!("{bad:?}"), c.attention(&q, &kv, &kv, &mut cache, bad));
    }
    assert_shape("fewer keys", c.attention(&q, &kv_short, &kv, &mut cache, shape));
    assert_shape("fewer values", c.attention(&q, &kv, &kv_short, &mut cache, shape));
    assert_shape("wide values", c.attention(&q, &kv, &kv_wide, &mut cache, shape));
    assert_shape("another cache", c.attention(&q, &kv, &kv, &mut other, shape));
    assert!(c.attention(&q, &kv, &kv, &mut cache, Attention { start: 3, ..shape }).is_ok(), "the last positions fit");
}

/// A matrix or cache that no machine can hold is an error, not an abort.
pub async fn huge_matrices_are_refused<C: Compute>(c: &mut C) {
    let before = c.memory_bytes();
    for format in [WeightFormat::F32, WeightFormat::Q8_0, WeightFormat::Q4_0] {
        let result = c.new_matrix(MatrixSpec { rows: u32::MAX, cols: u32::MAX - 31, format }).err();
        assert!(matches!(result, Some(ComputeError::OutOfMemory { .. })), "{result:?}");
    }
    let spec = CacheSpec { kv_heads: u32::MAX, head_dim: u32::MAX, positions: u32::MAX };
    let result = c.new_cache(spec).err();
    assert!(matches!(result, Some(ComputeError::OutOfMemory { .. })), "{result:?}");
    assert_eq!(c.memory_bytes(), before, "a refused allocation is not counted");
}

/// Weights, caches and activations are counted while they live, by at least their size.
pub async fn memory_is_counted<C: Compute>(c: &mut C) {
    let before = c.memory_bytes();
    let held = {
        let w = matrix(c, 64, &[1.0; 64 * 64], WeightFormat::F32);
        let cache = c.new_cache(CacheSpec { kv_heads: 2, head_dim: 8, positions: 16 }).expect("a cache");
        let x = c.upload(64, &[1.0; 64]).expect("an upload");
        let y = c.matmul(&x, &w).expect("a product");
        assert_eq!(c.read(&y).await.expect("a result"), [64.0; 64]);
        let held = c.memory_bytes() - before;
        drop((w, cache, x, y));
        held
    };
    let least = 4 * (64 * 64 + 2 * 2 * 8 * 16 + 64 + 64);
    assert!(held >= least, "{held} bytes counted for at least {least}");
    assert!(c.memory_bytes() < before + held, "freed memory is no longer counted");
}
