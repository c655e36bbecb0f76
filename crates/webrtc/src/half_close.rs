//! The state of one libp2p stream over a data channel: half-close, FIN/FIN_ACK, STOP_SENDING, RESET.
//!
//! Sans-io: bytes from the channel go into [`StreamState::receive`], frames for the channel come
//! out of [`StreamState::write`] and [`StreamState::next_control`]. The two directions are
//! independent until one of the two peers resets the stream.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

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
        Ok(framing::encode_payload(data))
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

#[cfg(all(test, not(target_arch = "wasm32")))]
mod tests {
    use proptest::strategy::Strategy as _;

    use super::*;
    use crate::framing::{MAX_PAYLOAD_BYTES, encode_flag, encode_payload};

    fn stream() -> StreamState {
        StreamState::new(UnreadBudget::default())
    }

    fn controls(state: &mut StreamState) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| state.next_control()).collect()
    }

    fn read_all(state: &mut StreamState) -> (Vec<u8>, ReadOutcome) {
        let (mut bytes, mut buffer) = (Vec::new(), [0; 100]);
        loop {
            match state.read(&mut buffer) {
                ReadOutcome::Bytes(count) => bytes.extend_from_slice(&buffer[..count]),
                outcome => return (bytes, outcome),
            }
        }
    }

    #[test]
    fn fin_is_acknowledged_and_both_sides_finish() {
        let (mut a, mut b) = (stream(), stream());
        let (frame, taken) = a.write(b"hello").unwrap();
        assert_eq!(taken, 5);
        b.receive(&frame);
        a.close_write();
        assert_eq!(a.write(b"more"), Err(StreamError::WriteAfterClose));
        assert_eq!(a.is_write_confirmed(), Ok(false));
        controls(&mut a).iter().for_each(|frame| b.receive(frame));
        assert_eq!(read_all(&mut b), (b"hello".to_vec(), ReadOutcome::EndOfStream));
        controls(&mut b).iter().for_each(|frame| a.receive(frame));
        assert_eq!(a.is_write_confirmed(), Ok(true));
        assert!(!a.is_done() && !b.is_done(), "half closed");

        b.receive(&[]);
        a.receive(&b.write(b"answer").unwrap().0);
        b.close_write();
        controls(&mut b).iter().for_each(|frame| a.receive(frame));
        controls(&mut a).iter().for_each(|frame| b.receive(frame));
        assert_eq!(read_all(&mut a), (b"answer".to_vec(), ReadOutcome::EndOfStream));
        assert!(a.is_done() && b.is_done());
    }

    #[test]
    fn what_was_received_before_a_reset_is_delivered() {
        let mut state = stream();
        state.receive(&encode_payload(b"kept").0);
        state.receive(&encode_flag(Flag::Reset));
        state.receive(&encode_payload(b"ignored").0);
        assert_eq!(read_all(&mut state), (b"kept".to_vec(), ReadOutcome::Failed(StreamError::ResetByPeer)));
        assert_eq!(state.may_write(), Err(StreamError::ResetByPeer));
        assert!(state.is_done() && controls(&mut state).is_empty(), "a reset is not answered");
    }

    #[test]
    fn stop_sending_ends_writes_but_not_the_closing_handshake() {
        let mut state = stream();
        state.receive(&encode_flag(Flag::StopSending));
        assert_eq!(state.may_write(), Err(StreamError::StoppedByPeer));
        state.close_write();
        assert_eq!(controls(&mut state), [encode_flag(Flag::Fin)]);
        state.receive(&encode_flag(Flag::FinAck));
        assert_eq!(state.is_write_confirmed(), Ok(true));
    }

    #[test]
    fn dropping_a_stream_says_what_it_means() {
        let mut open = stream();
        open.detach();
        assert_eq!(controls(&mut open), [encode_flag(Flag::Reset)]);
        assert!(open.is_done());

        let mut we_finished = stream();
        we_finished.close_write();
        we_finished.detach();
        assert_eq!(controls(&mut we_finished), [encode_flag(Flag::Fin), encode_flag(Flag::StopSending)]);
        we_finished.receive(&encode_payload(b"discarded").0);
        we_finished.receive(&encode_flag(Flag::FinAck));
        we_finished.receive(&encode_flag(Flag::Fin));
        assert_eq!(controls(&mut we_finished), [encode_flag(Flag::FinAck)]);
        assert!(we_finished.is_done());

        let mut they_finished = stream();
        they_finished.receive(&encode_flag(Flag::Fin));
        they_finished.detach();
        assert_eq!(controls(&mut they_finished), [encode_flag(Flag::FinAck), encode_flag(Flag::Fin)]);
    }

    #[test]
    fn violations_reset_the_stream_once() {
        let mut late = stream();
        late.receive(&encode_flag(Flag::Fin));
        assert_eq!(controls(&mut late), [encode_flag(Flag::FinAck)]);
        for _ in 0..3 {
            late.receive(&encode_payload(b"late").0);
        }
        assert_eq!(controls(&mut late), [encode_flag(Flag::Reset)]);
        assert_eq!(late.may_write(), Err(StreamError::DataAfterFin));

        let mut garbage = stream();
        garbage.receive(&[0xff; 300]);
        assert_eq!(controls(&mut garbage), [encode_flag(Flag::Reset)]);
        assert_eq!(read_all(&mut garbage).1, ReadOutcome::Failed(StreamError::Frame(FrameError::TooLong)));
    }

    #[test]
    fn unread_bytes_are_bounded_per_stream_and_per_connection() {
        let frame = encode_payload(&[1; MAX_PAYLOAD_BYTES]).0;
        let frames_a_stream = MAX_UNREAD_BYTES / (MAX_PAYLOAD_BYTES + UNREAD_FRAME_OVERHEAD_BYTES);
        let budget = UnreadBudget::default();
        let mut first = StreamState::new(budget.clone());
        for _ in 0..frames_a_stream {
            first.receive(&frame);
            assert_eq!(first.may_write(), Ok(()));
        }
        first.receive(&frame);
        assert_eq!(first.may_write(), Err(StreamError::Unread));

        let mut others: Vec<_> = (0..4).map(|_| StreamState::new(budget.clone())).collect();
        for state in &mut others {
            (0..frames_a_stream).for_each(|_| state.receive(&frame));
        }
        assert!(budget.used_bytes() <= MAX_CONNECTION_UNREAD_BYTES);
        assert_eq!(others[3].may_write(), Err(StreamError::Unread), "the connection's budget is spent");
        let (bytes, outcome) = read_all(&mut first);
        assert_eq!(bytes.len(), frames_a_stream * MAX_PAYLOAD_BYTES, "what was accepted is delivered");
        assert_eq!(outcome, ReadOutcome::Failed(StreamError::Unread));
        drop((first, others));
        assert_eq!(budget.used_bytes(), 0);
    }

    #[test]
    fn tiny_frames_are_charged_for_their_overhead() {
        let mut state = stream();
        let frame = encode_payload(&[1]).0;
        let message = frame.repeat(1000);
        for _ in 0..MAX_UNREAD_BYTES / (1 + UNREAD_FRAME_OVERHEAD_BYTES) / 1000 + 1 {
            state.receive(&message);
        }
        assert_eq!(state.may_write(), Err(StreamError::Unread));
    }

    #[test]
    fn a_channel_that_closes_early_is_an_error_unless_the_stream_was_finished() {
        let mut cut = stream();
        cut.receive(&encode_payload(b"half").0);
        cut.close_write();
        cut.channel_closed();
        assert_eq!(read_all(&mut cut), (b"half".to_vec(), ReadOutcome::Failed(StreamError::ChannelClosed)));
        assert_eq!(cut.is_write_confirmed(), Err(StreamError::ChannelClosed));

        let mut finished = stream();
        finished.receive(&encode_flag(Flag::Fin));
        finished.close_write();
        finished.receive(&encode_flag(Flag::FinAck));
        finished.channel_closed();
        assert_eq!(read_all(&mut finished).1, ReadOutcome::EndOfStream);
        assert_eq!(finished.is_write_confirmed(), Ok(true));
    }

    proptest::proptest! {
        #[test]
        fn hostile_messages_never_panic_or_exceed_the_bounds(messages in proptest::collection::vec(
            proptest::prop_oneof![
                proptest::collection::vec(0_u8.., 0..40),
                (0..5_i32).prop_map(|flag| vec![2, 8, u8::try_from(flag).unwrap()]),
                proptest::collection::vec(0_u8.., 0..400).prop_map(|data| encode_payload(&data).0),
            ], 0..30,
        ), local in proptest::collection::vec(0..5_u8, 0..30)) {
            let mut state = stream();
            let mut resets = 0;
            for (message, action) in messages.iter().zip(local.iter().cycle().chain(std::iter::repeat(&0))) {
                state.receive(message);
                match action {
                    1 => state.close_write(),
                    2 => drop(read_all(&mut state)),
                    3 => drop(state.write(&[1, 2, 3])),
                    _ => {}
                }
                let sent = controls(&mut state);
                proptest::prop_assert!(sent.len() <= 4);
                resets += sent.iter().filter(|frame| **frame == encode_flag(Flag::Reset)).count();
            }
            proptest::prop_assert!(resets <= 1);
        }
    }
}
