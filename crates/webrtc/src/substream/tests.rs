//! Two streams over a simulated pair of data channels, driven by random chunking and scheduling.

use std::collections::VecDeque;

use futures::executor::LocalPool;
use futures::task::LocalSpawnExt as _;
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use proptest::prelude::*;

use super::*;
use crate::framing::{Flag, encode_flag};

/// One direction of the simulated network: what `send` put in and nobody has delivered.
#[derive(Default)]
struct Wire {
    in_flight: VecDeque<u8>,
    is_open: bool,
    is_closed: bool,
    wants_drained: bool,
}

#[derive(Clone, Default)]
struct FakeChannel(Arc<Mutex<Wire>>);

impl DataChannel for FakeChannel {
    fn readiness(&self) -> Readiness {
        let wire = lock(&self.0);
        match (wire.is_closed, wire.is_open) {
            (true, _) => Readiness::Closed,
            (false, true) => Readiness::Open,
            (false, false) => Readiness::Connecting,
        }
    }
    fn buffered_bytes(&self) -> usize {
        lock(&self.0).in_flight.len()
    }
    fn send(&mut self, message: &[u8]) -> Result<(), SendRefused> {
        if self.readiness() != Readiness::Open {
            return Err(SendRefused);
        }
        lock(&self.0).in_flight.extend(message);
        Ok(())
    }
    fn want_drained(&mut self) {
        lock(&self.0).wants_drained = true;
    }
    fn close(&mut self) {
        let mut wire = lock(&self.0);
        wire.is_closed = true;
        wire.in_flight.clear();
    }
}

/// One end: its channel (outgoing wire) and the port for its events.
struct End {
    channel: FakeChannel,
    port: Port<FakeChannel>,
    attention: Attention,
    budget: UnreadBudget,
    saw_close: bool,
}

fn end() -> (Substream<FakeChannel>, End) {
    let (channel, attention, budget) = (FakeChannel::default(), Attention::default(), UnreadBudget::default());
    let (stream, port) = substream(7, channel.clone(), budget.clone(), attention.clone());
    (stream, End { channel, port, attention, budget, saw_close: false })
}

/// Delivers up to `count` bytes from `from` to `to` as one message, with the events of a browser:
/// "buffered amount low" only when the threshold is crossed, "close" after what was on the wire.
fn deliver(from: &End, to: &mut End, count: usize) -> bool {
    let (chunk, crossed, ended) = {
        let mut wire = lock(&from.channel.0);
        let before = wire.in_flight.len();
        let chunk: Vec<u8> = wire.in_flight.drain(..count.min(before)).collect();
        let threshold = if wire.wants_drained { 0 } else { LOW_WATER_BYTES };
        let crossed = before > threshold && wire.in_flight.len() <= threshold;
        (chunk, crossed, wire.is_closed && wire.in_flight.is_empty())
    };
    if !chunk.is_empty() {
        to.port.on_message(&chunk);
    }
    if crossed {
        from.port.on_writable();
    }
    if ended && !to.saw_close {
        to.saw_close = true;
        to.channel.close();
        to.port.on_closed();
        return true;
    }
    !chunk.is_empty()
}

fn open(end: &End) {
    lock(&end.channel.0).is_open = true;
    end.port.on_writable();
}

fn pattern(length: usize, seed: u8) -> Vec<u8> {
    (0..length).map(|index| seed.wrapping_add(u8::try_from(index % 251).unwrap())).collect()
}

/// Writes everything in pieces, closes, and meanwhile reads to the end.
async fn converse(
    stream: Substream<FakeChannel>,
    send: Vec<u8>,
    piece: usize,
    result: Arc<Mutex<Option<io::Result<Vec<u8>>>>>,
) {
    let (mut reader, mut writer) = stream.split();
    let write = async {
        for part in send.chunks(piece) {
            writer.write_all(part).await?;
        }
        writer.close().await
    };
    let mut received = Vec::new();
    let outcome = futures::try_join!(write, reader.read_to_end(&mut received)).map(|_| received);
    *lock(&result) = Some(outcome);
}

/// Runs two peers to the end over a network that cuts its bytes at `cuts`.
/// A task that is not finished although nothing moves any more is a hang.
fn run(lengths: (usize, usize), pieces: (usize, usize), cuts: &[usize]) -> (Vec<u8>, Vec<u8>) {
    let mut pool = LocalPool::new();
    let ((stream_a, mut a), (stream_b, mut b)) = (end(), end());
    let results = (Arc::new(Mutex::new(None)), Arc::new(Mutex::new(None)));
    let spawner = pool.spawner();
    spawner.spawn_local(converse(stream_a, pattern(lengths.0, 1), pieces.0, Arc::clone(&results.0))).unwrap();
    spawner.spawn_local(converse(stream_b, pattern(lengths.1, 2), pieces.1, Arc::clone(&results.1))).unwrap();
    pool.run_until_stalled();
    open(&a);
    let mut cuts = cuts.iter().cycle();
    let mut next = || *cuts.next().unwrap();
    let mut is_b_open = false;
    loop {
        pool.run_until_stalled();
        assert!(a.channel.buffered_bytes() <= SEND_WINDOW_BYTES + crate::framing::MAX_FRAME_BYTES);
        let (first, second) = if next() % 2 == 0 { (&mut a, &mut b) } else { (&mut b, &mut a) };
        if deliver(first, second, next()) || deliver(second, first, next()) {
            continue;
        }
        if is_b_open {
            break;
        }
        is_b_open = true;
        open(&b);
    }
    assert!(a.port.is_over() && b.port.is_over(), "both channels closed themselves");
    assert_eq!((a.budget.used_bytes(), b.budget.used_bytes()), (0, 0));
    let take = |slot: &Mutex<Option<io::Result<Vec<u8>>>>| lock(slot).take().expect("the peer hangs").unwrap();
    (take(&results.0), take(&results.1))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_byte_arrives_and_both_sides_close(
        lengths in (0_usize..600_000, 0_usize..40_000),
        pieces in (1_usize..70_000, 100_usize..70_000),
        cuts in proptest::collection::vec(1_usize..40_000, 2..60),
    ) {
        let pieces = (pieces.0.max(lengths.0 / 500 + 1), pieces.1);
        let (at_a, at_b) = run(lengths, pieces, &cuts);
        prop_assert!(at_a == pattern(lengths.1, 2), "b to a");
        prop_assert!(at_b == pattern(lengths.0, 1), "a to b");
    }
}

#[test]
fn one_byte_messages_work_too() {
    let (at_a, at_b) = run((300, 200), (1, 7), &[1]);
    assert_eq!((at_a, at_b), (pattern(200, 2), pattern(300, 1)));
}

fn poll_once<F: Future>(future: F) -> Poll<F::Output> {
    let mut future = std::pin::pin!(future);
    future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

#[test]
fn a_write_waits_for_the_window_and_a_closed_channel_wakes_it() {
    let (mut stream, end) = end();
    open(&end);
    let mut written = 0;
    while let Poll::Ready(count) = poll_once(stream.write(&[0; 60_000])) {
        written += count.unwrap();
    }
    assert!((SEND_WINDOW_BYTES..SEND_WINDOW_BYTES + 20_000).contains(&written), "{written}");

    let mut pool = LocalPool::new();
    let outcome = Arc::new(Mutex::new(None));
    let slot = Arc::clone(&outcome);
    let task = async move {
        let write = stream.write_all(&[0; 10]).await;
        *lock(&slot) = Some(write);
    };
    pool.spawner().spawn_local(task).unwrap();
    pool.run_until_stalled();
    assert!(lock(&outcome).is_none());
    end.port.on_closed();
    pool.run_until_stalled();
    let error = lock(&outcome).take().unwrap().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted);
}

/// Polling `close` again must not wake its own task: that would spin until FIN_ACK comes.
#[test]
fn close_is_pending_without_spinning_until_fin_ack() {
    let (mut stream, end) = end();
    open(&end);
    let mut pool = LocalPool::new();
    let polls = Arc::new(Mutex::new(0));
    let counter = Arc::clone(&polls);
    let done = Arc::new(Mutex::new(false));
    let flag = Arc::clone(&done);
    let task = async move {
        futures::future::poll_fn(|cx| {
            *lock(&counter) += 1;
            assert!(*lock(&counter) < 10, "spinning");
            let _ = Pin::new(&mut stream).poll_close(cx)?;
            Pin::new(&mut stream).poll_close(cx)
        })
        .await
        .unwrap();
        *lock(&flag) = true;
    };
    pool.spawner().spawn_local(task).unwrap();
    pool.run_until_stalled();
    assert!(!*lock(&done));
    end.port.on_message(&encode_flag(Flag::FinAck));
    pool.run_until_stalled();
    assert!(*lock(&done));
}

#[test]
fn a_dropped_stream_is_reported_and_still_answers() {
    let (mut stream, end) = end();
    let mut cx = Context::from_waker(Waker::noop());
    open(&end);
    assert!(poll_once(stream.close()).is_pending());
    assert_eq!(end.attention.poll_next(&mut cx), Poll::Pending);
    drop(stream);
    assert_eq!(end.attention.poll_next(&mut cx), Poll::Ready(7));
    assert!(end.port.is_detached() && !end.port.is_over());
    end.port.on_message(&encode_flag(Flag::Fin));
    end.port.on_message(&encode_flag(Flag::FinAck));
    assert!(!end.port.is_over(), "closing now would lose the FIN_ACK that is still buffered");
    let wire: Vec<u8> = lock(&end.channel.0).in_flight.drain(..).collect();
    let expected: Vec<u8> = [Flag::Fin, Flag::StopSending, Flag::FinAck].into_iter().flat_map(encode_flag).collect();
    assert_eq!(wire, expected);
    end.port.on_writable();
    assert!(end.port.is_over() && end.channel.readiness() == Readiness::Closed);
    assert_eq!(end.attention.poll_next(&mut cx), Poll::Ready(7));
}

#[test]
fn errors_keep_their_kind() {
    let (mut stream, end) = end();
    open(&end);
    end.port.on_message(&encode_flag(Flag::Reset));
    let Poll::Ready(Err(error)) = poll_once(stream.read(&mut [0; 4])) else { panic!("not an error") };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    let Poll::Ready(Err(error)) = poll_once(stream.write(&[1])) else { panic!("not an error") };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}
