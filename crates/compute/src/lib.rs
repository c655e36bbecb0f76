//! Executes a shard: the back ends of [`cdi_model::compute::Compute`].
//!
//! - [`cpu`]: SIMD on one thread, natively and in a tab; instructions are chosen at run time.
//! - [`gpu`]: WebGPU, natively through Vulkan and in a tab through the browser.
//! - [`backend`]: the switch between back ends, so that nothing above it names one.
//! - [`probe`]: measured speed of any of them, and [`choice`] by it.
//! - [`executor`]: stages and sessions on one back end, as the compute worker runs them.
//! - `conformance` (feature of the same name): the checks that every back end must pass, as test support.
//! - `speed` (feature of the same name): tokens a second of models with random weights.

pub mod backend;
pub mod choice;
#[cfg(feature = "conformance")]
pub mod conformance;
pub mod cpu;
pub mod executor;
pub mod gpu;
pub mod probe;
#[cfg(feature = "speed")]
pub mod speed;
mod stored;
