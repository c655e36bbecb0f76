//! What every back end must do, as test support: each case is an `async fn` over any [`Compute`] that panics
//! where the back end is wrong. [`conformance_cases!`](crate::conformance_cases) lists them, so that no back end's
//! tests forget one.
//!
//! References are computed in f64 and never by a back end. A result may differ from its reference by
//! [`TOLERANCE`] of the magnitude of what was added up; equality of bits is asked where the trait promises it.

mod attention;
mod errors;
mod fingerprint;
mod layer;
mod noise;
mod reference;
mod rowwise;
mod weights;

use cdi_model::compute::{Compute, MatrixSpec, WeightFormat};
use cdi_types::manifest::DType;

pub use attention::{attention_matches, attention_overwrites};
pub use errors::{huge_matrices_are_refused, memory_is_counted, mismatches_are_shape_errors};
pub use fingerprint::{CPU_V2_FINGERPRINT, fingerprint};
pub use layer::{layer_matches, layers_are_batch_invariant, prefill_may_be_split, rows_are_batch_invariant};
pub use noise::Noise;
pub use rowwise::{
    activations_match, add_and_rows_match, layer_norm_matches, rms_norm_matches, rope_matches, softmax_matches,
    softmax_of_extremes,
};
pub use weights::{
    embed_widens_every_storage_type, four_bits_lose_no_more_than_they_must, integer_products_are_exact, matmul_matches,
    quantised_products_match_their_own_values, rows_load_in_parts, what_is_not_finite_stays_in_its_row,
};

/// Calls a macro with the names of all cases.
#[macro_export]
macro_rules! conformance_cases {
    ($each:ident) => {
        $each! {
            embed_widens_every_storage_type,
            rows_load_in_parts,
            matmul_matches,
            four_bits_lose_no_more_than_they_must,
            quantised_products_match_their_own_values,
            rms_norm_matches,
            layer_norm_matches,
            rope_matches,
            activations_match,
            softmax_matches,
            softmax_of_extremes,
            add_and_rows_match,
            attention_matches,
            attention_overwrites,
            layer_matches,
            rows_are_batch_invariant,
            layers_are_batch_invariant,
            prefill_may_be_split,
            mismatches_are_shape_errors,
            huge_matrices_are_refused,
            memory_is_counted,
        }
    };
}

/// Largest error of a result, as a part of the sum of the magnitudes that were added up to make it.
///
/// Empirical: f32 sums of some thousand terms in any order stay below a third of it.
pub const TOLERANCE: f64 = 2e-6;

/// What a result near the subnormal range of f32 (below 1.2e-38) may be off: a back end may flush subnormals, also
/// in the middle of a computation.
const SUBNORMAL: f64 = 1e-36;

/// Compares with a reference; `magnitude` is the sum of the magnitudes that were added up, element by element.
#[track_caller]
fn assert_close(what: &str, got: &[f32], want: &[f64], magnitude: &[f64]) {
    assert_eq!(got.len(), want.len(), "{what}: number of elements");
    for (i, ((got, want), magnitude)) in got.iter().zip(want).zip(magnitude).enumerate() {
        let error = (f64::from(*got) - want).abs();
        let allowed = TOLERANCE * magnitude.max(want.abs()) + SUBNORMAL;
        // Written so that a NaN fails.
        assert!(error <= allowed, "{what}: element {i} is {got}, not {want} (off by {error:e}, allowed {allowed:e})");
    }
}

/// As [`assert_close`], for elements that are computed from themselves alone.
#[track_caller]
fn assert_each_close(what: &str, got: &[f32], want: &[f64]) {
    assert_close(what, got, want, want);
}

/// Compares bit by bit.
#[track_caller]
fn assert_same_bits(what: &str, a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "{what}: number of elements");
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert_eq!(a.to_bits(), b.to_bits(), "{what}: element {i} is {a} and {b}");
    }
}

/// A loaded matrix of the given f32 elements.
fn matrix<C: Compute>(c: &mut C, cols: u32, values: &[f32], format: WeightFormat) -> C::Matrix {
    let rows = u32::try_from(values.len()).expect("a small matrix") / cols;
    let mut matrix = c.new_matrix(MatrixSpec { rows, cols, format }).expect("a matrix");
    c.write_rows(&mut matrix, 0, DType::F32, &le_bytes(values)).expect("its rows");
    matrix
}

fn le_bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// Uploads rows and reads what `op` makes of them.
async fn apply<C: Compute>(
    c: &mut C,
    cols: u32,
    x: &[f32],
    op: impl FnOnce(&mut C, &C::Tensor) -> Result<C::Tensor, cdi_model::compute::ComputeError>,
) -> Vec<f32> {
    let x = c.upload(cols, x).expect("an upload");
    let result = op(c, &x).expect("an operation");
    c.read(&result).await.expect("a result")
}
