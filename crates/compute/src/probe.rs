//! Measured speed, so that back ends are ranked by what they do and not by what they are called.

use cdi_model::compute::{Compute, ComputeError, MatrixSpec, WeightFormat};

/// What a back end was measured to do.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Probe {
    /// Bytes of Q8_0 weights read in a matvec, in GB (10^9) a second. Decode is bound by it.
    pub matvec_gb_s: f64,
    /// Shortest time from the first command of a tiny step to its result, in milliseconds.
    pub step_ms: f64,
}

const COLS: u32 = 4096;
/// A matrix of 4.5 MB: tens of milliseconds on the slowest software adapter that was measured.
const SMALL_ROWS: u32 = 1024;
/// A matrix of 71 MB, beyond the caches of most GPUs, for those that are fast enough.
const LARGE_ROWS: u32 = 16 * SMALL_ROWS;
/// From this speed on the large matrix takes less than 40 ms.
const FAST_GB_S: f64 = 2.0;
/// Time to fill, so that a clock in steps of 0.1 ms (browsers) counts for little.
const ENOUGH_MS: f64 = 30.0;
/// Most repetitions in one submission.
const MAX_REPEATS: u32 = 256;

impl Probe {
    /// Measures a back end; takes about a tenth of a second. `now_ms` is a steady clock in milliseconds.
    ///
    /// # Errors
    /// As the operations: [`ComputeError::OutOfMemory`] or [`ComputeError::DeviceLost`].
    pub async fn measure<C: Compute>(c: &mut C, now_ms: impl Fn() -> f64) -> Result<Self, ComputeError> {
        let x = c.upload(COLS, &[0.5; COLS as usize])?;
        // The first step compiles what it needs.
        c.read(&x).await?;
        let mut step_ms = f64::INFINITY;
        for _ in 0..8 {
            let start = now_ms();
            let row = c.rows(&x, 0, 1)?;
            c.read(&row).await?;
            step_ms = step_ms.min(now_ms() - start);
        }
        let small = matvec_gb_s(c, &x, SMALL_ROWS, &now_ms).await?;
        let matvec_gb_s = if small > FAST_GB_S { matvec_gb_s(c, &x, LARGE_ROWS, &now_ms).await? } else { small };
        Ok(Self { matvec_gb_s, step_ms })
    }
}

/// Speed by the slope between two numbers of repetitions, which leaves out what a submission costs.
async fn matvec_gb_s<C: Compute>(
    c: &mut C,
    x: &C::Tensor,
    rows: u32,
    now_ms: &impl Fn() -> f64,
) -> Result<f64, ComputeError> {
    let w = c.new_matrix(MatrixSpec { rows, cols: COLS, format: WeightFormat::Q8_0 })?;
    let bytes = f64::from(rows) * f64::from(COLS) * 34.0 / 32.0;
    matvec_ms(c, x, &w, 1, now_ms).await?;
    let once_ms = matvec_ms(c, x, &w, 1, now_ms).await?;
    let mut repeats = 2;
    loop {
        let ms = matvec_ms(c, x, &w, repeats, now_ms).await?;
        if ms >= ENOUGH_MS || repeats >= MAX_REPEATS {
            // A noisy clock may give no slope; the whole time is then the careful figure.
            let slope_ms = (ms - once_ms) / f64::from(repeats - 1);
            let one_ms = if slope_ms > 0.0 { slope_ms } else { ms / f64::from(repeats) };
            return Ok(bytes / one_ms.max(1e-3) / 1e6);
        }
        repeats *= 2;
    }
}

async fn matvec_ms<C: Compute>(
    c: &mut C,
    x: &C::Tensor,
    w: &C::Matrix,
    repeats: u32,
    now_ms: &impl Fn() -> f64,
) -> Result<f64, ComputeError> {
    let start = now_ms();
    let mut y = c.matmul(x, w)?;
    for _ in 1..repeats {
        y = c.matmul(x, w)?;
    }
    c.read(&y).await?;
    Ok(now_ms() - start)
}
