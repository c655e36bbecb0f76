//! One data channel: what a stream hands over, and what waits for `str0m` to take it.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::substream::{DataChannel, LOW_WATER_BYTES, Readiness, SendRefused};

/// Tells the driver of a connection that something wants to be done, and for which streams.
#[derive(Debug, Default)]
pub(super) struct Doorbell {
    /// Bounded by the streams of the connection.
    streams: Mutex<BTreeSet<u64>>,
    bell: Notify,
}

impl Doorbell {
    /// Something concerns the whole connection.
    pub(super) fn ring(&self) {
        self.bell.notify_one();
    }

    fn ring_for(&self, stream: u64) {
        lock(&self.streams).insert(stream);
        self.bell.notify_one();
    }

    /// The streams that have rung since the last call.
    pub(super) fn answer(&self) -> BTreeSet<u64> {
        std::mem::take(&mut lock(&self.streams))
    }

    /// Ready when somebody has rung. Never misses a ring that came before.
    pub(super) async fn heard(&self) {
        self.bell.notified().await;
    }
}

#[derive(Debug)]
struct State {
    readiness: Readiness,
    /// Messages that `str0m` has not taken yet. Bounded by the send window and four flags.
    queue: VecDeque<Vec<u8>>,
    queued_bytes: usize,
    /// Messages that `str0m` has and the peer has not confirmed.
    is_in_flight: bool,
    low_water_bytes: usize,
    /// The stream waits for the queue to sink to its low-water mark.
    is_high: bool,
}

impl State {
    /// What is in flight counts as one byte: enough to hold up a close, which would discard it, and too little
    /// to hold up a writer. `str0m` counts bytes until they are confirmed, so that a window that took them into
    /// account would be a limit a round trip.
    fn buffered_bytes(&self) -> usize {
        self.queued_bytes + usize::from(self.is_in_flight)
    }
}

/// What stream and driver share.
#[derive(Debug)]
pub(super) struct Outbox {
    stream: u64,
    state: Mutex<State>,
    doorbell: Arc<Doorbell>,
}

/// The channel as its stream sees it.
#[derive(Debug)]
pub struct NativeChannel(Arc<Outbox>);

impl NativeChannel {
    pub(super) fn new(stream: u64, doorbell: Arc<Doorbell>) -> (Self, Arc<Outbox>) {
        let state = State {
            readiness: Readiness::Connecting,
            queue: VecDeque::new(),
            queued_bytes: 0,
            is_in_flight: false,
            low_water_bytes: LOW_WATER_BYTES,
            is_high: false,
        };
        let outbox = Arc::new(Outbox { stream, state: Mutex::new(state), doorbell });
        (Self(Arc::clone(&outbox)), outbox)
    }
}

impl DataChannel for NativeChannel {
    fn readiness(&self) -> Readiness {
        self.0.lock().readiness
    }

    fn buffered_bytes(&self) -> usize {
        self.0.lock().buffered_bytes()
    }

    fn send(&mut self, message: &[u8]) -> Result<(), SendRefused> {
        self.0.send(message)
    }

    fn want_drained(&mut self) {
        let mut state = self.0.lock();
        state.low_water_bytes = 0;
        state.is_high = state.buffered_bytes() > 0;
    }

    fn close(&mut self) {
        self.0.close();
    }
}

impl Outbox {
    /// Messages can be sent from now on, unless the stream has been closed meanwhile.
    pub(super) fn open(&self) {
        let mut state = self.lock();
        if state.readiness == Readiness::Connecting {
            state.readiness = Readiness::Open;
        }
    }

    pub(super) fn send(&self, message: &[u8]) -> Result<(), SendRefused> {
        let mut state = self.lock();
        if state.readiness != Readiness::Open {
            return Err(SendRefused);
        }
        state.queue.push_back(message.to_vec());
        state.queued_bytes += message.len();
        state.is_high |= state.buffered_bytes() > state.low_water_bytes;
        drop(state);
        self.doorbell.ring_for(self.stream);
        Ok(())
    }

    pub(super) fn close(&self) {
        self.lock().readiness = Readiness::Closed;
        self.doorbell.ring_for(self.stream);
    }

    pub(super) fn is_closed(&self) -> bool {
        self.lock().readiness == Readiness::Closed
    }

    /// The next message.
    pub(super) fn take(&self) -> Option<Vec<u8>> {
        let mut state = self.lock();
        let message = state.queue.pop_front()?;
        state.queued_bytes -= message.len();
        Some(message)
    }

    /// Puts a message back to where it was taken from.
    pub(super) fn put_back(&self, message: Vec<u8>) {
        let mut state = self.lock();
        state.queued_bytes += message.len();
        state.queue.push_front(message);
    }

    /// Takes note of what the peer has not confirmed yet. Returns whether the stream is to be told that
    /// its queue has sunk.
    pub(super) fn confirm(&self, is_in_flight: bool) -> bool {
        let mut state = self.lock();
        state.is_in_flight = is_in_flight;
        let has_sunk = state.is_high && state.buffered_bytes() <= state.low_water_bytes;
        state.is_high &= !has_sunk;
        has_sunk
    }

    /// Whether messages wait or are in flight.
    pub(super) fn is_busy(&self) -> bool {
        self.lock().buffered_bytes() > 0
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// No code panics while it holds one of these locks, so a poisoned one is still consistent.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::substream::SEND_WINDOW_BYTES;

    #[test]
    fn a_stream_is_told_once_when_its_queue_has_sunk() {
        let (mut channel, outbox) = NativeChannel::new(7, Arc::default());
        assert_eq!(channel.send(&[0; 10]), Err(SendRefused), "not open yet");
        outbox.open();
        let message = vec![0; 16 * 1024];
        while channel.buffered_bytes() < SEND_WINDOW_BYTES {
            channel.send(&message).unwrap();
        }
        assert_eq!(outbox.doorbell.answer(), BTreeSet::from([7]));
        let mut told = 0;
        while outbox.take().is_some() {
            told += usize::from(outbox.confirm(true));
        }
        assert_eq!(told, 1);
        assert_eq!(channel.buffered_bytes(), 1, "in flight");

        channel.want_drained();
        assert!(!outbox.confirm(true));
        assert!(outbox.confirm(false), "now it is drained");
        assert!(!outbox.confirm(false), "that is no news");
    }

    #[test]
    fn what_is_put_back_comes_first_again() {
        let (mut channel, outbox) = NativeChannel::new(0, Arc::default());
        outbox.open();
        channel.send(&[1; 100]).unwrap();
        channel.send(&[2; 100]).unwrap();
        let first = outbox.take().unwrap();
        outbox.put_back(first);
        assert_eq!(channel.buffered_bytes(), 200);
        assert_eq!(outbox.take(), Some(vec![1; 100]));
        assert_eq!(outbox.take(), Some(vec![2; 100]));
        assert_eq!(outbox.take(), None);
        channel.close();
        assert!(outbox.is_closed());
        assert_eq!(channel.send(&[1]), Err(SendRefused));
    }
}
