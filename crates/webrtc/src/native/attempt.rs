//! A `/webrtc` connection that is being made.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use libp2p_identity::PeerId;
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::{Candidate, Rtc};

use super::driver::Driver;
use super::gather::Gathering;
use super::link::{Found, Link, LinkOwner};
use super::{Certificate, Connection, Connections, Error, session};
use crate::frame_size::FrameSize;
use crate::sdp;
use crate::signalled::IceServer;
use crate::signalling::{INIT_LABEL, IceCandidate};

/// A connection from which nothing has come for this time is lost. Both sides check every few seconds.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);

/// See the module. Dropping it gives the attempt up.
pub(crate) struct Attempt {
    link: LinkOwner,
    gathering: Gathering,
    counters: Connections,
    /// Until both descriptions are known; then its driver has it.
    rtc: Option<Box<Rtc>>,
    pending: Option<SdpPendingOffer>,
    /// The name of the data section, as candidates give it.
    section: Option<String>,
}

impl Attempt {
    pub(crate) fn new(servers: &[IceServer], counters: &Connections) -> Result<Self, Error> {
        let rtc = session::config(&Certificate::generate()?).build(Instant::now());
        Ok(Self {
            link: LinkOwner(Link::new()),
            gathering: Gathering::start(servers, counters)?,
            counters: counters.clone(),
            rtc: Some(Box::new(rtc)),
            pending: None,
            section: None,
        })
    }

    /// The offer for the peer.
    pub(crate) async fn offer(&mut self) -> Result<String, Error> {
        let rtc = self.rtc.as_mut().ok_or_else(out_of_turn)?;
        let mut change = rtc.sdp_api();
        change.add_channel(INIT_LABEL.to_owned());
        let (offer, pending) = change.apply().ok_or_else(out_of_turn)?;
        self.pending = Some(pending);
        Ok(self.described(&offer.to_sdp_string()))
    }

    /// Takes an offer and returns the answer for the peer.
    pub(crate) async fn answer(&mut self, offer: &str) -> Result<String, Error> {
        sdp::check(offer)?;
        let mut rtc = self.rtc.take().ok_or_else(out_of_turn)?;
        let parsed = SdpOffer::from_sdp_string(offer).map_err(|error| Error::Stack(error.to_string()))?;
        let answer = rtc.sdp_api().accept_offer(parsed)?.to_sdp_string();
        self.drive(rtc, offer)?;
        Ok(self.described(&answer))
    }

    /// Takes the answer to our offer.
    pub(crate) async fn accept_answer(&mut self, answer: &str) -> Result<(), Error> {
        sdp::check(answer)?;
        let (mut rtc, pending) = self.rtc.take().zip(self.pending.take()).ok_or_else(out_of_turn)?;
        let parsed = SdpAnswer::from_sdp_string(answer).map_err(|error| Error::Stack(error.to_string()))?;
        rtc.sdp_api().accept_answer(pending, parsed)?;
        self.drive(rtc, answer)
    }

    /// Takes a candidate of the peer. One that cannot be used does not hurt the others: browsers give names that only
    /// their own network knows, and reach us at ours.
    pub(crate) async fn add_candidate(&self, candidate: &IceCandidate) {
        let line = candidate.candidate.trim_start_matches("a=");
        match Candidate::from_sdp_string(line) {
            Ok(candidate) => self.link.0.found(Found::Remote(candidate)),
            Err(error) => tracing::debug!(%error, "candidate of the peer not usable"),
        }
    }

    /// The next candidate of ours.
    pub(crate) fn poll_candidate(&mut self, cx: &mut Context<'_>) -> Poll<IceCandidate> {
        self.gathering.poll_found(cx).map(|candidate| {
            let signalled = IceCandidate {
                candidate: candidate.to_sdp_string(),
                sdp_mid: self.section.clone(),
                sdp_m_line_index: Some(0),
                username_fragment: None,
            };
            self.link.0.found(Found::Local(candidate));
            signalled
        })
    }

    /// Ready when the connection is up, or will never be.
    pub(crate) fn poll_connected(&self, cx: &Context<'_>) -> Poll<Result<(), Error>> {
        self.link.0.poll_connected(cx).map(|connected| connected.map(drop))
    }

    /// The connection, which is up.
    pub(crate) fn finish(self, _: PeerId) -> Connection {
        self.counters.accepted();
        Connection::new(self.link)
    }

    /// A description of ours, with what our own nodes add to it.
    fn described(&mut self, sdp: &str) -> String {
        self.section = sdp::section(sdp);
        FrameSize::announce(sdp)
    }

    /// Both descriptions are known: starts the connection.
    fn drive(&mut self, rtc: Box<Rtc>, theirs: &str) -> Result<(), Error> {
        let inbox = self.gathering.inbox.take().ok_or_else(out_of_turn)?;
        self.link.0.allow_frames(FrameSize::agreed(theirs));
        let (locals, counters) = (self.gathering.locals.clone(), self.counters.clone());
        let driver = Driver::new(*rtc, Arc::clone(&self.link.0), locals, inbox, SILENCE_TIMEOUT, counters);
        tokio::spawn(driver.with_verified_peer().run());
        Ok(())
    }
}

/// The signalling machine asks for every step once and in order.
fn out_of_turn() -> Error {
    Error::Stack("a description out of turn".to_owned())
}
