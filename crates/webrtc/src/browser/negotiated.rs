//! Data channels that are no libp2p streams: both sides make them with an id that they agreed on before.

use std::rc::{Rc, Weak};

use js_sys::{Function, Reflect};
use libp2p_identity::PeerId;
use wasm_bindgen::{JsCast as _, JsValue};
use web_sys::{RtcDataChannel, RtcDataChannelInit, RtcPeerConnectionState};

use super::Error;
use super::peer_connection::{Inner, association};
use super::teardown::OpenConnections;

/// A connection between two peers, of which there may be several: by the `ice-ufrag` of one of its sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionName {
    /// That of this side.
    Ours(String),
    /// That of the other side.
    Theirs(String),
}

impl OpenConnections {
    /// The `ice-ufrag` of this side of the newest connection with `peer`.
    #[must_use]
    pub fn name(&self, peer: PeerId) -> Option<String> {
        self.with(peer).find_map(|connection| ufrag(&connection, "localDescription"))
    }

    /// Makes a channel on a connection with `peer`. Messages may have up to `message_bytes` bytes. What the peer sends
    /// before it has made its end waits; what is sent before the peer has made its end is lost.
    ///
    /// # Errors
    /// [`Error::Lost`] when there is no such connection, [`Error::Js`] when the id is taken or messages of that size do
    /// not fit.
    pub fn negotiated(
        &self,
        peer: PeerId,
        name: &ConnectionName,
        id: u16,
        message_bytes: usize,
    ) -> Result<RtcDataChannel, Error> {
        let (description, known) = match name {
            ConnectionName::Ours(name) => ("localDescription", name),
            ConnectionName::Theirs(name) => ("remoteDescription", name),
        };
        let is_named = |connection: &Rc<Inner>| ufrag(connection, description).as_ref() == Some(known);
        let connection = self.with(peer).find(is_named).ok_or(Error::Lost)?;
        let most = association(&connection.pc).and_then(|sctp| Reflect::get(&sctp, &"maxMessageSize".into()).ok());
        #[allow(clippy::cast_precision_loss, reason = "far below 2^53")]
        if most.and_then(|most| most.as_f64()).is_none_or(|most| most < message_bytes as f64) {
            return Err(Error::Js(format!("the connection takes no messages of {message_bytes} bytes")));
        }
        let options = RtcDataChannelInit::new();
        options.set_negotiated(true);
        options.set_id(id);
        // web-sys' binding does not catch the exception that a browser throws when the id is taken.
        let create: Function = Reflect::get(&connection.pc, &"createDataChannel".into())?.dyn_into()?;
        Ok(create.call2(&connection.pc, &JsValue::from_str(""), &options)?.dyn_into()?)
    }

    /// The connections with `peer` that are up, the newest first.
    fn with(&self, peer: PeerId) -> impl Iterator<Item = Rc<Inner>> + use<> {
        let mut list: Vec<Rc<Inner>> = self.0.borrow().iter().filter_map(Weak::upgrade).collect();
        list.retain(|inner| {
            inner.peer() == Some(peer) && inner.pc.connection_state() == RtcPeerConnectionState::Connected
        });
        list.into_iter().rev()
    }
}

fn ufrag(connection: &Inner, description: &str) -> Option<String> {
    let description = Reflect::get(&connection.pc, &description.into()).ok()?;
    let sdp = Reflect::get(&description, &"sdp".into()).ok()?.as_string()?;
    sdp.lines().find_map(|line| Some(line.strip_prefix("a=ice-ufrag:")?.trim().to_owned()))
}
