//! How the page and the node that runs behind it reach each other.

use std::cell::RefCell;
use std::rc::Rc;

use cdi_node::view::{Command, Event};
use futures::stream::{LocalBoxStream, Stream, StreamExt as _};

/// The page's end of a node: commands go in, events come out.
///
/// Clones share one node. The page takes the events once; the stream ends when the node does.
#[derive(Clone)]
pub struct NodeLink {
    commands: Rc<dyn Fn(Command)>,
    events: Rc<RefCell<Option<LocalBoxStream<'static, Event>>>>,
}

impl NodeLink {
    /// Links a node that takes `commands` and tells `events`. `commands` must not block.
    pub fn new(commands: impl Fn(Command) + 'static, events: impl Stream<Item = Event> + 'static) -> Self {
        Self { commands: Rc::new(commands), events: Rc::new(RefCell::new(Some(events.boxed_local()))) }
    }

    /// Sends a command.
    pub fn send(&self, command: Command) {
        (self.commands)(command);
    }

    /// The events, for the first who asks.
    #[must_use]
    pub fn take_events(&self) -> Option<LocalBoxStream<'static, Event>> {
        self.events.borrow_mut().take()
    }
}

impl PartialEq for NodeLink {
    fn eq(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.events, &other.events)
    }
}
