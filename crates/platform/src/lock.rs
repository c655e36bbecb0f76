//! Exclusive locks by name, among all processes or tabs that share a [`Place`].
//!
//! In a browser this is the Web Locks API. Where it is missing (an insecure context) a lock excludes only
//! this page or worker from itself: other tabs are not seen.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::Place;
use crate::db::DbError;
use crate::place::Kind;
use crate::time::sleep;

#[cfg(target_arch = "wasm32")]
#[path = "lock/browser.rs"]
mod imp;
#[cfg(not(target_arch = "wasm32"))]
#[path = "lock/native.rs"]
mod imp;

/// How often, and how far apart, a patient claim looks: for 400 ms altogether, which is empirical.
const ATTEMPTS: u32 = 9;
const PAUSE: Duration = Duration::from_millis(50);

/// Names locked by this process, for places that nobody else can see.
static LOCAL: Mutex<Option<HashSet<String>>> = Mutex::new(None);

/// A lock that is held until its last clone is dropped.
#[derive(Debug, Clone)]
#[must_use = "the lock is released when dropped"]
pub struct Lock {
    _held: Held,
}

#[derive(Debug, Clone)]
enum Held {
    Local(#[expect(dead_code, reason = "held for its drop")] Arc<LocalLock>),
    Shared(#[expect(dead_code, reason = "held for its drop")] imp::SharedLock),
}

/// Takes the lock `name`; `None` while somebody else holds it. Never waits for it.
///
/// # Errors
/// [`DbError`] when the lock file cannot be created, or the name is not valid.
pub async fn try_lock(place: &Place, name: &str) -> Result<Option<Lock>, DbError> {
    crate::db::check_name(name)?;
    let held = match place.kind() {
        Kind::Memory(_) => LocalLock::take(name),
        Kind::Disk(path) => imp::take(path, name).await?,
    };
    Ok(held.map(|held| Lock { _held: held }))
}

/// Like [`try_lock`], but gives a holder that is just ending time to let go. A reloaded page may come before
/// its old self, or that one's worker, is gone; and browsers release asynchronously.
///
/// # Errors
/// As [`try_lock`].
pub async fn try_lock_patiently(place: &Place, name: &str) -> Result<Option<Lock>, DbError> {
    for _ in 1..ATTEMPTS {
        if let Some(lock) = try_lock(place, name).await? {
            return Ok(Some(lock));
        }
        sleep(PAUSE).await;
    }
    try_lock(place, name).await
}

/// A lock that only this process sees.
#[derive(Debug)]
struct LocalLock(String);

impl LocalLock {
    fn take(name: &str) -> Option<Held> {
        let mut names = LOCAL.lock().unwrap_or_else(PoisonError::into_inner);
        let free = names.get_or_insert_default().insert(name.to_owned());
        free.then(|| Held::Local(Arc::new(Self(name.to_owned()))))
    }
}

impl Drop for LocalLock {
    fn drop(&mut self) {
        let mut names = LOCAL.lock().unwrap_or_else(PoisonError::into_inner);
        names.get_or_insert_default().remove(&self.0);
    }
}
