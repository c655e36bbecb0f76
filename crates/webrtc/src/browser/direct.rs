//! `/webrtc-direct` from a browser: a server is dialled at its UDP port and the hash of its certificate.
//!
//! Nothing is exchanged beforehand. Both descriptions are made here: the browser's own offer under a name that
//! we choose, and the answer that the server would give.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use js_sys::Reflect;
use libp2p_core::Multiaddr;
use libp2p_core::muxing::StreamMuxerBox;
use libp2p_core::transport::{DialOpts, ListenerId, TransportError, TransportEvent};
use libp2p_identity::{Keypair, PeerId};
use send_wrapper::SendWrapper;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{RtcDataChannel, RtcDataChannelInit, RtcPeerConnection, RtcSdpType, RtcSessionDescriptionInit};

use super::Error;
use super::connection::Connection;
use super::peer_connection::PeerConnection;
use super::teardown::OpenConnections;
use crate::authenticate::{Certificates, Side, authenticate};
use crate::direct::{DialTarget, NOISE_CHANNEL_ID, is_direct, parse_dial_address, rename_offer, server_answer, ufrag};
use crate::fingerprint::Fingerprint;
use crate::signalled::within;

type Handshake = BoxFuture<'static, Result<(PeerId, StreamMuxerBox), Error>>;

/// libp2p transport that dials `/ip4|ip6/<ip>/udp/<port>/webrtc-direct/certhash/<hash>`.
///
/// A browser cannot be dialled so; `listen_on` refuses every address.
pub struct DirectTransport {
    identity: Keypair,
    connections: OpenConnections,
    timeout: Duration,
}

impl DirectTransport {
    /// A transport for the peer `identity`. `connections` is where its connections are closed with the page;
    /// `timeout` is for ICE, DTLS and Noise together.
    #[must_use]
    pub const fn new(identity: Keypair, connections: OpenConnections, timeout: Duration) -> Self {
        Self { identity, connections, timeout }
    }
}

impl libp2p_core::Transport for DirectTransport {
    type Output = (PeerId, StreamMuxerBox);
    type Error = Error;
    type ListenerUpgrade = Handshake;
    type Dial = Handshake;

    fn listen_on(&mut self, _: ListenerId, address: Multiaddr) -> Result<(), TransportError<Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(&mut self, address: Multiaddr, options: DialOpts) -> Result<Handshake, TransportError<Error>> {
        if !is_direct(&address) || options.role.is_listener() {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        let target = parse_dial_address(&address).map_err(|error| TransportError::Other(error.into()))?;
        let (identity, connections, timeout) = (self.identity.clone(), self.connections.clone(), self.timeout);
        let handshake = async move { within(timeout, connect(&identity, &connections, &target), Error::Timeout).await };
        Ok(SendWrapper::new(handshake).boxed())
    }

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<TransportEvent<Handshake, Error>> {
        Poll::Pending
    }
}

async fn connect(
    identity: &Keypair,
    connections: &OpenConnections,
    target: &DialTarget,
) -> Result<(PeerId, StreamMuxerBox), Error> {
    let mut random = [0; 16];
    getrandom::fill(&mut random).map_err(|error| Error::Js(error.to_string()))?;
    let name = ufrag(random);
    let pc = PeerConnection::new(&[], connections)?;
    let noise = pc.adopt(noise_channel(pc.raw())?);
    let offer = JsFuture::from(pc.raw().create_offer()).await?;
    let offer = Reflect::get(&offer, &"sdp".into())?.as_string();
    let offer = rename_offer(&offer.ok_or_else(|| Error::Js("offer without SDP".to_owned()))?, &name);
    // Firefox does not tell a certificate's hash otherwise.
    let client = Fingerprint::from_sdp(&offer).ok_or_else(|| Error::Js("offer without a SHA-256".to_owned()))?;
    JsFuture::from(pc.raw().set_local_description(&description(RtcSdpType::Offer, &offer))).await?;
    let answer = server_answer(target, &name);
    JsFuture::from(pc.raw().set_remote_description(&description(RtcSdpType::Answer, &answer))).await?;
    poll_fn(|cx| pc.poll_connected(cx)).await?;
    pc.watch_association();
    let certificates = Certificates { client, server: target.fingerprint };
    let peer = authenticate(identity, noise, Side::Client, certificates).await?;
    if target.peer.is_some_and(|expected| expected != peer) {
        return Err(Error::WrongPeer);
    }
    Ok((peer, StreamMuxerBox::new(Connection::new(pc))))
}

fn description(kind: RtcSdpType, sdp: &str) -> RtcSessionDescriptionInit {
    let init = RtcSessionDescriptionInit::new(kind);
    init.set_sdp(sdp);
    init
}

/// The channel of the Noise handshake, which both sides open without telling each other.
fn noise_channel(pc: &RtcPeerConnection) -> Result<RtcDataChannel, Error> {
    let init = RtcDataChannelInit::new();
    init.set_negotiated(true);
    init.set_id(NOISE_CHANNEL_ID);
    // web-sys' binding does not catch exceptions.
    let create: js_sys::Function = Reflect::get(pc, &"createDataChannel".into())?.dyn_into()?;
    Ok(create.call2(pc, &"".into(), &init)?.dyn_into()?)
}
