//! Matrix products: three pairs of kernels with one order of sums, chosen by the number of rows.

use cdi_model::compute::{ComputeError, MatrixSpec};

use crate::gpu::kernel::Kernel;
use crate::gpu::recorder::{Grid, MAX_GROUPS, linear_grid};
use crate::gpu::tensor::Tensor;
use crate::gpu::weights::{Matrix, PartData, scale_stride};
use crate::gpu::{Gpu, ensure};

/// A pair of kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Path {
    /// One row.
    Vector,
    /// Tiles of 16 rows by 16 outputs.
    Tile,
    /// Tiles of 32 rows by 64 outputs.
    Wide,
}

/// Outputs of a workgroup of the vector kernels.
const VECTOR_OUTPUTS: u32 = 4;

/// Which paths give the same bits as [`Path::Tile`] on this device, by the self-test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Paths {
    pub(crate) vector: bool,
    pub(crate) wide: bool,
}

impl Paths {
    /// The path for `rows` rows. The wide kernels compute 32 rows at least, so few rows are better off in small tiles.
    pub(crate) fn choose(self, rows: u32) -> Path {
        match rows {
            1 if self.vector => Path::Vector,
            17.. if self.wide => Path::Wide,
            _ => Path::Tile,
        }
    }
}

impl Gpu {
    /// `x · wᵀ` by a given path; [`Path::Vector`] takes one row.
    pub(crate) fn matmul_by(&mut self, path: Path, x: &Tensor, w: &Matrix) -> Result<Tensor, ComputeError> {
        let MatrixSpec { rows: outputs, cols, .. } = w.spec;
        ensure(x.cols == cols, || format!("matmul of {:?} by [{outputs}, {cols}]", x.shape()))?;
        let out = self.tensor(x.rows, outputs)?;
        for part in &w.parts {
            let grid = match path {
                Path::Vector => linear_grid(part.rows.div_ceil(VECTOR_OUTPUTS)),
                Path::Tile => [part.rows.div_ceil(16), x.rows.div_ceil(16)],
                Path::Wide => [part.rows.div_ceil(64), x.rows.div_ceil(32)],
            };
            check_grid(grid)?;
            let (f32_kernel, q8_kernel, mut words) = match path {
                Path::Vector => (Kernel::MatvecF32, Kernel::MatvecQ8, vec![cols, part.rows, part.first]),
                Path::Tile => (Kernel::MatmulF32, Kernel::MatmulQ8, vec![x.rows, cols, part.rows, outputs, part.first]),
                Path::Wide => {
                    (Kernel::MatmulWideF32, Kernel::MatmulWideQ8, vec![x.rows, cols, part.rows, outputs, part.first])
                }
            };
            match &part.data {
                PartData::F32(w) => self.dispatch(f32_kernel, &words, &[&x.values, w, &out.values], grid),
                PartData::Q8 { quants, scales } => {
                    words.push(scale_stride(cols));
                    self.dispatch(q8_kernel, &words, &[&x.values, quants, scales, &out.values], grid);
                }
            }
        }
        Ok(out)
    }
}

/// Refuses what one dispatch cannot hold: the two dimensions mean rows and outputs and cannot be folded.
fn check_grid(grid: Grid) -> Result<(), ComputeError> {
    if grid.iter().all(|groups| *groups <= MAX_GROUPS) {
        return Ok(());
    }
    Err(ComputeError::Unsupported(format!("a product of {grid:?} tiles; at most {MAX_GROUPS} a dimension")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_disagree_are_not_taken() {
        let all = Paths { vector: true, wide: true };
        assert_eq!(
            [1, 2, 16, 17, 500].map(|n| all.choose(n)),
            [Path::Vector, Path::Tile, Path::Tile, Path::Wide, Path::Wide]
        );
        let none = Paths { vector: false, wide: false };
        assert!([1, 2, 17].iter().all(|n| none.choose(*n) == Path::Tile));
    }
}
