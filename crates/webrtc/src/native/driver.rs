//! Runs one connection: datagrams and time go into `str0m`, datagrams and streams come out of it.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, Instant};

use str0m::channel::ChannelId;
use str0m::net::{Protocol, Receive, Transmit};
use str0m::{Event, Input, Output, Rtc, RtcError};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::Counters;
use super::link::{End, Found, Link, StreamEnd};
use super::pause::Pause;
use super::streams::Streams;
use crate::fingerprint::Fingerprint;

/// Datagrams that wait for the driver: about 600 KiB, what arrives in 5 ms at 1 Gbit/s.
pub(super) const INBOX_DATAGRAMS: usize = 512;

/// Datagrams that wait while the connection is held up.
const MAX_HELD_DATAGRAMS: usize = 512;

/// Bytes of DTLS that are sent to a peer that has not yet shown that it gets them: our flight of the handshake,
/// a few times. Whoever asks in somebody else's name makes us send him no more than this.
const MAX_UNVERIFIED_BYTES: usize = 8 * 1024;

/// How often a connection that is held up looks whether its streams have been read.
const PAUSE_TICK: Duration = Duration::from_millis(5);

/// First bytes of DTLS records (RFC 7983); everything else is ICE's.
const DTLS: RangeInclusive<u8> = 20..=63;

/// One datagram, where it came from, and on which of our sockets.
#[derive(Debug, Clone)]
pub(super) struct Datagram {
    pub(super) source: SocketAddr,
    pub(super) local: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

/// A socket and the address that `str0m` knows it by.
#[derive(Debug, Clone)]
pub(super) struct Local {
    pub(super) address: SocketAddr,
    pub(super) socket: Arc<UdpSocket>,
}

/// What a connection is made of.
pub(super) struct Driver {
    rtc: Rtc,
    link: Arc<Link>,
    streams: Streams,
    locals: Vec<Local>,
    inbox: mpsc::Receiver<Datagram>,
    counters: Counters,
    held: VecDeque<Datagram>,
    pause: Pause,
    last_heard: Instant,
    silence_timeout: Duration,
    /// What may still be sent before the peer has answered; `None` afterwards.
    unverified_bytes: Option<usize>,
    end: Option<End>,
}

impl Driver {
    pub(super) fn new(
        rtc: Rtc,
        link: Arc<Link>,
        locals: Vec<Local>,
        inbox: mpsc::Receiver<Datagram>,
        silence_timeout: Duration,
        counters: Counters,
    ) -> Self {
        let streams = Streams::new(Arc::clone(&link), counters.clone());
        Self {
            rtc,
            link,
            streams,
            locals,
            inbox,
            counters,
            held: VecDeque::new(),
            pause: Pause::default(),
            last_heard: Instant::now(),
            silence_timeout,
            unverified_bytes: Some(MAX_UNVERIFIED_BYTES),
            end: None,
        }
    }

    /// Only who knows our password gets this connection's DTLS: nothing is held back.
    pub(super) const fn with_verified_peer(mut self) -> Self {
        self.unverified_bytes = None;
        self
    }

    /// Adds a stream whose channel `str0m` knows already.
    pub(super) fn add(&mut self, channel: ChannelId, end: StreamEnd) {
        self.streams.add(channel, end);
    }

    /// Runs until the connection is over.
    pub(super) async fn run(mut self) {
        let end = self.drive().await.unwrap_or_else(|error| End::Stack(error.to_string()));
        tracing::debug!(?end, "WebRTC connection over");
        self.end = Some(end);
    }

    async fn drive(&mut self) -> Result<End, RtcError> {
        loop {
            // `str0m` wants to be emptied after every single change.
            let timeout = loop {
                let timeout = self.drain().await?;
                if let Some(end) = self.end.take() {
                    return Ok(end);
                }
                if !self.change_one()? {
                    break timeout;
                }
            };
            self.wait(timeout).await?;
        }
    }

    /// Sends and handles everything that `str0m` has; returns when it wants to be asked again.
    async fn drain(&mut self) -> Result<Instant, RtcError> {
        loop {
            match self.rtc.poll_output()? {
                Output::Timeout(at) => return Ok(at),
                Output::Transmit(transmit) => self.send(&transmit).await,
                Output::Event(event) => self.on_event(event),
            }
        }
    }

    async fn send(&mut self, transmit: &Transmit) {
        if let Some(left) = &mut self.unverified_bytes
            && is_dtls(&transmit.contents)
        {
            let Some(rest) = left.checked_sub(transmit.contents.len()) else { return };
            *left = rest;
        }
        let local = self.locals.iter().find(|local| local.address == transmit.source).or(self.locals.first());
        if let Some(local) = local {
            // What cannot be sent is lost, as on any network; all layers above repeat.
            if let Err(error) = local.socket.send_to(&transmit.contents, transmit.destination).await {
                tracing::trace!(%error, to = %transmit.destination, "datagram not sent");
            }
        }
    }

    /// Does one of the things that wait to be done; `false` when there is none.
    fn change_one(&mut self) -> Result<bool, RtcError> {
        if self.link.is_close_wanted() {
            self.rtc.close()?;
            self.end = Some(End::Closed);
            return Ok(true);
        }
        if let Some(candidate) = self.link.next_candidate() {
            match candidate {
                Found::Local(candidate) => drop(self.rtc.add_local_candidate(candidate)),
                Found::Remote(candidate) => self.rtc.add_remote_candidate(candidate),
            }
            // Before it has been told the time once, the ICE agent names no time at which it wants to check anything.
            self.rtc.handle_input(Input::Timeout(Instant::now()))?;
            return Ok(true);
        }
        if !self.held.is_empty()
            && !self.is_paused()
            && let Some(datagram) = self.held.pop_front()
        {
            self.feed(&datagram);
            return Ok(true);
        }
        self.streams.change_one(&mut self.rtc)
    }

    /// Waits for the next datagram, wish or deadline.
    async fn wait(&mut self, timeout: Instant) -> Result<(), RtcError> {
        let silent_at = self.last_heard + self.silence_timeout;
        let pause = self.pause.is_on().then(|| Instant::now() + PAUSE_TICK);
        let deadlines = [Some(timeout), Some(silent_at), self.streams.next_abort(), pause];
        let deadline = deadlines.into_iter().flatten().min().unwrap_or(timeout);
        tokio::select! {
            datagram = self.inbox.recv() => match datagram {
                Some(datagram) => self.on_datagram(datagram),
                None => self.end = Some(End::Lost),
            },
            id = poll_fn(|cx| self.link.attention.poll_next(cx)) => {
                self.streams.reap(&mut self.rtc, id, Instant::now());
            }
            () = self.link.doorbell.heard() => {}
            () = tokio::time::sleep_until(deadline.into()) => {
                let now = Instant::now();
                if now >= silent_at {
                    self.end = Some(End::Lost);
                }
                self.streams.abort_due(&mut self.rtc, now);
                self.rtc.handle_input(Input::Timeout(now))?;
            }
        }
        Ok(())
    }

    fn on_datagram(&mut self, datagram: Datagram) {
        self.last_heard = Instant::now();
        // ICE goes on in a pause, or the peer would think that we are gone.
        if !is_dtls(&datagram.bytes) || (self.held.is_empty() && !self.is_paused()) {
            self.feed(&datagram);
        } else if self.held.len() < MAX_HELD_DATAGRAMS {
            self.held.push_back(datagram);
        } else {
            self.counters.overrun();
        }
    }

    fn is_paused(&mut self) -> bool {
        let was_on = self.pause.is_on();
        let is_on = self.pause.update(self.link.budget.used_bytes(), Instant::now());
        if is_on && !was_on {
            self.counters.paused();
        }
        is_on
    }

    /// Anybody can send a datagram in the peer's name: one that makes no sense is dropped (RFC 6347, 4.1.2.7).
    fn feed(&mut self, datagram: &Datagram) {
        let input = Receive::new(Protocol::Udp, datagram.source, datagram.local, &datagram.bytes);
        let fed = input
            .map_err(|error| error.to_string())
            .and_then(|input| self.rtc.handle_input(Input::Receive(Instant::now(), input)).map_err(|e| e.to_string()));
        if let Err(error) = fed {
            self.counters.stray();
            tracing::debug!(%error, from = %datagram.source, "datagram dropped");
        }
    }

    fn on_event(&mut self, event: Event) {
        match event {
            Event::Connected => {
                self.unverified_bytes = None;
                let digest = self.rtc.direct_api().remote_dtls_fingerprint().map(|found| found.bytes.clone());
                match digest.and_then(|digest| digest.try_into().ok()) {
                    Some(digest) => self.link.connected(Fingerprint::new(digest)),
                    None => self.end = Some(End::Stack("the peer has no certificate".to_owned())),
                }
            }
            Event::ChannelOpen(channel, label) => self.streams.on_open(&mut self.rtc, channel, &label),
            Event::ChannelData(data) => self.streams.on_data(&data),
            Event::ChannelClose(channel) => self.streams.on_close(channel),
            Event::Closed => self.end = Some(End::Lost),
            _ => {}
        }
    }
}

fn is_dtls(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| DTLS.contains(first))
}

/// Whatever ended the connection, a defect included, its owner gets to know.
impl Drop for Driver {
    fn drop(&mut self) {
        let end = self.end.take().unwrap_or_else(|| End::Stack("the connection's task failed".to_owned()));
        for stream in self.link.over(end) {
            stream.close();
        }
    }
}
