//! Entry of the text worker: chat template and tokenizer, behind a message port.

use cdi_platform::port::Port;
use cdi_platform::{log, task};

fn main() {
    log::init("info");
    match Port::in_worker() {
        Ok(port) => task::spawn_dedicated("text", || cdi_node::text::run(port)),
        Err(error) => tracing::error!(%error, "the worker was not started by a page"),
    }
}
