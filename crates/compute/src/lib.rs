//! Executes a shard: the back ends of [`cdi_model::compute::Compute`].
//!
//! - [`cpu`]: portable SIMD on one thread, natively and in a tab.
//! - [`backend`]: the switch between back ends, so that nothing above it names one.
//! - `conformance` (feature of the same name): the checks that every back end must pass, as test support.

pub mod backend;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod cpu;
