//! Operations on rows and elements.

use cdi_model::compute::{Compute, Rope};

use super::{Noise, SUBNORMAL, TOLERANCE, apply, assert_close, assert_each_close, assert_same_bits, reference};

/// `[rows, cols]` of tensors: single elements, odd sizes, more than a workgroup.
const SHAPES: [[usize; 2]; 7] = [[1, 1], [1, 5], [3, 33], [2, 64], [7, 100], [1, 1000], [65, 576]];

fn cols_of(cols: usize) -> u32 {
    u32::try_from(cols).expect("a small shape")
}

/// RMSNorm, also of zeros, of one large element and of tiny rows.
pub async fn rms_norm_matches<C: Compute>(c: &mut C) {
    let mut noise = Noise::new(10);
    for [rows, cols] in SHAPES {
        for scale in [1.0, 0.0, 1e4, 1e-12] {
            for eps in [1e-5_f32, 1e-6] {
                let mut x = noise.values(rows * cols, scale);
                x[0] *= 100.0;
                let weight = noise.values(cols, 2.0);
                let loaded = c.new_vector(&weight).expect("a vector");
                let got = apply(c, cols_of(cols), &x, |c, x| c.rms_norm(x, &loaded, eps)).await;
                let want = reference::rms_norm(&reference::wide(&x), &reference::wide(&weight), f64::from(eps));
                assert_each_close(&format!("rms_norm [{rows}, {cols}] of {scale}"), &got, &want);
            }
        }
    }
}

/// LayerNorm, also of zeros and of constant rows, whose variance is 0.
pub async fn layer_norm_matches<C: Compute>(c: &mut C) {
    let mut noise = Noise::new(11);
    for [rows, cols] in SHAPES {
        for (scale, offset) in [(1.0, 0.0), (0.0, 0.0), (0.0, 1.0), (100.0, 3.0), (1.0, 4.0)] {
            let x: Vec<f32> = noise.values(rows * cols, scale).iter().map(|x| x + offset).collect();
            let (weight, bias) = (noise.values(cols, 2.0), noise.values(cols, 1.0));
            let (w, b) = (c.new_vector(&weight).expect("a vector"), c.new_vector(&bias).expect("a vector"));
            let got = apply(c, cols_of(cols), &x, |c, x| c.layer_norm(x, &w, &b, 1e-5)).await;
            let wide = reference::wide;
            let (want, magnitude) = reference::layer_norm(&wide(&x), &wide(&weight), &wide(&bias), f64::from(1e-5_f32));
            assert_close(&format!("layer_norm [{rows}, {cols}] of {scale} + {offset}"), &got, &want, &magnitude);
        }
    }
}

/// Rotation at several positions and head sizes; at position 0 it changes nothing.
///
/// A back end may compute the angle in f32, so the error grows with the position.
pub async fn rope_matches<C: Compute>(c: &mut C) {
    let mut noise = Noise::new(12);
    for (head_dim, heads, rows) in [(2_u32, 1_u32, 1_usize), (6, 3, 5), (64, 9, 3), (128, 1, 9)] {
        for (start, theta) in [(0, 10_000.0), (1, 10_000.0), (500, 500_000.0), (8_191, 10_000.0)] {
            let cols = (head_dim * heads) as usize;
            let x = noise.values(rows * cols, 2.0);
            let rope = Rope { head_dim, theta, start };
            let mut rotated = c.upload(cols_of(cols), &x).expect("an upload");
            c.rope(&mut rotated, rope).expect("a rotation");
            let got = c.read(&rotated).await.expect("a result");
            let (want, mut magnitude) = reference::rope(cols, &reference::wide(&x), rope);
            let last = f64::from(start) + rows as f64;
            magnitude.iter_mut().for_each(|m| *m *= 1.0 + last / 8.0);
            assert_close(&format!("rope {rope:?} of {heads} heads"), &got, &want, &magnitude);
            if start == 0 {
                assert_same_bits("rope at position 0", &got[..cols], &x[..cols]);
            }
        }
    }
}

/// SiLU and GELU from -∞ to ∞.
pub async fn activations_match<C: Compute>(c: &mut C) {
    let mut x: Vec<f32> = (-400_i16..=400).map(|i| f32::from(i) / 20.0).collect();
    x.extend([1e-30, -1e-30, 1e4, -1e4, 87.0, -87.0, 89.0, -89.0, 1e30, -1e30]);
    let up = Noise::new(13).values(x.len(), 2.0);
    let cols = cols_of(x.len());
    let loaded = c.upload(cols, &up).expect("an upload");
    let got = apply(c, cols, &x, |c, x| c.silu_mul(x, &loaded)).await;
    let want: Vec<f64> = x.iter().zip(&up).map(|(x, up)| reference::silu(f64::from(*x)) * f64::from(*up)).collect();
    // e^-x of a large x has the relative error of x itself.
    let magnitude: Vec<f64> = x.iter().zip(&want).map(|(x, want)| want.abs() * (1.0 + f64::from(x.abs()))).collect();
    assert_close("silu_mul", &got, &want, &magnitude);

    // x² overflows beyond 1e19, which no activation reaches.
    let x: Vec<f32> = x.into_iter().filter(|x| x.abs() < 1e10).collect();
    let got = apply(c, cols_of(x.len()), &x, C::gelu).await;
    let want: Vec<f64> = x.iter().map(|x| reference::gelu(f64::from(*x))).collect();
    // 1 + tanh cancels for negative x.
    let magnitude: Vec<f64> = x.iter().map(|x| f64::from(x.abs())).collect();
    assert_close("gelu", &got, &want, &magnitude);
}

/// Softmax of ordinary rows.
pub async fn softmax_matches<C: Compute>(c: &mut C) {
    let mut noise = Noise::new(14);
    for [rows, cols] in SHAPES {
        let x = noise.values(rows * cols, 10.0);
        let got = apply(c, cols_of(cols), &x, C::softmax).await;
        let want = reference::softmax(cols, &reference::wide(&x));
        // e^x has the error of x times its magnitude, here up to 20.
        let magnitude: Vec<f64> = want.iter().map(|p| 4.0 * p).collect();
        assert_close(&format!("softmax [{rows}, {cols}]"), &got, &want, &magnitude);
    }
}

/// Softmax of rows whose powers would overflow or vanish without the shift.
pub async fn softmax_of_extremes<C: Compute>(c: &mut C) {
    let cases: [(&[f32], &[f32]); 6] = [
        (&[1e4, 1e4], &[0.5, 0.5]),
        (&[1e30, 0.0, -1e30], &[1.0, 0.0, 0.0]),
        (&[-1e4, -1e4, -1e4, -1e4], &[0.25; 4]),
        (&[-1e30], &[1.0]),
        (&[0.0; 8], &[0.125; 8]),
        (&[88.0, 188.0], &[0.0, 1.0]),
    ];
    for (x, want) in cases {
        let got = apply(c, cols_of(x.len()), x, C::softmax).await;
        for (got, want) in got.iter().zip(want) {
            let error = f64::from((got - want).abs());
            assert!(error <= TOLERANCE + SUBNORMAL, "softmax of {x:?}: {got}, not {want}");
        }
    }
}

/// Addition is exact to the last bit; rows are copies; upload and read give back what they got.
pub async fn add_and_rows_match<C: Compute>(c: &mut C) {
    let mut noise = Noise::new(15);
    for [rows, cols] in SHAPES {
        let (x, y) = (noise.values(rows * cols, 1.0), noise.values(rows * cols, 1.0));
        let (mut a, b) = (c.upload(cols_of(cols), &x).expect("an upload"), c.upload(cols_of(cols), &y).expect("one"));
        assert_eq!(c.shape(&a), [cols_of(rows), cols_of(cols)]);
        assert_same_bits("upload and read", &c.read(&a).await.expect("a result"), &x);
        c.add(&mut a, &b).expect("a sum");
        let sum = c.read(&a).await.expect("a result");
        assert_same_bits("add", &sum, &x.iter().zip(&y).map(|(x, y)| x + y).collect::<Vec<_>>());
        assert_same_bits("the other operand", &c.read(&b).await.expect("a result"), &y);
        for (first, count) in [(0, rows), (rows - 1, 1), (rows / 2, rows - rows / 2)] {
            let part = c.rows(&a, cols_of(first), cols_of(count)).expect("rows");
            assert_eq!(c.shape(&part), [cols_of(count), cols_of(cols)]);
            let part = c.read(&part).await.expect("a result");
            assert_same_bits("rows", &part, &sum[first * cols..][..count * cols]);
        }
    }
}
