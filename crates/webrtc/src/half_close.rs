//! The state of one libp2p stream over a data channel: half-close, FIN/FIN_ACK, STOP_SENDING, RESET.
//!
//! Sans-io: bytes from the channel go into [`StreamState::receive`], frames for the channel come
//! out of [`StreamState::write`] and [`StreamState::next_control`]. The two directions are
//! independent until one of the two peers resets the stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::frame_size::FrameSize;
use crate::framing::{self, Flag, Frame, FrameDecoder, FrameError};

/// Bytes that one stream may hold unread. The browser gives a receiver no way to slow the sender
/// down, so this must absorb what a peer sends while the reader is busy; 8 MiB passed through a
/// reader that slept 1.5 s. Above it the stream is reset: applications pace themselves by credits.
pub const MAX_UNREAD_BYTES: usize = 16 * 1024 * 1024;

/// Bytes that all streams of one connection may hold unread together.
pub const MAX_CONNECTION_UNREAD_BYTES: usize = 64 * 1024 * 1024;

/// Charged for every unread frame besides its payload, so that a flood of one-byte frames is
/// bounded by what it costs in memory: the list entry and a small allocation.
const UNREAD_FRAME_OVERHEAD_BYTES: usize = 64;

/// The unread bytes of all streams of one connection.
#[derive(Debug, Clone, Default)]
pub struct UnreadBudget(Arc<AtomicUsize>);

impl UnreadBudget {
    /// Unread bytes at present, overheads included.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: usize) -> bool {
        let update = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= MAX_CONNECTION_UNREAD_BYTES);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, update).is_ok()
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Why a stream cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The peer sent [`Flag::Reset`].
    #[error("the peer reset the stream")]
    ResetByPeer,
    /// The peer sent [`Flag::StopSending`]: it does not want more bytes.
    #[error("the peer stopped reading")]
    StoppedByPeer,
    /// The data channel or its connection closed before the stream was finished.
    #[error("the data channel closed before the stream was finished")]
    ChannelClosed,
    /// A write after the local side had closed the stream.
    #[error("write after close")]
    WriteAfterClose,
    /// The peer sent bytes after its [`Flag::Fin`].
    #[error("the peer sent bytes after FIN")]
    DataAfterFin,
    /// More than [`MAX_UNREAD_BYTES`] or [`MAX_CONNECTION_UNREAD_BYTES`] were waiting for the reader.
    #[error("the peer sends faster than the stream is read")]
    Unread,
    /// What the peer sent was not a frame.
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// Outcome of [`StreamState::read`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReadOutcome {
    /// This many bytes, at least one, were copied.
    Bytes(usize),
    /// Nothing there yet; more may come.
    Blocked,
    /// The peer finished its side and everything has been read.
    EndOfStream,
    /// The stream broke; everything received before that has been read.
    Failed(StreamError),
}

/// State of the bytes that we receive.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Inbound {
    Open,
    /// FIN received: what is buffered is all there is.
    Finished,
    /// The local reader has gone: bytes are discarded, flags still count.
    Discarding,
    Failed(StreamError),
}

/// State of the bytes that we send.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Outbound {
    Open,
    /// STOP_SENDING received: only FIN may follow.
    Stopped,
    /// FIN is queued or sent; FIN_ACK has not come.
    AwaitingFinAck,
    Finished,
    Failed(StreamError),
}

/// The state machine of one stream.
#[derive(Debug)]
pub struct StreamState {
    /// The largest frames that we send.
    frames: FrameSize,
    decoder: FrameDecoder,
    inbound: Inbound,
    outbound: Outbound,
    unread: VecDeque<Vec<u8>>,
    /// Bytes of the first entry of `unread` that have been read already.
    first_offset: usize,
    charged_bytes: usize,
    budget: UnreadBudget,
    /// Flags to send, in order. Each is queued at most once, so there are never more than four.
    control: VecDeque<Flag>,
    /// One of the two peers reset the stream: what still arrives means nothing.
    reset: bool,
}

impl StreamState {
    /// A fresh stream, open both ways, whose unread bytes count against `budget`.
    #[must_use]
    pub fn new(budget: UnreadBudget) -> Self {
        Self {
            frames: FrameSize::default(),
            decoder: FrameDecoder::default(),
            inbound: Inbound::Open,
            outbound: Outbound::Open,
            unread: VecDeque::new(),
            first_offset: 0,
            charged_bytes: 0,
            budget,
            control: VecDeque::new(),
            reset: false,
        }
    }

    /// Sends and takes frames of that size, which both ends have agreed to.
    pub fn allow_frames(&mut self, size: FrameSize) {
        self.frames = size;
        self.decoder.allow(size);
    }

    /// Takes the bytes of one data-channel message, however it was chunked.
    ///
    /// A violation by the peer resets the stream; the reader and writer then see the reason.
    pub fn receive(&mut self, mut message: &[u8]) {
        loop {
            if self.reset {
                return;
            }
            let outcome = match self.decoder.next_frame(&mut message) {
                Ok(None) => return,
                Ok(Some(frame)) => self.on_frame(frame),
                Err(error) => Err(error.into()),
            };
            if let Err(error) = outcome {
                self.reset_because(&error);
            }
        }
    }

    fn on_frame(&mut self, frame: Frame) -> Result<(), StreamError> {
        if !frame.payload.is_empty() {
            match self.inbound {
                Inbound::Open => self.store(frame.payload)?,
                Inbound::Finished => return Err(StreamError::DataAfterFin),
                Inbound::Discarding | Inbound::Failed(_) => {}
            }
        }
        match frame.flag {
            Some(Flag::Fin) if matches!(self.inbound, Inbound::Open | Inbound::Discarding) => {
                self.inbound = Inbound::Finished;
                self.control.push_back(Flag::FinAck);
            }
            Some(Flag::FinAck) if self.outbound == Outbound::AwaitingFinAck => self.outbound = Outbound::Finished,
            Some(Flag::StopSending) if self.outbound == Outbound::Open => self.outbound = Outbound::Stopped,
            Some(Flag::Reset) => self.fail(&StreamError::ResetByPeer),
            // Repeated or unsolicited flags carry no news.
            Some(Flag::Fin | Flag::FinAck | Flag::StopSending) | None => {}
        }
        Ok(())
    }

    fn store(&mut self, payload: Vec<u8>) -> Result<(), StreamError> {
        let charge = payload.len() + UNREAD_FRAME_OVERHEAD_BYTES;
        if self.charged_bytes + charge > MAX_UNREAD_BYTES || !self.budget.take(charge) {
            return Err(StreamError::Unread);
        }
        self.charged_bytes += charge;
        self.unread.push_back(payload);
        Ok(())
    }

    /// Copies received bytes into `buffer`, which must not be empty.
    pub fn read(&mut self, buffer: &mut [u8]) -> ReadOutcome {
        let mut copied = 0;
        while let Some(first) = self.unread.front() {
            let rest = &first[self.first_offset..];
            let count = rest.len().min(buffer.len() - copied);
            buffer[copied..copied + count].copy_from_slice(&rest[..count]);
            copied += count;
            if count < rest.len() {
                self.first_offset += count;
                break;
            }
            self.release(first.len() + UNREAD_FRAME_OVERHEAD_BYTES);
            self.unread.pop_front();
            self.first_offset = 0;
        }
        if copied > 0 {
            return ReadOutcome::Bytes(copied);
        }
        match &self.inbound {
            Inbound::Open => ReadOutcome::Blocked,
            Inbound::Finished | Inbound::Discarding => ReadOutcome::EndOfStream,
            Inbound::Failed(error) => ReadOutcome::Failed(error.clone()),
        }
    }

    fn release(&mut self, bytes: usize) {
        self.charged_bytes -= bytes;
        self.budget.give_back(bytes);
    }

    /// Encodes the next frame of `data`, to be sent at once; returns it and the bytes it carries.
    ///
    /// # Errors
    /// When no more bytes can be sent: [`StreamError::StoppedByPeer`], [`StreamError::WriteAfterClose`]
    /// or the reason why the stream broke.
    pub fn write(&mut self, data: &[u8]) -> Result<(Vec<u8>, usize), StreamError> {
        self.may_write()?;
        Ok(framing::encode_payload_within(self.frames, data))
    }

    /// Whether bytes may still be sent.
    ///
    /// # Errors
    /// As [`StreamState::write`].
    pub fn may_write(&self) -> Result<(), StreamError> {
        match &self.outbound {
            Outbound::Open => Ok(()),
            Outbound::Stopped => Err(StreamError::StoppedByPeer),
            Outbound::AwaitingFinAck | Outbound::Finished => Err(StreamError::WriteAfterClose),
            Outbound::Failed(error) => Err(error.clone()),
        }
    }

    /// Finishes our side: queues FIN. Does nothing when that has been done.
    pub fn close_write(&mut self) {
        if matches!(self.outbound, Outbound::Open | Outbound::Stopped) {
            self.outbound = Outbound::AwaitingFinAck;
            self.control.push_back(Flag::Fin);
        }
    }

    /// Whether the peer has confirmed everything up to our FIN; `false` while that is awaited.
    ///
    /// # Errors
    /// The reason why the confirmation will never come.
    pub fn is_write_confirmed(&self) -> Result<bool, StreamError> {
        match &self.outbound {
            Outbound::Finished => Ok(true),
            Outbound::Failed(error) => Err(error.clone()),
            Outbound::Open | Outbound::Stopped | Outbound::AwaitingFinAck => Ok(false),
        }
    }

    /// The local user dropped the stream.
    ///
    /// Open both ways means that it was given up: RESET. If the peer has finished, what was
    /// written still counts: FIN. If only we have finished, the peer is told to stop.
    pub fn detach(&mut self) {
        match (&self.inbound, &self.outbound) {
            (Inbound::Failed(_), _) | (_, Outbound::Failed(_)) => {}
            (Inbound::Open, Outbound::Open | Outbound::Stopped) => {
                self.control.push_back(Flag::Reset);
                self.fail(&StreamError::WriteAfterClose);
            }
            (Inbound::Open, Outbound::AwaitingFinAck | Outbound::Finished) => {
                self.inbound = Inbound::Discarding;
                self.control.push_back(Flag::StopSending);
            }
            (Inbound::Finished | Inbound::Discarding, _) => self.close_write(),
        }
        self.discard_unread();
    }

    /// The data channel has gone: whatever was not finished will never be.
    pub fn channel_closed(&mut self) {
        self.control.clear();
        if matches!(self.inbound, Inbound::Open | Inbound::Discarding) {
            self.inbound = Inbound::Failed(StreamError::ChannelClosed);
        }
        if !matches!(self.outbound, Outbound::Finished | Outbound::Failed(_)) {
            self.outbound = Outbound::Failed(StreamError::ChannelClosed);
        }
    }

    /// The next flag frame to send, ahead of any later payload.
    pub fn next_control(&mut self) -> Option<Vec<u8>> {
        self.control.pop_front().map(framing::encode_flag)
    }

    /// Whether nothing is left to send or to receive, so that the data channel may be closed.
    #[must_use]
    pub fn is_done(&self) -> bool {
        let inbound_over = matches!(self.inbound, Inbound::Finished | Inbound::Failed(_));
        let outbound_over = matches!(self.outbound, Outbound::Finished | Outbound::Failed(_));
        inbound_over && outbound_over && self.control.is_empty()
    }

    fn reset_because(&mut self, error: &StreamError) {
        self.control.clear();
        self.control.push_back(Flag::Reset);
        self.fail(error);
    }

    fn fail(&mut self, error: &StreamError) {
        self.reset = true;
        // A peer that finished has delivered everything, whatever happens to our own side.
        if self.inbound != Inbound::Finished {
            self.inbound = Inbound::Failed(error.clone());
        }
        if self.outbound != Outbound::Finished {
            self.outbound = Outbound::Failed(error.clone());
        }
    }

    fn discard_unread(&mut self) {
        self.unread.clear();
        self.first_offset = 0;
        self.release(self.charged_bytes);
    }
}

impl Drop for StreamState {
    fn drop(&mut self) {
        self.discard_unread();
    }
}

#[cfg(test)]
#[cfg(not(target_arch = "wasm32"))]
mod tests;
