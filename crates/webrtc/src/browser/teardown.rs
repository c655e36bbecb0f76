//! Closing every connection at once, when the page goes away.

use std::cell::RefCell;
use std::fmt;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use libp2p_identity::PeerId;
use send_wrapper::SendWrapper;
use wasm_bindgen::prelude::*;

use super::Error;
use super::peer_connection::Inner;

/// Every peer connection of a swarm, handshakes included.
#[derive(Clone)]
pub struct OpenConnections(pub(super) Arc<SendWrapper<RefCell<Vec<Weak<Inner>>>>>);

impl Default for OpenConnections {
    fn default() -> Self {
        Self(Arc::new(SendWrapper::new(RefCell::new(Vec::new()))))
    }
}

impl fmt::Debug for OpenConnections {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("OpenConnections").field("count", &self.count()).finish()
    }
}

impl OpenConnections {
    /// Bounded by the swarm's connections and the admitted handshakes: dead entries are dropped here.
    pub(super) fn register(&self, connection: &Rc<Inner>) {
        let mut list = self.0.borrow_mut();
        list.retain(|entry| entry.strong_count() > 0);
        list.push(Rc::downgrade(connection));
    }

    /// Connections that exist at present.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.borrow().iter().filter(|entry| entry.strong_count() > 0).count()
    }

    /// How long ago the last packet of any kind came on a connection with `peer`; `None` where there is none, or where
    /// the browser does not tell.
    pub fn silence(&self, peer: PeerId) -> impl Future<Output = Option<Duration>> + Send + use<> {
        let of_peer = |entry: &Weak<Inner>| entry.upgrade().filter(|inner| inner.peer() == Some(peer));
        let connection = self.0.borrow().iter().rev().find_map(of_peer);
        SendWrapper::new(async move { connection?.silence().await })
    }

    /// Closes them all. Synchronous, so that it works while the page is going away; the peers
    /// notice at once instead of after their ICE timeout.
    pub fn close_all(&self) {
        let list: Vec<Rc<Inner>> = self.0.borrow().iter().filter_map(Weak::upgrade).collect();
        for connection in list {
            connection.close();
        }
    }

    /// Calls [`OpenConnections::close_all`] on the window's `pagehide` event, while the guard lives.
    ///
    /// # Errors
    /// [`Error::Js`] where there is no window.
    pub fn close_on_pagehide(&self) -> Result<PageHideGuard, Error> {
        let window = web_sys::window().ok_or_else(|| Error::Js("no window".to_owned()))?;
        let connections = self.clone();
        let listener = Closure::new(move |_: JsValue| connections.close_all());
        window.add_event_listener_with_callback(PAGEHIDE, listener.as_ref().unchecked_ref())?;
        Ok(PageHideGuard { listener: SendWrapper::new(listener) })
    }
}

const PAGEHIDE: &str = "pagehide";

/// Removes the listener of [`OpenConnections::close_on_pagehide`] when dropped.
pub struct PageHideGuard {
    listener: SendWrapper<Closure<dyn FnMut(JsValue)>>,
}

impl Drop for PageHideGuard {
    fn drop(&mut self) {
        if let Some(window) = web_sys::window() {
            let _ = window.remove_event_listener_with_callback(PAGEHIDE, self.listener.as_ref().unchecked_ref());
        }
    }
}
