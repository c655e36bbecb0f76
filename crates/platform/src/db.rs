//! Named tables of byte strings: in memory, in files (native) or in IndexedDB (browser).
//!
//! A batch of writes is given complete, so nothing can be awaited inside an IndexedDB transaction, which
//! would commit on its own meanwhile. A batch is atomic in memory and in IndexedDB. In files each record is
//! (written beside, then renamed) and the batch goes in order, so write first what the rest refers to.
//! Not flushed to the platter: a power cut may lose the last seconds.
//!
//! A database is meant for one process or tab at a time: take a [`crate::lock`].

#[cfg(target_arch = "wasm32")]
#[path = "db/indexed.rs"]
mod imp;
#[cfg(not(target_arch = "wasm32"))]
#[path = "db/files.rs"]
mod imp;
mod memory;

#[cfg(not(target_arch = "wasm32"))]
pub(crate) use imp::{blocking, decode as decode_file_name, encode as file_name, ignore_absent, read_if_present};

use crate::Place;
use crate::place::Kind;

/// Longest name of a database or table and longest key, in bytes: a file name of it stays below 255 bytes.
pub const MAX_NAME_BYTES: usize = 80;
/// Largest value, in bytes.
pub const MAX_VALUE_BYTES: usize = 16 << 20;

const SCHEMA_TABLE: &str = "schema";
const VERSION_KEY: &str = "version";

/// Why a database did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DbError {
    /// The disk is full, or the browser gives this origin no more room.
    #[error("storage is full")]
    Full,
    /// The data was written by a newer version of this program. Reload or update; nothing was changed.
    #[error("the stored data is of a newer version than {known}, which is the newest known here")]
    NewerSchema {
        /// The version of this program's schema.
        known: u32,
    },
    /// A name or key is empty or longer than [`MAX_NAME_BYTES`].
    #[error("not a valid name or key: {0:?}")]
    BadName(String),
    /// A value is larger than [`MAX_VALUE_BYTES`].
    #[error("a value of {0} bytes is over the limit of {MAX_VALUE_BYTES}")]
    TooLarge(usize),
    /// Stored data cannot be read back: damaged, or sealed with a key that is gone.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// The file system or browser failed; the text says how.
    #[error("storage failed: {0}")]
    Failed(String),
}

/// What a database contains.
///
/// The version is not a number that somebody has to remember to raise: it is one more than the number of
/// migrations.
#[derive(Debug, Clone, Copy)]
pub struct Schema {
    /// Names of the tables. A table that is no longer named is dropped by browsers at the next version.
    pub tables: &'static [&'static str],
    /// What turns data of version 1 into 2, 2 into 3, …; only ever appended to.
    pub migrations: &'static [Migration],
}

impl Schema {
    /// Version of the data that this schema reads and writes, from 1.
    #[must_use]
    pub fn version(&self) -> u32 {
        u32::try_from(self.migrations.len()).map_or(u32::MAX, |count| count.saturating_add(1))
    }
}

/// One step from a version of the data to the next. A step that only adds tables keeps every record.
#[derive(Debug, Clone, Copy)]
pub struct Migration {
    /// The table whose records change. The table is read whole: keep bulk data in tables that never change.
    pub table: &'static str,
    /// What becomes of a record, given key and value.
    pub rewrite: fn(&str, &[u8]) -> Rewrite,
}

/// What a migration makes of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rewrite {
    /// It stays.
    Keep,
    /// It gets this value.
    Put(Vec<u8>),
    /// It goes.
    Delete,
}

/// One change of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Sets the value of a key.
    Put {
        /// Name of the table, one of the schema.
        table: &'static str,
        /// Key, up to [`MAX_NAME_BYTES`].
        key: String,
        /// Value, up to [`MAX_VALUE_BYTES`].
        value: Vec<u8>,
    },
    /// Removes a key, if it is there.
    Delete {
        /// Name of the table, one of the schema.
        table: &'static str,
        /// Key.
        key: String,
    },
}

/// An open database. Clones share it.
#[derive(Debug, Clone)]
pub struct Database(Backend);

#[derive(Debug, Clone)]
enum Backend {
    Memory(memory::Tables),
    Disk(imp::Tables),
}

/// Calls the same method of whichever back end.
macro_rules! on_backend {
    ($self:ident . $method:ident ( $($argument:expr),* )) => {
        match &$self.0 {
            Backend::Memory(tables) => tables.$method($($argument),*),
            Backend::Disk(tables) => tables.$method($($argument),*).await,
        }
    };
}

impl Database {
    /// Opens or creates the database `name`, and migrates its data to the schema's version.
    ///
    /// # Errors
    /// [`DbError::NewerSchema`] when the data is of a newer version; [`DbError`] when storage fails.
    pub async fn open(place: &Place, name: &str, schema: &Schema) -> Result<Self, DbError> {
        check_name(name)?;
        let tables: Vec<&'static str> = schema.tables.iter().copied().chain([SCHEMA_TABLE]).collect();
        let database = Self(match place.kind() {
            Kind::Memory(quota) => Backend::Memory(memory::Tables::new(*quota)),
            Kind::Disk(path) => Backend::Disk(imp::Tables::open(path, name, &tables, schema.version()).await?),
        });
        database.migrate(schema).await?;
        Ok(database)
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// [`DbError`] when storage fails.
    pub async fn get(&self, table: &'static str, key: &str) -> Result<Option<Vec<u8>>, DbError> {
        check_name(key)?;
        on_backend!(self.get(table, key))
    }

    /// All keys of a table, in no particular order.
    ///
    /// # Errors
    /// [`DbError`] when storage fails.
    pub async fn keys(&self, table: &'static str) -> Result<Vec<String>, DbError> {
        on_backend!(self.keys(table))
    }

    /// All records of a table, in no particular order. For small tables: they all end up in memory.
    ///
    /// # Errors
    /// [`DbError`] when storage fails.
    pub async fn scan(&self, table: &'static str) -> Result<Vec<(String, Vec<u8>)>, DbError> {
        on_backend!(self.scan(table))
    }

    /// Applies all of `batch`, in order. This is the one way to change anything.
    ///
    /// # Errors
    /// [`DbError::Full`], with nothing changed except in files; [`DbError`] when storage fails.
    pub async fn write(&self, batch: Vec<Write>) -> Result<(), DbError> {
        for write in &batch {
            match write {
                Write::Put { value, .. } if value.len() > MAX_VALUE_BYTES => {
                    return Err(DbError::TooLarge(value.len()));
                }
                Write::Put { key, .. } | Write::Delete { key, .. } => check_name(key)?,
            }
        }
        if batch.is_empty() { Ok(()) } else { on_backend!(self.write(batch)) }
    }

    /// Removes the database `name` and all its data. No handle of it may be open.
    ///
    /// # Errors
    /// [`DbError`] when storage fails.
    pub async fn remove(place: &Place, name: &str) -> Result<(), DbError> {
        check_name(name)?;
        match place.kind() {
            Kind::Memory(_) => Ok(()),
            Kind::Disk(path) => imp::Tables::remove(path, name).await,
        }
    }

    async fn migrate(&self, schema: &Schema) -> Result<(), DbError> {
        let known = schema.version();
        let found = match self.get(SCHEMA_TABLE, VERSION_KEY).await? {
            None => return self.write(vec![version_record(known)]).await,
            Some(value) => {
                let bytes = value.try_into().map_err(|_| DbError::Damaged("schema version".to_owned()))?;
                u32::from_le_bytes(bytes)
            }
        };
        if found > known {
            return Err(DbError::NewerSchema { known });
        }
        let mut version = found.max(1);
        for migration in &schema.migrations[version as usize - 1..] {
            version += 1;
            let mut batch = Vec::new();
            for (key, value) in self.scan(migration.table).await? {
                match (migration.rewrite)(&key, &value) {
                    Rewrite::Keep => {}
                    Rewrite::Put(value) => batch.push(Write::Put { table: migration.table, key, value }),
                    Rewrite::Delete => batch.push(Write::Delete { table: migration.table, key }),
                }
            }
            // Last, so that in files a step that was cut short is taken again.
            batch.push(version_record(version));
            self.write(batch).await?;
        }
        Ok(())
    }
}

fn version_record(version: u32) -> Write {
    Write::Put { table: SCHEMA_TABLE, key: VERSION_KEY.to_owned(), value: version.to_le_bytes().to_vec() }
}

pub(crate) fn check_name(name: &str) -> Result<(), DbError> {
    if (1..=MAX_NAME_BYTES).contains(&name.len()) { Ok(()) } else { Err(DbError::BadName(name.to_owned())) }
}
