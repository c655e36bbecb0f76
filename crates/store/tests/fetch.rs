//! Fetching from sources that fail and lie.
#![allow(missing_docs, reason = "tests")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cdi_platform::Place;
use cdi_platform::task::{BoxFuture, yield_now};
use cdi_platform::testing::{async_test, fresh_name};
use cdi_store::BlockStore;
use cdi_store::blocks::{Limits, StoreError};
use cdi_store::fetch::{BlockSource, FetchArgs, FetchError, Fetcher, Progress, SourceError, Wanted};
use cdi_types::Cid;
use cdi_types::block::raw_cid;

/// A source in memory.
#[derive(Default, Clone)]
struct Memory {
    name: &'static str,
    blocks: Arc<Mutex<HashMap<Cid, Vec<u8>>>>,
    /// How often it fails before it answers.
    failures: Arc<AtomicUsize>,
    asked: Arc<AtomicUsize>,
    at_once: Arc<AtomicUsize>,
    most_at_once: Arc<AtomicUsize>,
    never_answers: bool,
}

impl Memory {
    fn new(name: &'static str, blocks: impl IntoIterator<Item = (Cid, Vec<u8>)>) -> Self {
        Self { name, blocks: Arc::new(Mutex::new(blocks.into_iter().collect())), ..Self::default() }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

impl BlockSource for Memory {
    fn name(&self) -> String {
        self.name.to_owned()
    }

    fn fetch<'a>(&'a self, cid: &'a Cid) -> BoxFuture<'a, Result<Vec<u8>, SourceError>> {
        Box::pin(async move {
            self.asked.fetch_add(1, Ordering::Relaxed);
            if self.never_answers {
                futures::future::pending::<()>().await;
            }
            let now = self.at_once.fetch_add(1, Ordering::Relaxed) + 1;
            self.most_at_once.fetch_max(now, Ordering::Relaxed);
            yield_now().await;
            self.at_once.fetch_sub(1, Ordering::Relaxed);
            let failing = self.failures.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
            if failing.is_ok() {
                return Err(SourceError::Failed("is down".to_owned()));
            }
            self.blocks.lock().expect("not poisoned").get(cid).cloned().ok_or(SourceError::NotFound)
        })
    }
}

const QUICK: FetchArgs =
    FetchArgs { parallel: 3, rounds: 3, pause: Duration::from_millis(1), timeout: Duration::from_millis(200) };

fn blocks(count: u8) -> Vec<(Cid, Vec<u8>)> {
    (0..count).map(|number| vec![number; 100]).map(|bytes| (raw_cid(&bytes), bytes)).collect()
}

fn wanted(blocks: &[(Cid, Vec<u8>)]) -> Vec<Wanted> {
    blocks.iter().map(|(cid, bytes)| Wanted { cid: *cid, bytes: bytes.len() as u64 }).collect()
}

async fn store(place: &Place, memory_bytes: u64) -> BlockStore {
    let limits = Limits { disk_bytes: 1 << 30, memory_bytes };
    BlockStore::open_named(place, &fresh_name(), limits).await.expect("opens").expect("is free")
}

fn fetcher(sources: &[&Memory]) -> Fetcher {
    Fetcher::new(sources.iter().map(|source| Box::new((*source).clone()) as Box<dyn BlockSource>).collect(), QUICK)
}

#[async_test]
async fn all_missing_blocks_are_fetched_in_parallel_with_progress() {
    let (blocks, store) = (blocks(20), store(&Place::memory(), 0).await);
    store.put(&blocks[0].0, &blocks[0].1).await.expect("puts");
    let source = Memory::new("source", blocks.clone());
    let mut seen = Vec::new();
    // Twice the same: fetched once.
    let twice = [wanted(&blocks), wanted(&blocks)].concat();
    let fetched = fetcher(&[&source]).all(&store, &twice, |progress| seen.push(progress)).await.expect("fetches");
    let all = Progress { done_bytes: 2000, fetched_bytes: 1900, total_bytes: 2000, kept_in_memory: false };
    assert_eq!(fetched, all);
    assert_eq!(seen.first(), Some(&Progress { done_bytes: 100, fetched_bytes: 0, ..all }));
    assert_eq!((seen.last(), seen.len()), (Some(&all), 20));
    assert_eq!(source.asked(), 19);
    assert_eq!(source.most_at_once.load(Ordering::Relaxed), QUICK.parallel);
    assert!(blocks.iter().all(|(cid, _)| store.has(cid)));
}

#[async_test]
async fn a_wrong_block_is_dropped_and_fetched_elsewhere() {
    let (blocks, store) = (blocks(10), store(&Place::memory(), 0).await);
    let liar = Memory::new("liar", blocks.iter().map(|(cid, bytes)| (*cid, [bytes, &b"!"[..]].concat())));
    let honest = Memory::new("honest", blocks.clone());
    let fetcher = fetcher(&[&liar, &honest]);
    fetcher.all(&store, &wanted(&blocks), |_| {}).await.expect("fetches");
    for (cid, bytes) in &blocks {
        assert_eq!(store.get(cid).await, Ok(Some(bytes.clone())));
    }
    let sources = fetcher.sources();
    assert_eq!((sources[0].bad, sources[0].bytes), (true, 0));
    assert_eq!((sources[1].bad, sources[1].bytes), (false, 1000));
    // Not asked again once it was caught; some requests were under way.
    assert!(liar.asked() <= QUICK.parallel, "{}", liar.asked());
}

#[async_test]
async fn the_missing_block_is_named_when_no_source_can_be_trusted() {
    let (blocks, store) = (blocks(1), store(&Place::memory(), 0).await);
    let cid = blocks[0].0;
    let liars = ["one", "two"].map(|name| Memory::new(name, [(cid, b"wrong".to_vec())]));
    let fetcher = fetcher(&[&liars[0], &liars[1]]);
    let error = fetcher.all(&store, &wanted(&blocks), |_| {}).await.expect_err("nobody has it");
    assert!(matches!(&error, FetchError::Unavailable { cid: missing, .. } if *missing == cid), "{error}");
    assert!(liars.iter().all(|liar| liar.asked() == 1));
    assert!(!store.has(&cid));
}

#[async_test]
async fn a_source_that_is_down_is_asked_again() {
    let (blocks, store) = (blocks(2), store(&Place::memory(), 0).await);
    let source = Memory::new("shaky", blocks.clone());
    source.failures.store(2, Ordering::Relaxed);
    let fetcher = fetcher(&[&source]);
    assert_eq!(fetcher.block(&store, &blocks[0].0).await, Ok(blocks[0].1.clone()));
    assert_eq!(source.asked(), 3);

    source.failures.store(100, Ordering::Relaxed);
    let error = fetcher.block(&store, &blocks[1].0).await.expect_err("is down for good");
    assert_eq!(error, FetchError::Unavailable { cid: blocks[1].0, reasons: "shaky: is down".to_owned() });
    assert_eq!(source.asked(), 3 + 3);
}

#[async_test]
async fn sources_that_keep_failing_or_never_answer_are_asked_last() {
    let (blocks, store) = (blocks(20), store(&Place::memory(), 0).await);
    let silent = Memory { never_answers: true, ..Memory::new("silent", []) };
    let honest = Memory::new("honest", blocks.clone());
    fetcher(&[&silent, &honest]).all(&store, &wanted(&blocks), |_| {}).await.expect("fetches");
    assert!(silent.asked() < 10, "{}", silent.asked());
}

#[async_test]
async fn a_damaged_or_evicted_block_is_fetched_again() {
    let (blocks, store) = (blocks(1), store(&Place::memory(), 0).await);
    let source = Memory::new("source", blocks.clone());
    let fetcher = fetcher(&[&source]);
    let (cid, bytes) = &blocks[0];
    for _ in 0..2 {
        assert_eq!(fetcher.block(&store, cid).await, Ok(bytes.clone()));
    }
    assert_eq!(source.asked(), 1);
    store.delete(cid).await.expect("deletes");
    assert_eq!(fetcher.block(&store, cid).await, Ok(bytes.clone()));
    assert_eq!(source.asked(), 2);
}

#[async_test]
async fn a_full_disk_does_not_stop_fetching() {
    let blocks = blocks(10);
    let source = Memory::new("source", blocks.clone());
    // Room for the pins and for half of the blocks with their metadata; the others may stay in memory.
    let store = store(&Place::memory_of(10 * 41 + 5 * 116 + 50), 1000).await;
    store.pin("model", blocks.iter().map(|(cid, _)| *cid)).await.expect("pins");
    let progress = fetcher(&[&source]).all(&store, &wanted(&blocks), |_| {}).await.expect("fetches");
    assert!(progress.kept_in_memory && progress.done_bytes == 1000);
    for (cid, bytes) in &blocks {
        assert_eq!(store.get(cid).await, Ok(Some(bytes.clone())));
    }
    let stats = store.stats();
    assert!(stats.memory_blocks > 0 && stats.blocks > 0, "{stats:?}");

    let tiny = self::store(&Place::memory_of(10), 0).await;
    let error = fetcher(&[&source]).all(&tiny, &wanted(&blocks), |_| {}).await.expect_err("no room at all");
    assert!(matches!(error, FetchError::Store(StoreError::Full(_))), "{error}");
}
