//! Missing blocks, from sources that need not be trusted: every block is checked against its CID.
//!
//! Sources are asked in order. One that sends a wrong block is not asked again; one that keeps failing is
//! asked last. When none had the block, all are asked again after a pause, a few times.

mod gateway;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use cdi_platform::task::{BoxFuture, MaybeSend, MaybeSync};
use cdi_platform::time::{sleep, timeout};
use cdi_types::Cid;
use cdi_types::block::{self, BlockError};
use futures::{StreamExt as _, TryStreamExt as _, stream};
pub use gateway::HttpGateway;

use crate::blocks::{BlockStore, Kept, StoreError};

/// Failures in a row after which a source is asked last.
const FAILURES_TO_DEMOTE: u32 = 3;
/// Longest pause between two rounds.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Somewhere blocks can be had.
pub trait BlockSource: MaybeSend + MaybeSync {
    /// Name for logs and messages.
    fn name(&self) -> String;

    /// Asks for a block. The answer is not trusted; an implementation bounds it to
    /// [`block::MAX_BLOCK_BYTES`].
    fn fetch<'a>(&'a self, cid: &'a Cid) -> BoxFuture<'a, Result<Vec<u8>, SourceError>>;
}

/// Why a source did not send a block.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// It does not have it.
    #[error("does not have the block")]
    NotFound,
    /// It could not be asked, or did not answer.
    #[error("{0}")]
    Failed(String),
}

/// Why blocks are still missing. What was fetched before stays in the store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// No source sent the block.
    #[error("block {cid} could not be fetched: {reasons}")]
    Unavailable {
        /// The missing block.
        cid: Cid,
        /// What each source said last.
        reasons: String,
    },
    /// The block cannot be kept, or its CID is not one of ours.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How to fetch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FetchArgs {
    /// Blocks fetched at the same time, at least one.
    pub parallel: usize,
    /// How often all sources are asked for a block.
    pub rounds: u32,
    /// Pause after the first round; it doubles with every round, up to ten seconds.
    pub pause: Duration,
    /// How long one source may take for one block.
    pub timeout: Duration,
}

impl Default for FetchArgs {
    /// Six at a time, as many as browsers open to one host over HTTP/1.1.
    fn default() -> Self {
        Self { parallel: 6, rounds: 4, pause: Duration::from_millis(500), timeout: Duration::from_secs(30) }
    }
}

/// A block to have, and its size as the manifest states it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The block.
    pub cid: Cid,
    /// Its size.
    pub bytes: u64,
}

/// How far fetching is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Bytes present: kept before, or fetched.
    pub done_bytes: u64,
    /// Of these, bytes that were fetched.
    pub fetched_bytes: u64,
    /// Bytes wanted.
    pub total_bytes: u64,
    /// Whether blocks are kept in memory only, because the disk is full. Tell the user.
    pub kept_in_memory: bool,
}

/// Figures of a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceStats {
    /// Its name.
    pub name: String,
    /// Bytes of good blocks that it sent.
    pub bytes: u64,
    /// Whether it sent a wrong block and is not asked any more.
    pub bad: bool,
}

/// Fetches blocks into a store.
pub struct Fetcher {
    sources: Vec<Source>,
    args: FetchArgs,
}

struct Source {
    inner: Box<dyn BlockSource>,
    bad: AtomicBool,
    failures: AtomicU32,
    bytes: AtomicU64,
}

impl Fetcher {
    /// A fetcher that asks `sources` in this order.
    #[must_use]
    pub fn new(sources: Vec<Box<dyn BlockSource>>, args: FetchArgs) -> Self {
        let sources = sources
            .into_iter()
            .map(|inner| Source {
                inner,
                bad: AtomicBool::new(false),
                failures: AtomicU32::new(0),
                bytes: AtomicU64::new(0),
            })
            .collect();
        Self { sources, args }
    }

    /// Sees to it that all `wanted` blocks are in the store. Blocks that are there are not read: one that was
    /// damaged is noticed and fetched again by [`Fetcher::block`].
    ///
    /// Pin the blocks first, or later ones may evict earlier ones.
    ///
    /// # Errors
    /// [`FetchError`] for the first block that cannot be had.
    pub async fn all(
        &self,
        store: &BlockStore,
        wanted: &[Wanted],
        mut on_progress: impl FnMut(Progress) + MaybeSend,
    ) -> Result<Progress, FetchError> {
        let mut progress = Progress::default();
        let mut missing = Vec::new();
        let mut seen = HashSet::new();
        for want in wanted.iter().filter(|want| seen.insert(want.cid)) {
            progress.total_bytes += want.bytes;
            if store.has(&want.cid) {
                progress.done_bytes += want.bytes;
            } else {
                missing.push(*want);
            }
        }
        progress.kept_in_memory = store.stats().memory_blocks > 0;
        on_progress(progress);
        let fetches = stream::iter(missing).map(|want| async move {
            let (_, kept) = self.fetch_into(store, &want.cid).await?;
            Ok::<_, FetchError>((want.bytes, kept))
        });
        let mut fetches = fetches.buffer_unordered(self.args.parallel.max(1));
        while let Some((bytes, kept)) = fetches.try_next().await? {
            progress.done_bytes += bytes;
            progress.fetched_bytes += bytes;
            progress.kept_in_memory |= kept == Kept::InMemory;
            on_progress(progress);
        }
        Ok(progress)
    }

    /// A block, from the store or, when it is missing or damaged there, from a source.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn block(&self, store: &BlockStore, cid: &Cid) -> Result<Vec<u8>, FetchError> {
        match store.get(cid).await {
            Ok(Some(bytes)) => Ok(bytes),
            Ok(None) | Err(StoreError::Corrupt(_)) => Ok(self.fetch_into(store, cid).await?.0),
            Err(error) => Err(error.into()),
        }
    }

    /// Figures of the sources, in their order.
    #[must_use]
    pub fn sources(&self) -> Vec<SourceStats> {
        let stats = |source: &Source| SourceStats {
            name: source.inner.name(),
            bytes: source.bytes.load(Ordering::Relaxed),
            bad: source.bad.load(Ordering::Relaxed),
        };
        self.sources.iter().map(stats).collect()
    }

    async fn fetch_into(&self, store: &BlockStore, cid: &Cid) -> Result<(Vec<u8>, Kept), FetchError> {
        let bytes = self.fetch(cid).await?;
        let kept = store.put(cid, &bytes).await?;
        Ok((bytes, kept))
    }

    /// A checked block from any source.
    async fn fetch(&self, cid: &Cid) -> Result<Vec<u8>, FetchError> {
        block::check_cid(cid).map_err(StoreError::from)?;
        let mut reasons = Vec::new();
        let mut pause = self.args.pause;
        for round in 0..self.args.rounds.max(1) {
            if round > 0 {
                sleep(pause).await;
                pause = (pause * 2).min(MAX_PAUSE);
            }
            reasons.clear();
            for source in self.in_order() {
                match source.fetch(cid, self.args.timeout).await {
                    Ok(bytes) => return Ok(bytes),
                    Err(error) => reasons.push(format!("{}: {error}", source.inner.name())),
                }
            }
            if reasons.is_empty() {
                reasons.push("there is no source that can be trusted to have it".to_owned());
                break;
            }
        }
        Err(FetchError::Unavailable { cid: *cid, reasons: reasons.join("; ") })
    }

    /// The sources to ask: those that keep failing last, bad ones not at all.
    fn in_order(&self) -> impl Iterator<Item = &Source> {
        let good = self.sources.iter().filter(|source| !source.bad.load(Ordering::Relaxed));
        let mut sources: Vec<&Source> = good.collect();
        sources.sort_by_key(|source| source.failures.load(Ordering::Relaxed) >= FAILURES_TO_DEMOTE);
        sources.into_iter()
    }
}

impl Source {
    async fn fetch(&self, cid: &Cid, limit: Duration) -> Result<Vec<u8>, SourceError> {
        let answer = timeout(limit, self.inner.fetch(cid)).await;
        let result = answer.unwrap_or_else(|timed_out| Err(SourceError::Failed(timed_out.to_string())));
        match &result {
            Ok(bytes) => {
                if let Err(error) = block::verify(cid, bytes) {
                    return Err(self.condemn(&error));
                }
                self.failures.store(0, Ordering::Relaxed);
                self.bytes.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            // It works; it just does not have this one.
            Err(SourceError::NotFound) => {}
            Err(SourceError::Failed(_)) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
        result
    }

    fn condemn(&self, error: &BlockError) -> SourceError {
        tracing::warn!(source = self.inner.name(), %error, "a source sent a wrong block and is not asked again");
        self.bad.store(true, Ordering::Relaxed);
        SourceError::Failed(format!("sent a wrong block ({error})"))
    }
}
