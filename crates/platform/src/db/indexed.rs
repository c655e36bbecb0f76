//! Tables as IndexedDB object stores with string keys and `Uint8Array` values.

use std::path::Path;
use std::rc::Rc;

use idb::builder::{DatabaseBuilder, ObjectStoreBuilder};
use idb::{ObjectStore, Transaction, TransactionMode, TransactionResult};
use js_sys::Uint8Array;
use wasm_bindgen::{JsCast as _, JsValue};

use super::{DbError, MAX_VALUE_BYTES, Write};
use crate::js;

#[derive(Debug, Clone)]
pub(super) struct Tables(Rc<Open>);

/// Closes the database with the last handle: an open one blocks deletion and upgrades by other tabs.
#[derive(Debug)]
struct Open(idb::Database);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl Tables {
    pub(super) async fn open(
        _place: &Path,
        name: &str,
        tables: &[&'static str],
        version: u32,
    ) -> Result<Self, DbError> {
        let builder = tables.iter().fold(DatabaseBuilder::new(name).version(version), |builder, table| {
            builder.add_object_store(ObjectStoreBuilder::new(table))
        });
        let opened = builder.build().await.map_err(|error| match format!("{error:?}") {
            text if text.contains("VersionError") => DbError::NewerSchema { known: version },
            text => DbError::Failed(text),
        })?;
        Ok(Self(Rc::new(Open(opened))))
    }

    pub(super) async fn remove(_place: &Path, name: &str) -> Result<(), DbError> {
        idb::Factory::new().map_err(failed)?.delete(name).map_err(failed)?.await.map_err(failed)
    }

    pub(super) async fn get(&self, table: &'static str, key: &str) -> Result<Option<Vec<u8>>, DbError> {
        let found = self.read(table)?.get(JsValue::from(key)).map_err(failed)?.await.map_err(failed)?;
        found.map(bytes).transpose()
    }

    pub(super) async fn keys(&self, table: &'static str) -> Result<Vec<String>, DbError> {
        let keys = self.read(table)?.get_all_keys(None, None).map_err(failed)?.await.map_err(failed)?;
        keys.iter().map(text).collect()
    }

    pub(super) async fn scan(&self, table: &'static str) -> Result<Vec<(String, Vec<u8>)>, DbError> {
        let store = self.read(table)?;
        // Both requests belong to one transaction, so they see the same records in the same order.
        let keys = store.get_all_keys(None, None).map_err(failed)?.into_future();
        let values = store.get_all(None, None).map_err(failed)?.into_future();
        let (keys, values) = futures::try_join!(keys, values).map_err(failed)?;
        keys.into_iter().zip(values).map(|(key, value)| Ok((text(&key)?, bytes(value)?))).collect()
    }

    pub(super) async fn write(&self, batch: Vec<Write>) -> Result<(), DbError> {
        let mut tables: Vec<&str> = batch.iter().map(Write::table).collect();
        tables.sort_unstable();
        tables.dedup();
        let transaction = self.0.0.transaction(&tables, TransactionMode::ReadWrite).map_err(failed)?;
        let raw = JsValue::from(transaction);
        let transaction = Transaction::try_from(raw.clone()).map_err(failed)?;
        // Requests are only issued here; the transaction reports for all of them.
        for write in batch {
            let store = transaction.object_store(write.table()).map_err(failed)?;
            match write {
                Write::Put { key, value, .. } => {
                    let _request = store.put(&Uint8Array::from(&value[..]), Some(&key.into())).map_err(failed)?;
                }
                Write::Delete { key, .. } => {
                    let _request = store.delete(JsValue::from(key)).map_err(failed)?;
                }
            }
        }
        match transaction.await {
            Ok(TransactionResult::Committed) => Ok(()),
            // idb does not tell why; the transaction object does.
            Ok(TransactionResult::Aborted) => Err(match js::member(&raw, "error") {
                Some(error) => classify(js::describe(&error)),
                None => DbError::Failed("the transaction was aborted".to_owned()),
            }),
            Err(error) => Err(failed(error)),
        }
    }

    fn read(&self, table: &'static str) -> Result<ObjectStore, DbError> {
        let transaction = self.0.0.transaction(&[table], TransactionMode::ReadOnly).map_err(failed)?;
        transaction.object_store(table).map_err(failed)
    }
}

impl Write {
    fn table(&self) -> &'static str {
        let (Self::Put { table, .. } | Self::Delete { table, .. }) = self;
        table
    }
}

fn text(key: &JsValue) -> Result<String, DbError> {
    key.as_string().ok_or_else(|| DbError::Damaged("a key is not text".to_owned()))
}

fn bytes(value: JsValue) -> Result<Vec<u8>, DbError> {
    let array: Uint8Array = value.dyn_into().map_err(|_| DbError::Damaged("a value is not bytes".to_owned()))?;
    if array.length() as usize > MAX_VALUE_BYTES {
        return Err(DbError::Damaged("a record is too large to be one".to_owned()));
    }
    Ok(array.to_vec())
}

/// Debug and not display: idb's display leaves out the name of the exception.
#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: idb::Error) -> DbError {
    classify(format!("{error:?}"))
}

fn classify(text: String) -> DbError {
    if text.contains("QuotaExceeded") { DbError::Full } else { DbError::Failed(text) }
}
