//! Who may forward next: one rate for the whole relay, shared fairly.
//!
//! Streams pay for what they have sent, a quantum at a time. Who pays while the relay is below its rate goes on
//! at once; beyond it streams stand in line. Origins take turns. Among the streams of one origin the connection
//! that forwarded least in the last seconds comes first, and on it the stream that did (least attained service:
//! Rai, Urvoy-Keller, Biersack, "Analysis of LAS scheduling for job size distributions with high variance",
//! 2003). So a transfer cannot starve a handshake or a token of a running answer: those have sent little.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use cdi_platform::time::Instant;
use futures::task::AtomicWaker;
use tokio::sync::Notify;

use crate::origin::Origin;
use crate::stop::Stop;
use cdi_net::rate::{Bucket, Rate};

/// Bytes that a stream sends before it pays, so that short exchanges never wait.
pub(crate) const QUANTUM_BYTES: usize = 16 * 1024;
/// What was sent this long ago counts half.
const HALF_LIFE: Duration = Duration::from_secs(2);
/// Shortest sleep between two rounds of grants. Timers of the system are no finer.
const ROUND: Duration = Duration::from_millis(1);

/// Bytes of late, fading with time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Attained {
    bytes: f64,
    at: Instant,
}

impl Attained {
    /// Nothing yet.
    pub(crate) const fn nothing(now: Instant) -> Self {
        Self { bytes: 0.0, at: now }
    }

    /// Adds what was sent just now, and tells how much that makes.
    fn add(&mut self, bytes: usize, now: Instant) -> u64 {
        let age = now.saturating_duration_since(self.at).as_secs_f64() / HALF_LIFE.as_secs_f64();
        #[allow(clippy::cast_precision_loss, reason = "a figure to compare, far below 2^53")]
        let added = bytes as f64;
        self.bytes = self.bytes.mul_add((-age).exp2(), added);
        self.at = now;
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole bytes, never negative")]
        let whole = self.bytes as u64;
        whole
    }
}

/// A place in line.
#[derive(Debug)]
struct Place {
    bytes: usize,
    granted: Arc<Granted>,
}

/// Says to a stream that its turn came.
#[derive(Debug, Default)]
struct Granted {
    done: std::sync::atomic::AtomicBool,
    waker: AtomicWaker,
}

/// Connection first, then stream, then whoever came first.
type Order = (u64, u64, u64);

/// Who waits. Pure: bytes and times go in, turns come out.
#[derive(Debug)]
struct Queue {
    rate: Rate,
    bucket: Bucket,
    waiting: HashMap<Origin, BTreeMap<Order, Place>>,
    turns: VecDeque<Origin>,
    number: u64,
}

impl Queue {
    fn new(rate: Rate, now: Instant) -> Self {
        let waiting = HashMap::new();
        Self { rate, bucket: Bucket::full(rate, now), waiting, turns: VecDeque::new(), number: 0 }
    }

    /// Pays at once, if nobody waits and the relay is below its rate.
    fn pay_now(&mut self, bytes: usize, now: Instant) -> bool {
        let pays = self.turns.is_empty() && self.bucket.fill(self.rate, now) > 0.0;
        if pays {
            self.charge(bytes);
        }
        pays
    }

    fn charge(&mut self, bytes: usize) {
        #[allow(clippy::cast_precision_loss, reason = "a quantum, far below 2^53")]
        self.bucket.charge(bytes as f64);
    }

    /// Joins the line; the result leaves it again.
    fn join(&mut self, origin: Origin, connection: u64, stream: u64, place: Place) -> Order {
        self.number += 1;
        let order = (connection, stream, self.number);
        let places = self.waiting.entry(origin).or_default();
        if places.is_empty() {
            self.turns.push_back(origin);
        }
        places.insert(order, place);
        order
    }

    fn leave(&mut self, origin: Origin, order: &Order) {
        let Some(places) = self.waiting.get_mut(&origin) else { return };
        places.remove(order);
        if places.is_empty() {
            self.waiting.remove(&origin);
            self.turns.retain(|o| *o != origin);
        }
    }

    /// The next in line, if the rate allows one.
    fn next(&mut self, now: Instant) -> Option<Place> {
        if self.bucket.fill(self.rate, now) <= 0.0 {
            return None;
        }
        let origin = self.turns.pop_front()?;
        let places = self.waiting.get_mut(&origin)?;
        let (_, place) = places.pop_first()?;
        if places.is_empty() {
            self.waiting.remove(&origin);
        } else {
            self.turns.push_back(origin);
        }
        self.charge(place.bytes);
        Some(place)
    }
}

/// The line of a relay. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Line(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    joined: Notify,
}

impl Line {
    /// A line for this many bytes a second.
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        #[allow(clippy::cast_precision_loss, reason = "a rate needs no more than 53 bits")]
        let per_second = bytes_per_second.max(1) as f64;
        // A tenth of a second: what a switch on the way would take.
        let rate = Rate { burst: per_second / 10.0, per_second };
        let queue = Mutex::new(Queue::new(rate, Instant::now()));
        Self(Arc::new(Shared { queue, joined: Notify::new() }))
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // Whole between any two statements that can panic.
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives turns to those who wait, until the relay stops.
    pub(crate) async fn run(self, mut stop: Stop) {
        loop {
            tokio::select! {
                () = self.0.joined.notified() => {}
                () = stop.requested() => return,
            }
            while let Some(pause) = self.serve() {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = stop.requested() => return,
                }
            }
        }
    }

    /// Gives all turns that are due. How long until the next ones, if somebody still waits.
    fn serve(&self) -> Option<Duration> {
        let mut queue = self.queue();
        while let Some(place) = queue.next(Instant::now()) {
            place.granted.done.store(true, std::sync::atomic::Ordering::Release);
            place.granted.waker.wake();
        }
        (!queue.turns.is_empty()).then(|| queue.bucket.until_positive(queue.rate).max(ROUND))
    }
}

/// What one stream owes.
#[derive(Debug)]
pub(crate) struct Account {
    line: Line,
    origin: Origin,
    connection: Arc<Mutex<Attained>>,
    stream: Attained,
    owed: usize,
    standing: Option<(Order, Arc<Granted>)>,
}

impl Account {
    /// An account of a new stream on `connection`.
    pub(crate) fn new(line: Line, origin: Origin, connection: Arc<Mutex<Attained>>) -> Self {
        Self { line, origin, connection, stream: Attained::nothing(Instant::now()), owed: 0, standing: None }
    }

    /// Notes bytes that were sent.
    pub(crate) fn owe(&mut self, bytes: usize) {
        self.owed += bytes;
    }

    /// Ready when the stream may go on. Whether it had to stand in line.
    pub(crate) fn poll_settle(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if let Some((_, granted)) = &self.standing {
            granted.waker.register(cx.waker());
            if !granted.done.load(std::sync::atomic::Ordering::Acquire) {
                return Poll::Pending;
            }
            self.standing = None;
            return Poll::Ready(true);
        }
        if self.owed < QUANTUM_BYTES {
            return Poll::Ready(false);
        }
        let (bytes, now) = (std::mem::take(&mut self.owed), Instant::now());
        let connection = self.connection.lock().unwrap_or_else(PoisonError::into_inner).add(bytes, now);
        let stream = self.stream.add(bytes, now);
        let mut queue = self.line.queue();
        if queue.pay_now(bytes, now) {
            return Poll::Ready(false);
        }
        let granted = Arc::new(Granted::default());
        granted.waker.register(cx.waker());
        let order = queue.join(self.origin, connection, stream, Place { bytes, granted: granted.clone() });
        drop(queue);
        self.standing = Some((order, granted));
        self.line.0.joined.notify_one();
        Poll::Pending
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        let mut queue = self.line.queue();
        if let Some((order, _)) = &self.standing {
            queue.leave(self.origin, order);
        }
        // What is left is paid without waiting, or many short streams would be one free long one.
        queue.charge(self.owed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const RATE: Rate = Rate { burst: 1000.0, per_second: 1000.0 };

    fn origin(last: u8) -> Origin {
        Origin::of(Ipv4Addr::new(192, 0, 2, last).into())
    }

    fn place(bytes: usize) -> Place {
        Place { bytes, granted: Arc::default() }
    }

    /// The sizes in the order of their turns, each a moment after the one before is paid.
    fn served(queue: &mut Queue, now: &mut Instant) -> Vec<usize> {
        let mut order = Vec::new();
        while !queue.turns.is_empty() {
            *now += Duration::from_millis(10);
            order.extend(std::iter::from_fn(|| queue.next(*now)).map(|p| p.bytes));
        }
        order
    }

    #[test]
    fn below_the_rate_nobody_waits_and_beyond_it_everybody_does() {
        let now = Instant::now();
        let mut queue = Queue::new(RATE, now);
        assert!(queue.pay_now(600, now) && queue.pay_now(600, now), "the last one may overdraw");
        assert!(!queue.pay_now(1, now));
        assert!(!queue.pay_now(1, now + Duration::from_millis(100)));
        assert!(queue.pay_now(1, now + Duration::from_millis(300)), "the debt is paid off");
    }

    #[test]
    fn origins_take_turns() {
        let mut now = Instant::now();
        let mut queue = Queue::new(RATE, now);
        queue.charge(2000);
        for number in 0..4 {
            queue.join(origin(1), 0, number, place(100));
        }
        queue.join(origin(2), 0, 0, place(200));
        queue.join(origin(3), 0, 0, place(300));
        assert_eq!(served(&mut queue, &mut now), [100, 200, 300, 100, 100, 100]);
        assert!(queue.waiting.is_empty());
    }

    #[test]
    fn who_had_least_comes_first_within_an_origin() {
        let mut now = Instant::now();
        let mut queue = Queue::new(RATE, now);
        queue.charge(2000);
        queue.join(origin(1), 5_000, 5_000, place(1));
        queue.join(origin(1), 5_000, 10, place(2));
        queue.join(origin(1), 20, 20, place(3));
        assert_eq!(served(&mut queue, &mut now), [3, 2, 1], "a quiet connection, then a quiet stream of a busy one");
    }

    #[test]
    fn who_leaves_is_not_served() {
        let mut now = Instant::now();
        let mut queue = Queue::new(RATE, now);
        queue.charge(2000);
        let order = queue.join(origin(1), 0, 0, place(1));
        queue.join(origin(2), 0, 0, place(2));
        queue.leave(origin(1), &order);
        assert_eq!(served(&mut queue, &mut now), [2]);
    }

    #[test]
    fn what_was_sent_fades() {
        let start = Instant::now();
        let mut attained = Attained::nothing(start);
        assert_eq!(attained.add(1000, start), 1000);
        assert_eq!(attained.add(0, start + HALF_LIFE), 500);
        assert_eq!(attained.add(0, start + HALF_LIFE * 3), 125);
    }

    /// A transfer and a handshake over one line: the handshake is through long before the transfer, and the
    /// transfer does not exceed the rate.
    #[tokio::test]
    async fn a_transfer_does_not_hold_up_a_handshake() {
        let line = Line::new(1 << 20);
        let (_stopper, stop) = crate::stop::channel();
        let turns = tokio::spawn(line.clone().run(stop));
        let send = |last: u8, bytes: usize| {
            let connection = Arc::new(Mutex::new(Attained::nothing(Instant::now())));
            let mut account = Account::new(line.clone(), origin(last), connection);
            async move {
                let started = Instant::now();
                for _ in 0..bytes / QUANTUM_BYTES {
                    account.owe(QUANTUM_BYTES);
                    std::future::poll_fn(|cx| account.poll_settle(cx)).await;
                }
                started.elapsed()
            }
        };
        let transfers = [tokio::spawn(send(1, 1 << 20)), tokio::spawn(send(1, 1 << 20))];
        let handshake = send(2, 2 * QUANTUM_BYTES).await;
        let mut slowest = Duration::ZERO;
        for transfer in transfers {
            slowest = slowest.max(transfer.await.expect("ends"));
        }
        assert!(slowest >= Duration::from_millis(1500), "2 MiB at 1 MiB/s took {slowest:?}");
        assert!(handshake < slowest / 4, "the handshake took {handshake:?}, the transfers {slowest:?}");
        turns.abort();
    }
}
