//! Entry of the page.

use cdi_web::app::{App, AppProps};
use cdi_web::crash;
use cdi_web::link::NodeLink;

fn main() {
    crash::install_hook();
    let node = NodeLink::new(|_| {}, futures::stream::empty());
    yew::Renderer::<App>::with_props(AppProps { node }).render();
}
