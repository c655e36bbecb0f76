//! Entry of the compute worker: weights, kernels and block store, behind a message port.

use cdi_platform::port::Port;
use cdi_platform::{Place, log, task};

fn main() {
    log::init("info");
    match Port::in_worker() {
        Ok(port) => {
            task::spawn_dedicated("compute", || cdi_node::compute::run(port, Place::disk("")));
        }
        Err(error) => tracing::error!(%error, "the worker was not started by a page"),
    }
}
