//! A store of content-addressed blocks.
//!
//! Bytes are checked against their CID on the way in and on the way out; a block that does not match any
//! more is dropped, alone. Above the limit the blocks that were not used for longest go, except pinned
//! ones. When the disk is full the store goes on in memory, up to a second limit, and says so.
//!
//! Layout: `blocks` (CID → bytes), `meta` (CID → size and last use), `pins` (set → CIDs). Blocks are read one
//! at a time; the two small tables are read when the store is opened.

mod index;
mod overflow;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cdi_platform::Place;
use cdi_platform::db::{Database, DbError, Schema, Write};
use cdi_platform::lock::{Lock, try_lock, try_lock_patiently};
use cdi_types::block::{self, BlockError};
use cdi_types::{Cid, Network, cbor};
use index::{Entry, Index};
use overflow::Overflow;

const BLOCKS: &str = "blocks";
const META: &str = "meta";
const PINS: &str = "pins";
const SCHEMA: Schema = Schema { tables: &[BLOCKS, META, PINS], migrations: &[] };

/// Most stores of one place, one for each tab or process that uses it at the same time.
pub const MAX_STORES: u32 = 16;
/// Most CIDs of a pin set: its record, 41 bytes each, stays below the size of a block.
pub const MAX_PINS: usize = 20_000;
/// Uses of blocks are written in batches of this many: a use is worth less than a write.
const SAVE_AFTER_USES: usize = 64;

/// Why the store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The bytes are not the block of this CID, or not a block at all.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// The stored block was damaged. It is deleted now: fetch it again.
    #[error("stored block {0} was damaged and has been dropped")]
    Corrupt(Cid),
    /// Neither the disk nor the memory limit has room, and nothing could be evicted.
    #[error("no room for block {0}, neither on disk nor in memory")]
    Full(Cid),
    /// The block is pinned and was not deleted.
    #[error("block {0} is pinned")]
    Pinned(Cid),
    /// A pin set has more than [`MAX_PINS`] CIDs.
    #[error("a pin set of {0} blocks is over the limit of {MAX_PINS}")]
    TooManyPins(usize),
    /// All [`MAX_STORES`] stores of this place are in use by other tabs or processes.
    #[error("all {MAX_STORES} block stores are in use by other tabs or processes")]
    InUse,
    /// The storage below failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// How much a store may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of blocks on the disk.
    pub disk_bytes: u64,
    /// Bytes of blocks in memory, once the disk is full.
    pub memory_bytes: u64,
}

impl Default for Limits {
    /// 2 GB on the disk (STO-13) and 256 MB in memory: phones end tabs near 1.5 GB.
    fn default() -> Self {
        Self { disk_bytes: 2_000_000_000, memory_bytes: 256_000_000 }
    }
}

/// Where a block is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// On the disk: there after a restart.
    OnDisk,
    /// In memory, as there is no room on the disk: gone after a restart.
    InMemory,
}

/// Figures of a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Blocks on the disk.
    pub blocks: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Blocks kept in memory because the disk is full. Tell the user when there are any.
    pub memory_blocks: usize,
    /// Their bytes.
    pub memory_bytes: u64,
    /// Blocks evicted since the store was opened.
    pub evictions: u64,
    /// Damaged blocks dropped since the store was opened.
    pub corrupt: u64,
}

/// An open block store. Clones share it.
#[derive(Debug, Clone)]
pub struct BlockStore {
    database: Database,
    /// Never locked across an `await`.
    state: Arc<Mutex<State>>,
    limits: Limits,
    number: u32,
    _lock: Lock,
}

#[derive(Debug)]
struct State {
    index: Index,
    overflow: Overflow,
    evictions: u64,
    corrupt: u64,
}

impl BlockStore {
    /// Opens a block store of this place that no other tab or process is using: the one with the number `before` if it
    /// can be had, which this tab had before it was reloaded, or else the first.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when there is none, or [`StoreError::Db`].
    pub async fn open(
        place: &Place,
        network: Network,
        limits: Limits,
        before: Option<u32>,
    ) -> Result<Self, StoreError> {
        let before = before.filter(|number| (1..=MAX_STORES).contains(number));
        for number in before.into_iter().chain(1..=MAX_STORES) {
            let name = match number {
                1 => network.store("blocks"),
                _ => network.store(&format!("blocks-{number}")),
            };
            // Only this tab's own store is worth a wait: its old self is just ending.
            let lock = if before == Some(number) {
                try_lock_patiently(place, &name).await?
            } else {
                try_lock(place, &name).await?
            };
            if let Some(lock) = lock {
                return Self::open_locked(place, &name, number, limits, lock).await;
            }
        }
        Err(StoreError::InUse)
    }

    /// Opens the store `name`; nothing while another tab or process has it open.
    ///
    /// # Errors
    /// [`StoreError::Db`] when storage fails.
    pub async fn open_named(place: &Place, name: &str, limits: Limits) -> Result<Option<Self>, StoreError> {
        let Some(lock) = try_lock_patiently(place, name).await? else { return Ok(None) };
        Self::open_locked(place, name, 0, limits, lock).await.map(Some)
    }

    async fn open_locked(
        place: &Place,
        name: &str,
        number: u32,
        limits: Limits,
        lock: Lock,
    ) -> Result<Self, StoreError> {
        let database = Database::open(place, name, &SCHEMA).await?;
        let index = load(&database).await?;
        let overflow = Overflow::new(limits.memory_bytes);
        let state = Arc::new(Mutex::new(State { index, overflow, evictions: 0, corrupt: 0 }));
        Ok(Self { database, state, limits, number, _lock: lock })
    }

    /// Its number among the stores of its place, from 1; 0 where it was opened by name.
    #[must_use]
    pub const fn number(&self) -> u32 {
        self.number
    }

    /// Keeps a block.
    ///
    /// # Errors
    /// [`StoreError::Block`] when the bytes do not match, [`StoreError::Full`] when there is no room at all,
    /// [`StoreError::Db`].
    pub async fn put(&self, cid: &Cid, bytes: &[u8]) -> Result<Kept, StoreError> {
        block::verify(cid, bytes)?;
        if let Some(kept) = self.find(cid) {
            return Ok(kept);
        }
        let size = bytes.len() as u64;
        let over_limit = (self.total_bytes() + size).saturating_sub(self.limits.disk_bytes);
        let mut result = self.write_evicting(cid, bytes, over_limit).await;
        if result == Err(DbError::Full) && self.total_bytes() > 0 {
            // The disk has less room than the limit allows: make room for this one.
            result = self.write_evicting(cid, bytes, over_limit.max(size)).await;
        }
        match result {
            Ok(()) => Ok(Kept::OnDisk),
            Err(DbError::Full) if self.state().overflow.insert(*cid, bytes) => Ok(Kept::InMemory),
            Err(DbError::Full) => Err(StoreError::Full(*cid)),
            Err(error) => Err(error.into()),
        }
    }

    /// The block, if it is kept.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it had to be dropped, [`StoreError::Db`].
    pub async fn get(&self, cid: &Cid) -> Result<Option<Vec<u8>>, StoreError> {
        {
            let state = self.state();
            if let Some(bytes) = state.overflow.get(cid) {
                return Ok(Some(bytes.clone()));
            }
            if !state.index.contains(cid) {
                return Ok(None);
            }
        }
        match self.database.get(BLOCKS, &cid.to_string()).await {
            Ok(Some(bytes)) if block::verify(cid, &bytes).is_ok() => {
                self.state().index.touch(cid);
                Ok(Some(bytes))
            }
            // Evicted or deleted while it was being read.
            Ok(None) if !self.state().index.contains(cid) => Ok(None),
            Ok(_) | Err(DbError::Damaged(_)) => {
                tracing::warn!(%cid, "stored block is damaged");
                {
                    let mut state = self.state();
                    state.index.remove(cid);
                    state.corrupt += 1;
                }
                self.database.write(deletion(cid).into()).await?;
                Err(StoreError::Corrupt(*cid))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the block is kept. Its bytes are checked when they are read.
    #[must_use]
    pub fn has(&self, cid: &Cid) -> bool {
        self.find(cid).is_some()
    }

    /// Deletes a block, if it is kept; whether it was.
    ///
    /// # Errors
    /// [`StoreError::Pinned`] or [`StoreError::Db`].
    pub async fn delete(&self, cid: &Cid) -> Result<bool, StoreError> {
        let (was_in_memory, was_on_disk) = {
            let mut state = self.state();
            if state.index.is_pinned(cid) {
                return Err(StoreError::Pinned(*cid));
            }
            (state.overflow.remove(cid), state.index.remove(cid).is_some())
        };
        if was_on_disk {
            self.database.write(deletion(cid).into()).await?;
        }
        Ok(was_in_memory || was_on_disk)
    }

    /// Makes `set` the set of exactly these CIDs, kept or still to come: none of them is evicted. On a full
    /// disk that holds until the store is closed ([`Kept::InMemory`]).
    ///
    /// # Errors
    /// [`StoreError::TooManyPins`] or [`StoreError::Db`].
    pub async fn pin(&self, set: &str, cids: impl IntoIterator<Item = Cid>) -> Result<Kept, StoreError> {
        let cids: HashSet<Cid> = cids.into_iter().collect();
        if cids.len() > MAX_PINS {
            return Err(StoreError::TooManyPins(cids.len()));
        }
        let mut sorted: Vec<Cid> = cids.iter().copied().collect();
        sorted.sort_unstable();
        let value = cbor::encode(&sorted).map_err(|error| DbError::Failed(error.to_string()))?;
        // In memory first: what is being fetched meanwhile must not be evicted.
        self.state().index.pin(set.to_owned(), cids);
        match self.database.write(vec![Write::Put { table: PINS, key: set.to_owned(), value }]).await {
            Ok(()) => Ok(Kept::OnDisk),
            Err(DbError::Full) => Ok(Kept::InMemory),
            Err(error) => Err(error.into()),
        }
    }

    /// Forgets a pin set; whether there was one. Its blocks stay until they are evicted.
    ///
    /// # Errors
    /// [`StoreError::Db`].
    pub async fn unpin(&self, set: &str) -> Result<bool, StoreError> {
        let known = self.state().index.unpin(set);
        self.database.write(vec![Write::Delete { table: PINS, key: set.to_owned() }]).await?;
        Ok(known)
    }

    /// Names and sizes of the pin sets.
    #[must_use]
    pub fn pin_sets(&self) -> Vec<(String, usize)> {
        self.state().index.pins().map(|(set, cids)| (set.to_owned(), cids.len())).collect()
    }

    /// Bytes of the blocks on the disk.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        self.state().index.bytes()
    }

    /// Figures of the store.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let state = self.state();
        Stats {
            blocks: state.index.len(),
            bytes: state.index.bytes(),
            memory_blocks: state.overflow.len(),
            memory_bytes: state.overflow.bytes(),
            evictions: state.evictions,
            corrupt: state.corrupt,
        }
    }

    /// Stores when blocks were last used, which otherwise happens along with other writes. For a moment when
    /// the page may be about to end.
    ///
    /// # Errors
    /// [`StoreError::Db`].
    pub async fn flush(&self) -> Result<(), StoreError> {
        let unsaved = self.state().index.take_unsaved();
        self.database.write(unsaved.into_iter().map(metadata).collect()).await?;
        Ok(())
    }

    fn find(&self, cid: &Cid) -> Option<Kept> {
        let state = self.state();
        if state.index.contains(cid) {
            Some(Kept::OnDisk)
        } else {
            state.overflow.contains(cid).then_some(Kept::InMemory)
        }
    }

    /// Writes a block, deleting others until `needed` bytes are free, in one batch.
    async fn write_evicting(&self, cid: &Cid, bytes: &[u8], needed: u64) -> Result<(), DbError> {
        let (entry, evicted, used) = {
            let mut state = self.state();
            let evicted = state.index.evict(needed);
            let freed: u64 = evicted.iter().map(|(_, entry)| entry.bytes).sum();
            if freed < needed {
                // Pins hold the limit: deleting the rest would not help.
                restore(&mut state.index, evicted);
                return Err(DbError::Full);
            }
            let entry = state.index.used_now(bytes.len() as u64);
            let save = state.index.unsaved() >= SAVE_AFTER_USES;
            (entry, evicted, if save { state.index.take_unsaved() } else { Vec::new() })
        };
        // Deletions first: without transactions they make the room. A block goes before its metadata, so
        // that what a crash leaves is found when the store is opened.
        let mut batch: Vec<Write> = evicted.iter().flat_map(|(cid, _)| deletion(cid)).collect();
        batch.push(Write::Put { table: BLOCKS, key: cid.to_string(), value: bytes.to_vec() });
        batch.push(metadata((*cid, entry)));
        batch.extend(used.into_iter().map(metadata));
        let written = self.database.write(batch).await;
        let mut state = self.state();
        match &written {
            Ok(()) => {
                state.evictions += evicted.len() as u64;
                state.index.insert(*cid, entry);
            }
            Err(_) => restore(&mut state.index, evicted),
        }
        written
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under this lock panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn restore(index: &mut Index, evicted: Vec<(Cid, Entry)>) {
    for (cid, entry) in evicted {
        index.insert(cid, entry);
    }
}

fn deletion(cid: &Cid) -> [Write; 2] {
    [BLOCKS, META].map(|table| Write::Delete { table, key: cid.to_string() })
}

fn metadata((cid, entry): (Cid, Entry)) -> Write {
    Write::Put { table: META, key: cid.to_string(), value: entry.encode() }
}

/// Reads the two small tables, and drops what does not fit together: metadata without a block, a block
/// without metadata, and records that cannot be read.
async fn load(database: &Database) -> Result<Index, StoreError> {
    let mut blocks: HashSet<String> = database.keys(BLOCKS).await?.into_iter().collect();
    let mut index = Index::default();
    let mut dropped = Vec::new();
    for (key, value) in database.scan(META).await? {
        match (blocks.remove(&key), key.parse(), Entry::decode(&value)) {
            (true, Ok(cid), Some(entry)) => index.insert(cid, entry),
            _ => dropped.extend([BLOCKS, META].map(|table| Write::Delete { table, key: key.clone() })),
        }
    }
    dropped.extend(blocks.into_iter().map(|key| Write::Delete { table: BLOCKS, key }));
    for (set, value) in database.scan(PINS).await? {
        match cbor::decode::<Vec<Cid>>(&value) {
            Ok(cids) => index.pin(set, cids.into_iter().collect()),
            Err(_) => dropped.push(Write::Delete { table: PINS, key: set }),
        }
    }
    if !dropped.is_empty() {
        tracing::warn!(records = dropped.len(), "dropped records of the block store that do not fit together");
        database.write(dropped).await?;
    }
    Ok(index)
}
