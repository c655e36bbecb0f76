//! One body over memory, files and IndexedDB; in a dedicated worker, where the blocks of a tab live.
#![allow(missing_docs, reason = "tests")]

use cdi_platform::Place;
use cdi_platform::db::{Database, Schema, Write};
use cdi_platform::testing::{async_test, fresh_name, lasting_place};
use cdi_store::blocks::{Kept, Limits, MAX_PINS, Stats};
use cdi_store::{BlockStore, StoreError};
use cdi_types::block::{self, BlockError, raw_cid};
use cdi_types::{Cid, Network};

cdi_platform::in_worker!();

const ROOMY: Limits = Limits { disk_bytes: 1 << 30, memory_bytes: 0 };

/// The store's layout, as another program would see it.
const LAYOUT: Schema = Schema { tables: &["blocks", "meta", "pins"], migrations: &[] };

fn data(number: u8, bytes: usize) -> (Cid, Vec<u8>) {
    let data = vec![number; bytes];
    (raw_cid(&data), data)
}

async fn open(place: &Place, name: &str, limits: Limits) -> BlockStore {
    BlockStore::open_named(place, name, limits).await.expect("opens").expect("is free")
}

async fn put(store: &BlockStore, number: u8, bytes: usize) -> Result<Cid, StoreError> {
    let (cid, data) = data(number, bytes);
    store.put(&cid, &data).await.map(|_| cid)
}

/// What every back end does.
async fn conforms(place: &Place) {
    let store = open(place, &fresh_name(), ROOMY).await;
    let (cid, bytes) = data(1, 1000);
    assert_eq!(store.get(&cid).await, Ok(None));
    assert!(!store.has(&cid));
    assert_eq!(store.put(&cid, &bytes).await, Ok(Kept::OnDisk));
    assert_eq!(store.put(&cid, &bytes).await, Ok(Kept::OnDisk));
    assert_eq!(store.get(&cid).await, Ok(Some(bytes.clone())));
    assert_eq!(store.stats(), Stats { blocks: 1, bytes: 1000, ..Stats::default() });

    // Only what matches its CID gets in, up to a whole block, and an empty one too.
    let other = raw_cid(b"other");
    assert_eq!(store.put(&other, &bytes).await, Err(StoreError::Block(BlockError::HashMismatch(other))));
    assert!(!store.has(&other));
    put(&store, 2, block::MAX_BLOCK_BYTES).await.expect("the largest block");
    let over = put(&store, 2, block::MAX_BLOCK_BYTES + 1).await;
    assert_eq!(over, Err(StoreError::Block(BlockError::TooLarge(block::MAX_BLOCK_BYTES + 1))));
    let empty = put(&store, 0, 0).await.expect("the empty block");
    assert_eq!(store.get(&empty).await, Ok(Some(vec![])));

    store.pin("model", [cid]).await.expect("pins");
    assert_eq!(store.delete(&cid).await, Err(StoreError::Pinned(cid)));
    assert_eq!(store.pin_sets(), [("model".to_owned(), 1)]);
    assert_eq!(store.unpin("model").await, Ok(true));
    assert_eq!(store.unpin("model").await, Ok(false));
    assert_eq!(store.delete(&cid).await, Ok(true));
    assert_eq!(store.delete(&cid).await, Ok(false));
    assert_eq!(store.get(&cid).await, Ok(None));
    let too_many = (0..=u32::try_from(MAX_PINS).expect("small")).map(|i| raw_cid(&i.to_le_bytes()));
    assert_eq!(store.pin("model", too_many).await, Err(StoreError::TooManyPins(MAX_PINS + 1)));
    let most = (0..u32::try_from(MAX_PINS).expect("small")).map(|i| raw_cid(&i.to_le_bytes()));
    store.pin("model", most).await.expect("as many as are allowed");
}

/// The limit, on every back end: what was not used for longest goes, pinned blocks never.
async fn evicts(place: &Place) {
    let store = open(place, &fresh_name(), Limits { disk_bytes: 300, memory_bytes: 100 }).await;
    let first = put(&store, 1, 100).await.expect("fits");
    let second = put(&store, 2, 100).await.expect("fits");
    let third = put(&store, 3, 100).await.expect("fits");
    assert!(store.get(&first).await.expect("reads").is_some());
    store.pin("kept", [second]).await.expect("pins");

    let fourth = put(&store, 4, 100).await.expect("evicts the third");
    assert!(!store.has(&third) && store.has(&first) && store.has(&second) && store.has(&fourth));
    assert_eq!(store.get(&third).await, Ok(None));
    assert_eq!(store.stats(), Stats { blocks: 3, bytes: 300, evictions: 1, ..Stats::default() });

    // Nothing can go: memory, up to its own limit, then no more.
    store.pin("kept", [first, second, fourth]).await.expect("pins");
    let (fifth, bytes) = data(5, 100);
    assert_eq!(store.put(&fifth, &bytes).await, Ok(Kept::InMemory));
    assert_eq!(store.put(&fifth, &bytes).await, Ok(Kept::InMemory));
    assert_eq!(store.get(&fifth).await, Ok(Some(bytes)));
    let (sixth, bytes) = data(6, 100);
    assert_eq!(store.put(&sixth, &bytes).await, Err(StoreError::Full(sixth)));
    let stats = store.stats();
    assert_eq!((stats.blocks, stats.memory_blocks, stats.memory_bytes, stats.evictions), (3, 1, 100, 1));
    assert_eq!(store.delete(&fifth).await, Ok(true));
    assert_eq!(store.stats().memory_bytes, 0);
}

#[async_test]
async fn memory_conforms() {
    conforms(&Place::memory()).await;
    evicts(&Place::memory()).await;
}

#[async_test]
async fn disk_conforms() {
    conforms(&lasting_place()).await;
    evicts(&lasting_place()).await;
}

#[async_test]
async fn a_full_disk_evicts_and_then_goes_on_in_memory() {
    // The disk is smaller than the limit; metadata takes some of it.
    let place = Place::memory_of(1500);
    let limits = Limits { disk_bytes: 10_000, memory_bytes: 1000 };
    let store = open(&place, &fresh_name(), limits).await;
    let first = put(&store, 1, 600).await.expect("fits");
    let second = put(&store, 2, 600).await.expect("fits");
    let (third, bytes) = data(3, 600);
    assert_eq!(store.put(&third, &bytes).await, Ok(Kept::OnDisk));
    assert!(!store.has(&first) && store.has(&second) && store.has(&third));

    store.pin("kept", [second, third]).await.expect("pins");
    let (fourth, bytes) = data(4, 600);
    assert_eq!(store.put(&fourth, &bytes).await, Ok(Kept::InMemory));
    assert_eq!(store.get(&fourth).await, Ok(Some(bytes)));
    assert_eq!(store.get(&second).await.map(|bytes| bytes.is_some()), Ok(true));
    let (fifth, bytes) = data(5, 600);
    assert_eq!(store.put(&fifth, &bytes).await, Err(StoreError::Full(fifth)));
}

#[async_test]
async fn blocks_pins_and_the_order_of_use_outlive_the_process() {
    let (place, name) = (lasting_place(), fresh_name());
    let limits = Limits { disk_bytes: 300, memory_bytes: 0 };
    let store = open(&place, &name, limits).await;
    let first = put(&store, 1, 100).await.expect("fits");
    let second = put(&store, 2, 100).await.expect("fits");
    let third = put(&store, 3, 100).await.expect("fits");
    store.pin("kept", [third]).await.expect("pins");
    assert!(store.get(&first).await.expect("reads").is_some());
    store.flush().await.expect("saves the use");
    drop(store);

    let store = open(&place, &name, limits).await;
    assert_eq!(store.stats(), Stats { blocks: 3, bytes: 300, ..Stats::default() });
    let fourth = put(&store, 4, 100).await.expect("evicts the second");
    let fifth = put(&store, 5, 100).await.expect("evicts the first");
    assert!(!store.has(&first) && !store.has(&second));
    assert!(store.has(&third) && store.has(&fourth) && store.has(&fifth));
}

#[async_test]
async fn a_damaged_block_is_dropped_alone() {
    let (place, name) = (lasting_place(), fresh_name());
    let store = open(&place, &name, ROOMY).await;
    let (bad, bytes) = data(1, 100);
    store.put(&bad, &bytes).await.expect("puts");
    let lost = put(&store, 2, 100).await.expect("puts");
    let good = put(&store, 3, 100).await.expect("puts");
    let below = Database::open(&place, &name, &LAYOUT).await.expect("opens");
    let damaged = Write::Put { table: "blocks", key: bad.to_string(), value: vec![9; 100] };
    below.write(vec![damaged, Write::Delete { table: "blocks", key: lost.to_string() }]).await.expect("damages");

    for cid in [bad, lost] {
        assert_eq!(store.get(&cid).await, Err(StoreError::Corrupt(cid)));
        assert_eq!(store.get(&cid).await, Ok(None));
    }
    assert_eq!(store.get(&good).await.map(|bytes| bytes.is_some()), Ok(true));
    assert_eq!(store.stats(), Stats { blocks: 1, bytes: 100, corrupt: 2, ..Stats::default() });
    assert_eq!(below.keys("meta").await, Ok(vec![good.to_string()]));
    store.put(&bad, &bytes).await.expect("fetched again");
    assert_eq!(store.get(&bad).await, Ok(Some(bytes)));
}

#[async_test]
async fn records_that_do_not_fit_together_are_dropped_when_opening() {
    let (place, name) = (lasting_place(), fresh_name());
    let store = open(&place, &name, ROOMY).await;
    let good = put(&store, 1, 100).await.expect("puts");
    drop(store);
    let below = Database::open(&place, &name, &LAYOUT).await.expect("opens");
    let write = |table, key: &str| Write::Put { table, key: key.to_owned(), value: vec![0; 16] };
    let orphans = ["blocks", "meta", "pins"].map(|table| write(table, "nonsense"));
    below.write(orphans.into()).await.expect("writes");
    below.write(vec![write("blocks", "not a cid"), write("meta", "not a cid")]).await.expect("writes");

    let store = open(&place, &name, ROOMY).await;
    assert_eq!(store.stats(), Stats { blocks: 1, bytes: 100, ..Stats::default() });
    assert!(store.has(&good) && store.pin_sets().is_empty());
    for table in ["blocks", "meta"] {
        assert_eq!(below.keys(table).await, Ok(vec![good.to_string()]));
    }
    assert_eq!(below.keys("pins").await, Ok(vec![]));
}

#[async_test]
async fn a_second_tab_gets_a_store_of_its_own() {
    let (place, name) = (lasting_place(), fresh_name());
    let store = open(&place, &name, ROOMY).await;
    assert!(BlockStore::open_named(&place, &name, ROOMY).await.expect("asks").is_none());
    drop(store.clone());
    assert!(BlockStore::open_named(&place, &name, ROOMY).await.expect("asks").is_none());

    let first = BlockStore::open(&place, Network::Testnet, ROOMY, None).await.expect("opens");
    let second = BlockStore::open(&place, Network::Testnet, ROOMY, None).await.expect("opens another");
    let cid = put(&first, 1, 100).await.expect("puts");
    assert!(!second.has(&cid));

    // Both tabs are reloaded, the second one first: it does not take the first one's.
    let (own, other) = (second.number(), first.number());
    assert_ne!(own, other);
    drop((first, second));
    let again = |before| BlockStore::open(&place, Network::Testnet, ROOMY, before);
    let second = again(Some(own)).await.expect("opens its own");
    let first = again(Some(other)).await.expect("opens its own");
    assert_eq!((first.number(), second.number()), (other, own));
    assert!(first.has(&cid) && !second.has(&cid));
    // A duplicated tab remembers the store of its original; a number that cannot be is no reason to fail.
    let third = again(Some(own)).await.expect("opens another");
    assert!(third.number() != own && third.number() != other);
    assert!(again(Some(u32::MAX)).await.expect("opens another").number() > 0);
}
