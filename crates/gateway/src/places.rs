//! Places for answers, and the line before them: who comes first is answered first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::problem::Problem;

/// Answers at a time. Each is a session at every stage of its route, of which a stage serves a few dozen.
const MAX_ANSWERS: u32 = 32;
/// Requests that stand in line. They cost a connection each, and their senders wait.
const MAX_WAITING: u32 = 64;
/// Longest wait: programs give up after a minute or two themselves.
const MAX_WAIT: Duration = Duration::from_secs(60);
/// What an answer takes until the first has told, in milliseconds.
const FIRST_GUESS_MS: u64 = 5_000;

/// The places.
#[derive(Debug)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    answers: u32,
    line: u32,
    waiting: AtomicU32,
    /// A running mean of what answers took.
    mean_ms: AtomicU64,
}

/// A place, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    places: Arc<Places>,
    since: Instant,
}

/// Somebody in line.
struct Waiting<'a>(&'a Places);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Places {
    fn default() -> Self {
        Self::new(MAX_ANSWERS, MAX_WAITING)
    }
}

impl Places {
    fn new(answers: u32, line: u32) -> Self {
        Self {
            free: Arc::new(Semaphore::new(answers as usize)),
            answers,
            line,
            waiting: AtomicU32::new(0),
            mean_ms: AtomicU64::new(FIRST_GUESS_MS),
        }
    }

    /// So many places together, at once or after a wait in line. All together, so that requests for several cannot
    /// wait for each other.
    pub(crate) async fn take(self: &Arc<Self>, count: u32) -> Result<Vec<Place>, Problem> {
        let permit = match self.free.clone().try_acquire_many_owned(count) {
            Ok(permit) => permit,
            Err(_) => self.wait(count).await?,
        };
        let since = Instant::now();
        let mut rest = Some(permit);
        let one = || {
            let permit = rest.as_mut()?.split(1)?;
            Some(Place { _permit: permit, places: self.clone(), since })
        };
        Ok(std::iter::from_fn(one).take(count as usize).collect())
    }

    async fn wait(self: &Arc<Self>, count: u32) -> Result<OwnedSemaphorePermit, Problem> {
        let more = |waiting: u32| (waiting < self.line).then_some(waiting + 1);
        let Ok(before) = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) else {
            return Err(self.full());
        };
        let _waiting = Waiting(self);
        tracing::debug!(before, "a request stands in line");
        match timeout(MAX_WAIT, self.free.clone().acquire_many_owned(count)).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) => Err(Problem::stopped()),
            Err(_) => Err(self.full()),
        }
    }

    /// What somebody is told for whom there is no place, not even in line.
    fn full(&self) -> Problem {
        let place = self.waiting() + 1;
        let mean_ms = self.mean_ms.load(Ordering::Relaxed);
        let seconds = (mean_ms * u64::from(place)).div_ceil(1000 * u64::from(self.answers)).clamp(1, 120);
        Problem::busy(place, u32::try_from(seconds).unwrap_or(u32::MAX))
    }

    /// How many stand in line.
    pub(crate) fn waiting(&self) -> u32 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// How many places are taken.
    pub(crate) fn taken(&self) -> usize {
        (self.answers as usize).saturating_sub(self.free.available_permits())
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let took = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        let mean = |mean: u64| Some(mean - mean / 8 + took / 8);
        let _always = self.places.mean_ms.fetch_update(Ordering::Relaxed, Ordering::Relaxed, mean);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_comes_first_is_first_and_a_full_line_says_so() {
        let places = Arc::new(Places::new(2, 2));
        let both = places.take(2).await.expect("free");
        assert_eq!((both.len(), places.taken()), (2, 2));
        let line: Vec<_> = (0..2)
            .map(|_| {
                let places = places.clone();
                tokio::spawn(async move { places.take(1).await.map(|place| place.len()) })
            })
            .collect();
        while places.waiting() < 2 {
            tokio::task::yield_now().await;
        }
        let refused = places.take(1).await.expect_err("the line is full");
        assert_eq!((refused.status.as_u16(), refused.code, refused.queue_place), (429, Some("busy"), Some(3)));
        // Two answers of five seconds each at a time: the third in line waits for two of them.
        assert_eq!(refused.retry_after, Some(8));
        drop(both);
        for one in line {
            assert_eq!(one.await.expect("no panic"), Ok(1));
        }
        assert_eq!((places.waiting(), places.taken()), (0, 0));
    }

    #[tokio::test]
    async fn who_gives_up_leaves_the_line() {
        let places = Arc::new(Places::new(1, 1));
        let held = places.take(1).await.expect("free");
        assert!(futures::poll!(Box::pin(places.take(1))).is_pending());
        assert_eq!(places.waiting(), 0, "the future was dropped");
        drop(held);
        assert_eq!(places.take(1).await.map(|place| place.len()), Ok(1));
    }
}
