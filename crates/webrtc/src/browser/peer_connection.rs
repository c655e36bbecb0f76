//! One `RTCPeerConnection` and what its events leave behind: candidates, channels, its status.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use js_sys::{Array, Function, JSON, Promise, Reflect};
use libp2p_identity::PeerId;
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    RtcConfiguration, RtcDataChannel, RtcDataChannelEvent, RtcIceCandidateInit, RtcIceServer, RtcPeerConnection,
    RtcPeerConnectionIceEvent, RtcPeerConnectionState, RtcSdpType, RtcSessionDescriptionInit,
};

use super::channel::{BrowserChannel, OpenChannel};
use super::teardown::OpenConnections;
use super::{Error, IceServer};
use crate::frame_size::FrameSize;
use crate::half_close::UnreadBudget;
use crate::signalling::{INIT_LABEL, IceCandidate, MAX_CANDIDATES};
use crate::substream::{Attention, Substream};

/// Streams of one connection that one side has opened and that are not over yet. Chromium has
/// 1,024 channel ids a connection, half of them for each side, and frees one only after both
/// sides closed it.
pub const MAX_STREAMS_PER_SIDE: usize = 256;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Connecting,
    Connected,
    Lost,
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Local,
    Remote,
}

struct State {
    status: Status,
    /// Of the one task that owns the connection: first the handshake, then the swarm's connection.
    task: Option<Waker>,
    candidates: VecDeque<IceCandidate>,
    channels: HashMap<u64, (Side, OpenChannel)>,
    accepted: VecDeque<Substream<BrowserChannel>>,
    next_id: u64,
}

impl State {
    fn wake(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    fn count(&self, side: Side) -> usize {
        self.channels.values().filter(|(opener, _)| *opener == side).count()
    }
}

/// What the callbacks and the owner share.
pub(super) struct Inner {
    pub(super) pc: RtcPeerConnection,
    attention: Attention,
    budget: UnreadBudget,
    /// Of the streams that are opened from now on.
    frames: Cell<FrameSize>,
    /// Who is at the other end, once it is connected.
    peer: Cell<Option<PeerId>>,
    state: RefCell<State>,
}

impl Inner {
    /// The connection is over: every stream ends, the owner sees the error.
    pub(super) fn close(&self) {
        self.end(Status::Closed);
    }

    pub(super) fn peer(&self) -> Option<PeerId> {
        self.peer.get()
    }

    /// How long ago the last packet came, by the browser's statistics.
    pub(super) async fn silence(&self) -> Option<Duration> {
        let call = |object: &JsValue, name: &str| {
            let method: Function = Reflect::get(object, &name.into()).ok()?.dyn_into().ok()?;
            method.call0(object).ok()
        };
        let report = JsFuture::from(call(&self.pc, "getStats")?.dyn_into::<Promise>().ok()?).await.ok()?;
        let entries = js_sys::try_iter(&call(&report, "values")?).ok()??;
        let number = |entry: &JsValue, name: &str| Reflect::get(entry, &name.into()).ok()?.as_f64();
        let ago_ms = entries
            .flatten()
            .filter_map(|entry| Some(number(&entry, "timestamp")? - number(&entry, "lastPacketReceivedTimestamp")?));
        let least_ms = ago_ms.reduce(f64::min)?;
        Duration::try_from_secs_f64(least_ms.max(0.0) / 1e3).ok()
    }

    fn end(&self, status: Status) {
        // `close` tells the peer at once: its channels get their `close` event.
        self.pc.close();
        let mut state = self.state.borrow_mut();
        if matches!(state.status, Status::Connecting | Status::Connected) {
            state.status = status;
        }
        state.accepted.clear();
        for (_, channel) in state.channels.values() {
            channel.port().on_closed();
        }
        state.wake();
    }

    fn on_state_change(&self) {
        match self.pc.connection_state() {
            RtcPeerConnectionState::Connected => {
                let mut state = self.state.borrow_mut();
                if state.status == Status::Connecting {
                    state.status = Status::Connected;
                    state.wake();
                }
            }
            RtcPeerConnectionState::Failed | RtcPeerConnectionState::Closed => self.end(Status::Lost),
            // "disconnected" is a hint only: ICE may recover, and turns to "failed" if not.
            _ => {}
        }
    }

    fn on_association_change(&self) {
        let state = association(&self.pc).and_then(|sctp| Reflect::get(&sctp, &"state".into()).ok());
        if state.and_then(|state| state.as_string()).as_deref() == Some("closed") {
            self.end(Status::Lost);
        }
    }

    fn on_candidate(&self, event: &RtcPeerConnectionIceEvent) {
        let Some(json) = event.candidate().and_then(|candidate| JSON::stringify(&candidate.to_json()).ok()) else {
            return;
        };
        match serde_json::from_str(&String::from(json)) {
            Ok(candidate) => {
                let mut state = self.state.borrow_mut();
                if state.candidates.len() < MAX_CANDIDATES {
                    state.candidates.push_back(candidate);
                    state.wake();
                }
            }
            Err(error) => tracing::debug!(%error, "candidate of this browser not understood"),
        }
    }

    fn on_channel(&self, channel: RtcDataChannel) {
        if channel.label() == INIT_LABEL {
            return;
        }
        if self.state.borrow().count(Side::Remote) >= MAX_STREAMS_PER_SIDE {
            tracing::debug!("the peer opened more than {MAX_STREAMS_PER_SIDE} streams");
            channel.close();
            return;
        }
        let stream = self.attach(Side::Remote, channel);
        let mut state = self.state.borrow_mut();
        state.accepted.push_back(stream);
        state.wake();
    }

    fn attach(&self, side: Side, channel: RtcDataChannel) -> Substream<BrowserChannel> {
        let mut state = self.state.borrow_mut();
        let id = state.next_id;
        state.next_id += 1;
        let (stream, open) = OpenChannel::attach(id, channel, self.budget.clone(), self.attention.clone());
        open.port().allow_frames(self.frames.get());
        state.channels.insert(id, (side, open));
        stream
    }
}

/// The owner's handle. Dropping it closes the connection.
pub(super) struct PeerConnection {
    inner: Rc<Inner>,
    _on_candidate: Closure<dyn FnMut(RtcPeerConnectionIceEvent)>,
    _on_channel: Closure<dyn FnMut(RtcDataChannelEvent)>,
    _on_state_change: Closure<dyn FnMut(JsValue)>,
    on_association_change: Closure<dyn FnMut(JsValue)>,
}

impl PeerConnection {
    pub(super) fn new(ice_servers: &[IceServer], connections: &OpenConnections) -> Result<Self, Error> {
        let pc = RtcPeerConnection::new_with_configuration(&configuration(ice_servers))?;
        let inner = Rc::new(Inner {
            pc,
            attention: Attention::default(),
            budget: UnreadBudget::default(),
            frames: Cell::default(),
            peer: Cell::new(None),
            state: RefCell::new(State {
                status: Status::Connecting,
                task: None,
                candidates: VecDeque::new(),
                channels: HashMap::new(),
                accepted: VecDeque::new(),
                next_id: 0,
            }),
        });
        connections.register(&inner);

        // The callbacks hold the connection weakly, or it would keep itself alive for ever.
        let weak = Rc::downgrade(&inner);
        let on_candidate = Closure::new({
            let weak = weak.clone();
            move |event: RtcPeerConnectionIceEvent| {
                if let Some(inner) = weak.upgrade() {
                    inner.on_candidate(&event);
                }
            }
        });
        let on_channel = Closure::new({
            let weak = weak.clone();
            move |event: RtcDataChannelEvent| {
                if let Some(inner) = weak.upgrade() {
                    inner.on_channel(event.channel());
                }
            }
        });
        let on_state_change = Closure::new({
            let weak = weak.clone();
            move |_: JsValue| {
                if let Some(inner) = weak.upgrade() {
                    inner.on_state_change();
                }
            }
        });
        let on_association_change = Closure::new(move |_: JsValue| {
            if let Some(inner) = weak.upgrade() {
                inner.on_association_change();
            }
        });
        inner.pc.set_onicecandidate(Some(on_candidate.as_ref().unchecked_ref()));
        inner.pc.set_ondatachannel(Some(on_channel.as_ref().unchecked_ref()));
        inner.pc.set_onconnectionstatechange(Some(on_state_change.as_ref().unchecked_ref()));
        Ok(Self {
            inner,
            _on_candidate: on_candidate,
            _on_channel: on_channel,
            _on_state_change: on_state_change,
            on_association_change,
        })
    }

    /// Notes who is at the other end.
    pub(super) fn set_peer(&self, peer: PeerId) {
        self.inner.peer.set(Some(peer));
    }

    /// Opens the channel that only makes the offer contain a data section.
    pub(super) fn open_init_channel(&self) -> Result<RtcDataChannel, Error> {
        create_data_channel(&self.inner.pc, INIT_LABEL)
    }

    /// The offer for the peer.
    pub(super) async fn create_offer(&self) -> Result<String, Error> {
        let offer = JsFuture::from(self.inner.pc.create_offer()).await?;
        self.set_local(RtcSdpType::Offer, &offer).await
    }

    /// Takes an offer and returns the answer for the peer.
    pub(super) async fn answer(&self, offer: &str) -> Result<String, Error> {
        self.inner.frames.set(FrameSize::agreed(offer));
        self.set_remote(RtcSdpType::Offer, offer).await?;
        let answer = JsFuture::from(self.inner.pc.create_answer()).await?;
        self.set_local(RtcSdpType::Answer, &answer).await
    }

    pub(super) async fn accept_answer(&self, answer: &str) -> Result<(), Error> {
        self.inner.frames.set(FrameSize::agreed(answer));
        self.set_remote(RtcSdpType::Answer, answer).await
    }

    async fn set_local(&self, kind: RtcSdpType, description: &JsValue) -> Result<String, Error> {
        let sdp = Reflect::get(description, &"sdp".into())?
            .as_string()
            .ok_or_else(|| Error::Js("description without SDP".to_owned()))?;
        let init = RtcSessionDescriptionInit::new(kind);
        init.set_sdp(&sdp);
        JsFuture::from(self.inner.pc.set_local_description(&init)).await?;
        Ok(FrameSize::announce(&sdp))
    }

    async fn set_remote(&self, kind: RtcSdpType, sdp: &str) -> Result<(), Error> {
        let init = RtcSessionDescriptionInit::new(kind);
        init.set_sdp(sdp);
        JsFuture::from(self.inner.pc.set_remote_description(&init)).await?;
        Ok(())
    }

    /// Gives the browser a candidate of the peer. One that it cannot use does not hurt the others.
    pub(super) async fn add_candidate(&self, candidate: &IceCandidate) {
        let init = RtcIceCandidateInit::new(&candidate.candidate);
        init.set_sdp_mid(candidate.sdp_mid.as_deref());
        init.set_sdp_m_line_index(candidate.sdp_m_line_index);
        let added = self.inner.pc.add_ice_candidate_with_opt_rtc_ice_candidate_init(Some(&init));
        if let Err(error) = JsFuture::from(added).await {
            tracing::debug!(?error, "candidate of the peer not usable");
        }
    }

    /// The next candidate that the browser found.
    pub(super) fn poll_candidate(&self, cx: &Context<'_>) -> Poll<IceCandidate> {
        let mut state = self.inner.state.borrow_mut();
        state.task = Some(cx.waker().clone());
        state.candidates.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    /// Takes the end of the SCTP association for the end of the connection. Closing a peer
    /// connection aborts its association, which the other side sees within milliseconds, while
    /// its `connectionState` turns to "failed" only after 15 s (Chromium 156).
    pub(super) fn watch_association(&self) {
        let Some(sctp) = association(&self.inner.pc) else {
            tracing::debug!("no RTCPeerConnection.sctp: a close is noticed by ICE only");
            return;
        };
        let _ = Reflect::set(&sctp, &ON_STATE_CHANGE.into(), self.on_association_change.as_ref());
        self.inner.on_association_change();
    }

    /// Ready when the direct connection is up, or will never be.
    pub(super) fn poll_connected(&self, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        let mut state = self.inner.state.borrow_mut();
        state.task = Some(cx.waker().clone());
        match state.status {
            Status::Connecting => Poll::Pending,
            Status::Connected => Poll::Ready(Ok(())),
            Status::Lost => Poll::Ready(Err(Error::Lost)),
            Status::Closed => Poll::Ready(Err(Error::Closed)),
        }
    }

    /// The next stream that the peer opened.
    pub(super) fn poll_accept(&self, cx: &Context<'_>) -> Poll<Substream<BrowserChannel>> {
        let mut state = self.inner.state.borrow_mut();
        state.task = Some(cx.waker().clone());
        state.accepted.pop_front().map_or(Poll::Pending, Poll::Ready)
    }

    /// Opens a stream; waits while [`MAX_STREAMS_PER_SIDE`] of ours are not over.
    pub(super) fn poll_open(&self, cx: &Context<'_>) -> Poll<Result<Substream<BrowserChannel>, Error>> {
        let mut state = self.inner.state.borrow_mut();
        if state.count(Side::Local) >= MAX_STREAMS_PER_SIDE {
            state.task = Some(cx.waker().clone());
            return Poll::Pending;
        }
        drop(state);
        let channel = create_data_channel(&self.inner.pc, "")?;
        Poll::Ready(Ok(self.inner.attach(Side::Local, channel)))
    }

    /// The browser's object, for handshakes of another kind.
    pub(super) fn raw(&self) -> &RtcPeerConnection {
        &self.inner.pc
    }

    /// Takes over a channel that this side has just created.
    pub(super) fn adopt(&self, channel: RtcDataChannel) -> Substream<BrowserChannel> {
        self.inner.attach(Side::Local, channel)
    }

    pub(super) fn attention(&self) -> &Attention {
        &self.inner.attention
    }

    /// Forgets the stream if it is over; returns whether its user has dropped it but it is not over yet.
    pub(super) fn reap(&self, id: u64) -> bool {
        let mut state = self.inner.state.borrow_mut();
        let Some((_, channel)) = state.channels.get(&id) else { return false };
        if !channel.port().is_over() {
            return channel.port().is_detached();
        }
        state.channels.remove(&id);
        state.wake();
        false
    }

    /// Closes a stream that has lingered long enough.
    pub(super) fn abort(&self, id: u64) {
        if let Some((_, channel)) = self.inner.state.borrow().channels.get(&id) {
            channel.abort();
        }
    }

    pub(super) fn close(&self) {
        self.inner.close();
    }
}

impl Drop for PeerConnection {
    fn drop(&mut self) {
        self.inner.pc.set_onicecandidate(None);
        self.inner.pc.set_ondatachannel(None);
        self.inner.pc.set_onconnectionstatechange(None);
        if let Some(sctp) = association(&self.inner.pc) {
            let _ = Reflect::set(&sctp, &ON_STATE_CHANGE.into(), &JsValue::NULL);
        }
        self.inner.close();
    }
}

fn configuration(ice_servers: &[IceServer]) -> RtcConfiguration {
    let list = Array::new();
    for server in ice_servers {
        let entry = RtcIceServer::new();
        let urls: Array = server.urls.iter().map(|url| JsValue::from_str(url)).collect();
        entry.set_urls(&urls);
        if let Some(username) = &server.username {
            entry.set_username(username);
        }
        if let Some(credential) = &server.credential {
            entry.set_credential(credential);
        }
        list.push(&entry);
    }
    let configuration = RtcConfiguration::new();
    configuration.set_ice_servers(&list);
    configuration
}

const ON_STATE_CHANGE: &str = "onstatechange";

/// The `RTCSctpTransport`, which web-sys has no type for and browsers before 2023 do not have.
pub(super) fn association(pc: &RtcPeerConnection) -> Option<JsValue> {
    Reflect::get(pc, &"sctp".into()).ok().filter(JsValue::is_object)
}

/// web-sys' binding does not catch the exception that the browser throws on a closed connection
/// or when it runs out of channel ids.
fn create_data_channel(pc: &RtcPeerConnection, label: &str) -> Result<RtcDataChannel, Error> {
    let create: Function = Reflect::get(pc, &"createDataChannel".into())?.dyn_into()?;
    Ok(create.call1(pc, &label.into())?.dyn_into()?)
}
