//! Matrix products: every weight row is read once for a tile of activation rows.

use std::array;

use super::dot::{F32Row, Row, dots};
use super::weights::{Matrix, Rows};

/// Activation rows that share one pass over a weight row. Empirical: of 1, 2, 4 and 8 with 1 to 4 weight rows, on
/// 1536 x 576 with 64 rows, 4 by 1 was within noise of the best in a browser for both formats.
const TILE: usize = 4;

/// `out = x · wᵀ`; `x` is `[n, w.cols]` and `out` `[n, w.rows]`.
pub(super) fn matmul(x: &[f32], w: &Matrix, out: &mut [f32]) {
    let cols = w.spec.cols as usize;
    match w.rows() {
        Rows::F32(values) => by_weight_row(x, cols, |row| Rows::f32(values, cols, row), out),
        Rows::Q8 { quants, scales } => by_weight_row(x, cols, |row| Rows::q8(quants, scales, cols, row), out),
    }
}

/// Not inlined: V8 replaces no running WebAssembly function by its optimised version, so a kernel must be called anew.
#[inline(never)]
fn by_weight_row<W: Row>(x: &[f32], cols: usize, weight_row: impl Fn(usize) -> W, out: &mut [f32]) {
    let n = x.len() / cols;
    let outputs = out.len() / n;
    let x = |row: usize| F32Row(&x[row * cols..][..cols]);
    let tiled = n - n % TILE;
    for output in 0..outputs {
        let w = weight_row(output);
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
