//! Entry of the page.

use cdi_web::link::NodeLink;
use cdi_web::{app, crash};

fn main() {
    crash::install_hook();
    let node = NodeLink::new(|_| {}, futures::stream::empty());
    app::mount(node);
}
