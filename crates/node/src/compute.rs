//! The compute half of a node: weights, kernels and block store live behind a message port,
//! in a worker of the page or on a thread of their own.

pub mod protocol;

mod channel;
mod chooser;
mod handle;
mod loader;
mod stage;
mod worker;

pub use handle::{Compute, ComputeError, Loading, StartArgs};
pub(crate) use handle::{Parts, Taken};
pub use worker::run;
