//! One body over memory, files and IndexedDB.

use cdi_platform::Place;
use cdi_platform::db::{Database, DbError, MAX_NAME_BYTES, Migration, Rewrite, Schema, Write};
use cdi_platform::kv::KeyValue;
use cdi_platform::testing::{async_test, fresh_name, lasting_place};

const BULK: &str = "bulk";
const META: &str = "meta";
const FIRST: Schema = Schema { tables: &[BULK, META], migrations: &[] };

fn put(table: &'static str, key: &str, value: &[u8]) -> Write {
    Write::Put { table, key: key.to_owned(), value: value.to_vec() }
}

fn delete(table: &'static str, key: &str) -> Write {
    Write::Delete { table, key: key.to_owned() }
}

async fn conforms(place: &Place) {
    let name = fresh_name();
    let db = Database::open(place, &name, &FIRST).await.expect("opens");
    assert_eq!(db.get(BULK, "a").await, Ok(None));
    assert_eq!(db.keys(BULK).await, Ok(vec![]));
    db.write(vec![]).await.expect("an empty batch");

    let odd = "../Ключ %2f";
    db.write(vec![put(BULK, "a", b"1"), put(BULK, odd, b""), put(META, "a", b"other table")]).await.expect("writes");
    assert_eq!(db.get(BULK, "a").await, Ok(Some(b"1".to_vec())));
    assert_eq!(db.get(BULK, odd).await, Ok(Some(vec![])));
    assert_eq!(db.get(META, "a").await, Ok(Some(b"other table".to_vec())));
    let mut keys = db.keys(BULK).await.expect("keys");
    keys.sort();
    assert_eq!(keys, [odd, "a"]);

    // In order: the last one counts. Deleting what is absent is no error.
    db.write(vec![put(BULK, "a", b"2"), delete(BULK, "a"), put(BULK, "a", b"3"), delete(BULK, "none")])
        .await
        .expect("writes");
    db.write(vec![delete(BULK, odd)]).await.expect("deletes");
    assert_eq!(db.scan(BULK).await, Ok(vec![("a".to_owned(), b"3".to_vec())]));

    let block: Vec<u8> = (0..1_u32 << 20).map(|i| i.to_le_bytes()[1]).collect();
    db.write(vec![put(BULK, "block", &block)]).await.expect("a whole block");
    assert_eq!(db.get(BULK, "block").await, Ok(Some(block)));

    let long = "k".repeat(MAX_NAME_BYTES + 1);
    assert_eq!(db.get(BULK, &long).await, Err(DbError::BadName(long.clone())));
    assert_eq!(db.write(vec![put(BULK, "", b"")]).await, Err(DbError::BadName(String::new())));
    db.write(vec![put(BULK, &long[1..], b"")]).await.expect("the longest key");
    drop(db);
    Database::remove(place, &name).await.expect("removes");
}

#[async_test]
async fn memory_conforms() {
    conforms(&Place::memory()).await;
}

#[async_test]
async fn disk_conforms() {
    conforms(&lasting_place()).await;
}

#[async_test]
async fn a_full_disk_is_reported_and_changes_nothing() {
    let db = Database::open(&Place::memory_of(100), &fresh_name(), &FIRST).await.expect("opens");
    db.write(vec![put(BULK, "a", &[0; 60])]).await.expect("fits");
    assert_eq!(db.write(vec![put(META, "m", b"x"), put(BULK, "b", &[0; 60])]).await, Err(DbError::Full));
    assert_eq!(db.get(META, "m").await, Ok(None));
    db.write(vec![delete(BULK, "a"), put(BULK, "b", &[0; 60])]).await.expect("replaces");
}

#[async_test]
async fn data_outlives_handles_and_is_removed_on_request() {
    let (place, name) = (lasting_place(), fresh_name());
    let values = KeyValue::open(&place, &name).await.expect("opens");
    values.put("kept", b"value").await.expect("puts");
    drop(values);
    let values = KeyValue::open(&place, &name).await.expect("opens again");
    assert_eq!(values.get("kept").await, Ok(Some(b"value".to_vec())));
    assert_eq!(values.keys().await, Ok(vec!["kept".to_owned()]));
    drop(values);
    Database::remove(&place, &name).await.expect("removes");
    let values = KeyValue::open(&place, &name).await.expect("opens anew");
    assert_eq!(values.get("kept").await, Ok(None));
    drop(values);
    Database::remove(&place, &name).await.expect("removes");
}

const SECOND: Schema = Schema {
    tables: &[BULK, META, "added"],
    migrations: &[Migration {
        table: META,
        rewrite: |key, value| match key {
            "go" => Rewrite::Delete,
            "stay" => Rewrite::Keep,
            _ => Rewrite::Put([value, b"+"].concat()),
        },
    }],
};
const THIRD: Schema = Schema {
    tables: SECOND.tables,
    migrations: &[
        SECOND.migrations[0],
        Migration { table: META, rewrite: |_, value| Rewrite::Put([value, b"!"].concat()) },
    ],
};

#[async_test]
async fn data_is_migrated_step_by_step_and_a_newer_schema_is_refused() {
    let (place, name) = (lasting_place(), fresh_name());
    let db = Database::open(&place, &name, &FIRST).await.expect("opens");
    db.write(vec![put(META, "go", b"1"), put(META, "stay", b"2"), put(META, "x", b"3"), put(BULK, "x", b"4")])
        .await
        .expect("writes");
    drop(db);

    let db = Database::open(&place, &name, &THIRD).await.expect("migrates twice");
    let mut meta = db.scan(META).await.expect("scans");
    meta.sort();
    assert_eq!(meta, [("stay".to_owned(), b"2!".to_vec()), ("x".to_owned(), b"3+!".to_vec())]);
    assert_eq!(db.get(BULK, "x").await, Ok(Some(b"4".to_vec())));
    db.write(vec![put("added", "k", b"v")]).await.expect("a new table");
    drop(db);

    let db = Database::open(&place, &name, &THIRD).await.expect("does not migrate again");
    assert_eq!(db.get(META, "x").await, Ok(Some(b"3+!".to_vec())));
    drop(db);

    let refused = Database::open(&place, &name, &SECOND).await.expect_err("refuses");
    assert_eq!(refused, DbError::NewerSchema { known: 2 });
    Database::remove(&place, &name).await.expect("removes");
}
