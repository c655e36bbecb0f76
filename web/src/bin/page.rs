//! Entry of the page: the user interface in front, the node behind it, the compute worker beside it.

use std::cell::RefCell;

use cdi_platform::Place;
use cdi_web::link::NodeLink;
use cdi_web::profile::Profile;
use cdi_web::{app, crash, start};

fn main() {
    crash::install_hook();
    cdi_platform::log::init("info");
    let (commands, queue) = futures::channel::mpsc::channel(start::COMMANDS);
    let (events, stream) = futures::channel::mpsc::channel(start::EVENTS);
    cdi_platform::task::spawn(start::run(queue, events));
    // One sender: every further one would add a place to the queue.
    let commands = RefCell::new(commands);
    let send = move |command| {
        // The node is far behind only when it has stopped, which the page shows.
        let _stopped = commands.borrow_mut().try_send(command);
    };
    app::mount(NodeLink::new(send, stream), Profile::new(Place::disk("")));
}
