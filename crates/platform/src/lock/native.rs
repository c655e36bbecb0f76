//! Native locks: advisory locks of files, which the system releases when a process dies.

use std::fs::{File, TryLockError, create_dir_all};
use std::path::Path;
use std::sync::Arc;

use super::Held;
use crate::db::DbError;

pub(super) type SharedLock = Arc<File>;

pub(super) async fn take(place: &Path, name: &str) -> Result<Option<Held>, DbError> {
    let directory = place.join("locks");
    let path = directory.join(crate::db::file_name(name));
    crate::db::blocking(move || {
        create_dir_all(directory)?;
        let file = File::options().create(true).append(true).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Held::Shared(Arc::new(file)))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    })
    .await
}
