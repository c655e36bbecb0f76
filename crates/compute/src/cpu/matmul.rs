//! Matrix products: chooses the kernel by the format of the weights.

use std::array;

use cdi_model::compute::ComputeError;

use super::buffer::Scratch;
use super::dot::{F32Row, dots};
use super::int8::{Multiply, Product};
use super::variant::Variant;
use super::weights::{Matrix, Weights};

/// Activation rows that share one pass over a row of f32 weights. Empirical: of 1, 2, 4 and 8 with 1 to 4 weight rows,
/// on 1536 x 576 with 64 rows, 4 by 1 was within noise of the best in a browser.
const TILE: usize = 4;

/// `x · wᵀ` for several matrices of `cols` columns: `x` is `[n, cols]`, each `out` `[n, w.rows]`. Rows of `x` are
/// quantised once for matrices of one format.
pub(super) fn matmul<const N: usize>(
    variant: Variant,
    scratch: &mut Scratch,
    x: &[f32],
    cols: usize,
    products: [(&Matrix, &mut [f32]); N],
) -> Result<(), ComputeError> {
    let (mut eights, mut fours) = (Vec::with_capacity(N), Vec::with_capacity(N));
    for (matrix, out) in products {
        let outputs = matrix.spec.rows as usize;
        match &matrix.weights {
            Weights::F32(w) => f32s(x, cols, w, out),
            Weights::Q8(w) => eights.push(Product { w, out, outputs }),
            Weights::Q4(w) => fours.push(Product { w, out, outputs }),
        }
    }
    if !eights.is_empty() {
        Multiply::multiply(variant, scratch, x, cols, &mut eights)?;
    }
    if !fours.is_empty() {
        Multiply::multiply(variant, scratch, x, cols, &mut fours)?;
    }
    Ok(())
}

/// Every row of weights is read once for a tile of activation rows.
///
/// Not inlined: V8 replaces no running WebAssembly function by its optimised version, so a kernel must be called anew.
#[inline(never)]
fn f32s(x: &[f32], cols: usize, weights: &[f32], out: &mut [f32]) {
    let n = x.len() / cols;
    let outputs = out.len() / n;
    let x = |row: usize| F32Row(&x[row * cols..][..cols]);
    let tiled = n - n % TILE;
    for (output, w) in weights.chunks_exact(cols).enumerate() {
        let w = F32Row(w);
        for row in (0..tiled).step_by(TILE) {
            let sums = dots(array::from_fn::<_, TILE, _>(|t| x(row + t)), w);
            for (t, sum) in sums.into_iter().enumerate() {
                out[(row + t) * outputs + output] = sum;
            }
        }
        for row in tiled..n {
            let [sum] = dots([x(row)], w);
            out[row * outputs + output] = sum;
        }
    }
}
