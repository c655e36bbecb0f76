//! The streams of one connection and their channels in `str0m`.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use str0m::channel::{ChannelConfig, ChannelData, ChannelId};
use str0m::{Rtc, RtcError};

use super::link::{Link, StreamEnd};
use super::{Counters, MAX_STREAMS_PER_SIDE};
use crate::signalling::INIT_LABEL;
use crate::substream::FIN_ACK_TIMEOUT;

struct Stream {
    channel: ChannelId,
    end: StreamEnd,
}

/// See the module.
pub(super) struct Streams {
    link: Arc<Link>,
    counters: Counters,
    streams: HashMap<u64, Stream>,
    by_channel: HashMap<ChannelId, u64>,
    /// Streams with messages that are not sent or not confirmed.
    busy: BTreeSet<u64>,
    /// The stream whose turn it was last.
    last_served: u64,
    /// Streams that their user has dropped, with the time when they are closed regardless.
    lingering: VecDeque<(Instant, u64)>,
    /// Streams whose channels are to be closed.
    to_close: BTreeSet<u64>,
    /// Channels of streams that are over, which the peer opened and so has to close, with the time when we do.
    ///
    /// Whoever opened a channel uses its id again. If both sides closed it at a time, a browser may do so while
    /// our close is not confirmed yet, and `str0m` then refuses the new channel.
    left_to_peer: VecDeque<(Instant, ChannelId)>,
}

impl Streams {
    pub(super) fn new(link: Arc<Link>, counters: Counters) -> Self {
        Self {
            link,
            counters,
            streams: HashMap::new(),
            by_channel: HashMap::new(),
            busy: BTreeSet::new(),
            last_served: 0,
            lingering: VecDeque::new(),
            to_close: BTreeSet::new(),
            left_to_peer: VecDeque::new(),
        }
    }

    /// Adds a stream whose channel `str0m` knows already.
    pub(super) fn add(&mut self, channel: ChannelId, end: StreamEnd) {
        self.by_channel.insert(channel, end.id);
        self.streams.insert(end.id, Stream { channel, end });
    }

    /// Does one of the things that wait to be done; `false` when there is none.
    pub(super) fn change_one(&mut self, rtc: &mut Rtc) -> Result<bool, RtcError> {
        for id in self.link.doorbell.answer() {
            let Some(stream) = self.streams.get(&id) else { continue };
            let list = if stream.end.outbox.is_closed() { &mut self.to_close } else { &mut self.busy };
            list.insert(id);
        }
        if let Some(id) = self.to_close.pop_first() {
            self.busy.remove(&id);
            if let Some(stream) = self.streams.get(&id).filter(|stream| stream.end.is_local) {
                rtc.direct_api().close_data_channel(stream.channel);
            }
            return Ok(true);
        }
        if let Some(end) = self.link.next_to_open() {
            let channel = rtc.direct_api().create_data_channel(ChannelConfig::default());
            self.add(channel, end);
            return Ok(true);
        }
        self.serve_one(rtc)
    }

    /// Hands one message to `str0m`, of the stream whose turn it is.
    fn serve_one(&mut self, rtc: &mut Rtc) -> Result<bool, RtcError> {
        let next = self.last_served.saturating_add(1);
        let turns: Vec<u64> = self.busy.range(next..).chain(self.busy.range(..next)).copied().collect();
        for id in turns {
            let Some(Stream { channel, end }) = self.streams.get(&id) else {
                self.busy.remove(&id);
                continue;
            };
            let mut channel = rtc.channel(*channel);
            let (mut is_written, mut is_full) = (false, false);
            if let Some(channel) = &mut channel
                && let Some(message) = end.outbox.take()
            {
                is_written = channel.write(true, &message)?;
                is_full = !is_written;
                if is_full {
                    end.outbox.put_back(message);
                }
            }
            let is_in_flight = channel.is_some_and(|mut channel| channel.buffered_amount() > 0);
            if end.outbox.confirm(is_in_flight) {
                end.port.on_writable();
            }
            if !end.outbox.is_busy() {
                self.busy.remove(&id);
            }
            if is_written {
                self.last_served = id;
                return Ok(true);
            }
            if is_full {
                return Ok(false);
            }
        }
        Ok(false)
    }

    pub(super) fn on_open(&mut self, rtc: &mut Rtc, channel: ChannelId, label: &str) {
        if let Some(stream) = self.by_channel.get(&channel).and_then(|id| self.streams.get(id)) {
            stream.end.outbox.open();
            stream.end.port.on_writable();
            return;
        }
        let is_init = label == INIT_LABEL;
        let remote = self.streams.values().filter(|stream| !stream.end.is_local).count();
        if is_init || remote + self.left_to_peer.len() >= MAX_STREAMS_PER_SIDE {
            if !is_init {
                self.counters.refused_streams();
            }
            rtc.direct_api().close_data_channel(channel);
            return;
        }
        let (stream, end) = self.link.new_stream(false);
        end.outbox.open();
        self.add(channel, end);
        self.link.accepted(stream);
    }

    pub(super) fn on_data(&mut self, data: &ChannelData) {
        let Some(stream) = self.by_channel.get(&data.id).and_then(|id| self.streams.get(id)) else { return };
        if data.binary {
            stream.end.port.on_message(&data.data);
        } else {
            tracing::debug!("text message on a libp2p data channel");
            self.abort(stream.end.id);
        }
    }

    pub(super) fn on_close(&mut self, channel: ChannelId) {
        self.left_to_peer.retain(|(_, left)| *left != channel);
        if let Some(id) = self.by_channel.remove(&channel) {
            self.abort(id);
        }
    }

    /// Forgets the stream if it is over; otherwise, its user having dropped it, gives it some time.
    pub(super) fn reap(&mut self, rtc: &mut Rtc, id: u64, now: Instant) {
        let Some(stream) = self.streams.get(&id) else { return };
        if stream.end.port.is_over() {
            // The channel stays known until both sides have closed it; what comes on it is dropped.
            if stream.end.is_local {
                self.link.local_stream_over();
                rtc.direct_api().close_data_channel(stream.channel);
            } else if self.by_channel.contains_key(&stream.channel) {
                self.left_to_peer.push_back((now + FIN_ACK_TIMEOUT, stream.channel));
            }
            self.streams.remove(&id);
            self.busy.remove(&id);
        } else if stream.end.port.is_detached() {
            self.lingering.push_back((now + FIN_ACK_TIMEOUT, id));
        }
    }

    /// When the next stream has lingered long enough.
    pub(super) fn next_abort(&self) -> Option<Instant> {
        let next = [self.lingering.front().map(|(at, _)| *at), self.left_to_peer.front().map(|(at, _)| *at)];
        next.into_iter().flatten().min()
    }

    /// Closes the streams and channels that have lingered long enough.
    pub(super) fn abort_due(&mut self, rtc: &mut Rtc, now: Instant) {
        while let Some((at, channel)) = self.left_to_peer.front().copied()
            && at <= now
        {
            self.left_to_peer.pop_front();
            rtc.direct_api().close_data_channel(channel);
        }
        while let Some((at, id)) = self.lingering.front().copied()
            && at <= now
        {
            self.lingering.pop_front();
            self.abort(id);
        }
    }

    /// Closes a stream, whatever it still waits for.
    fn abort(&self, id: u64) {
        if let Some(stream) = self.streams.get(&id) {
            stream.end.close();
        }
    }
}

/// The connection is over, and with it all streams.
impl Drop for Streams {
    fn drop(&mut self) {
        for stream in self.streams.values() {
            stream.end.close();
        }
    }
}
