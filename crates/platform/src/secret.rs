//! Secrets at rest.

use crate::Place;
use crate::db::DbError;
use crate::kv::KeyValue;
use crate::place::Kind;

#[cfg(target_arch = "wasm32")]
#[path = "secret/browser.rs"]
mod imp;
#[cfg(not(target_arch = "wasm32"))]
#[path = "secret/native.rs"]
mod imp;

/// How stored secrets are protected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// In files that only their owner can read (mode 0600).
    OwnerOnlyFile,
    /// Encrypted with a key that the browser uses for this origin and gives to no script (AES-256-GCM, not
    /// extractable). It keeps a copy of the data from being useful, not a script on this page from asking.
    SealedByBrowser,
    /// Not stored: gone with the process or page. In a browser this is a page without a secure context.
    MemoryOnly,
}

/// A small store of secrets. Clones share it.
#[derive(Debug, Clone)]
pub struct Secrets(Inner);

#[derive(Debug, Clone)]
enum Inner {
    Memory(KeyValue),
    Lasting(imp::Secrets),
}

impl Secrets {
    /// Opens or creates the store `name`.
    ///
    /// # Errors
    /// [`DbError`] when storage fails.
    pub async fn open(place: &Place, name: &str) -> Result<Self, DbError> {
        let lasting = match place.kind() {
            Kind::Memory(_) => None,
            Kind::Disk(path) => imp::Secrets::open(path, name).await?,
        };
        match lasting {
            Some(secrets) => Ok(Self(Inner::Lasting(secrets))),
            None => KeyValue::open(&Place::memory(), name).await.map(Inner::Memory).map(Self),
        }
    }

    /// How secrets are protected here.
    #[must_use]
    pub const fn protection(&self) -> Protection {
        match self.0 {
            Inner::Memory(_) => Protection::MemoryOnly,
            Inner::Lasting(_) => imp::PROTECTION,
        }
    }

    /// The secret of this key.
    ///
    /// # Errors
    /// [`DbError::Damaged`] when it cannot be unsealed; [`DbError`] when storage fails.
    pub async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, DbError> {
        match &self.0 {
            Inner::Memory(values) => values.get(key).await,
            Inner::Lasting(secrets) => secrets.get(key).await,
        }
    }

    /// Stores a secret; it is on the disk when this returns, where the system tells.
    ///
    /// # Errors
    /// [`DbError`] when storage fails.
    pub async fn put(&self, key: &str, secret: &[u8]) -> Result<(), DbError> {
        match &self.0 {
            Inner::Memory(values) => values.put(key, secret).await,
            Inner::Lasting(secrets) => secrets.put(key, secret).await,
        }
    }

    /// Forgets a secret, if there is one.
    ///
    /// # Errors
    /// [`DbError`] when storage fails.
    pub async fn delete(&self, key: &str) -> Result<(), DbError> {
        match &self.0 {
            Inner::Memory(values) => values.delete(key).await,
            Inner::Lasting(secrets) => secrets.delete(key).await,
        }
    }

    /// All keys, in no particular order.
    ///
    /// # Errors
    /// [`DbError`] when storage fails.
    pub async fn keys(&self) -> Result<Vec<String>, DbError> {
        match &self.0 {
            Inner::Memory(values) => values.keys().await,
            Inner::Lasting(secrets) => secrets.keys().await,
        }
    }
}
