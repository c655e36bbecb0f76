//! A small key-value store: settings, remembered peers, receipts.

use crate::Place;
use crate::db::{Database, DbError, Schema, Write};

const TABLE: &str = "values";
const SCHEMA: Schema = Schema { tables: &[TABLE], migrations: &[] };

/// An open key-value store: files natively, IndexedDB in a browser, or memory. Clones share it.
#[derive(Debug, Clone)]
pub struct KeyValue(Database);

impl KeyValue {
    /// Opens or creates the store `name`.
    ///
    /// # Errors
    /// [`DbError`] when storage fails.
    pub async fn open(place: &Place, name: &str) -> Result<Self, DbError> {
        Database::open(place, name, &SCHEMA).await.map(Self)
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`DbError`] when storage fails.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, DbError> {
        self.0.get(TABLE, key).await
    }

    /// Sets the value of `key` (up to [`crate::db::MAX_NAME_BYTES`]), up to [`crate::db::MAX_VALUE_BYTES`].
    ///
    /// # Errors
    /// [`DbError::Full`] or another [`DbError`].
    pub async fn put(&self, key: &str, value: &[u8]) -> Result<(), DbError> {
        self.0.write(vec![Write::Put { table: TABLE, key: key.to_owned(), value: value.to_vec() }]).await
    }

    /// Removes `key`, if it is there.
    ///
    /// # Errors
    /// [`DbError`] when storage fails.
    pub async fn delete(&self, key: &str) -> Result<(), DbError> {
        self.0.write(vec![Write::Delete { table: TABLE, key: key.to_owned() }]).await
    }

    /// All keys, in no particular order.
    ///
    /// # Errors
    /// [`DbError`] when storage fails.
    pub async fn keys(&self) -> Result<Vec<String>, DbError> {
        self.0.keys(TABLE).await
    }
}
