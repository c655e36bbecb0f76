//! Native secrets: files that only their owner can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::Protection;
use crate::db::{DbError, blocking, check_name, decode_file_name, file_name, ignore_absent, read_if_present};

pub(super) const PROTECTION: Protection = Protection::OwnerOnlyFile;

/// Names ending so are half-written files; no encoded name contains a dot.
const TEMPORARY: &str = ".new";

#[derive(Debug, Clone)]
pub(super) struct Secrets {
    directory: PathBuf,
}

impl Secrets {
    pub(super) async fn open(place: &Path, name: &str) -> Result<Option<Self>, DbError> {
        check_name(name)?;
        let directory = place.join(file_name(name));
        blocking(move || {
            create_private_directory(&directory)?;
            Ok(Some(Self { directory }))
        })
        .await
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, DbError> {
        let path = self.path(key)?;
        blocking(move || read_if_present(&path)).await
    }

    pub(super) async fn put(&self, key: &str, secret: &[u8]) -> Result<(), DbError> {
        let (path, secret) = (self.path(key)?, secret.to_vec());
        blocking(move || {
            let temporary = path.with_extension(TEMPORARY.trim_start_matches('.'));
            // A left-over keeps its mode when opened, so it has to go first.
            ignore_absent(fs::remove_file(&temporary))?;
            let mut file = create_private_file(&temporary)?;
            file.write_all(&secret)?;
            file.sync_all()?;
            fs::rename(temporary, path)
        })
        .await
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), DbError> {
        let path = self.path(key)?;
        blocking(move || ignore_absent(fs::remove_file(path))).await
    }

    pub(super) async fn keys(&self) -> Result<Vec<String>, DbError> {
        let directory = self.directory.clone();
        blocking(move || {
            let names: Result<Vec<_>, _> = fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name())).collect();
            names.map(|names| names.iter().filter_map(|name| decode_file_name(name.to_str()?)).collect())
        })
        .await
    }

    fn path(&self, key: &str) -> Result<PathBuf, DbError> {
        check_name(key)?;
        Ok(self.directory.join(file_name(key)))
    }
}

#[cfg(unix)]
fn create_private_directory(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(unix)]
fn create_private_file(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Elsewhere files of a user's own directory belong to that user alone by default.
#[cfg(not(unix))]
fn create_private_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

#[cfg(not(unix))]
fn create_private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[tokio::test]
    async fn only_the_owner_can_read_a_secret() {
        let directory = tempfile::tempdir().expect("a directory");
        let secrets = Secrets::open(directory.path(), "identity").await.expect("opens").expect("is lasting");
        secrets.put("node", b"first").await.expect("stores");
        secrets.put("node", b"second").await.expect("replaces");
        let path = directory.path().join("identity/node");
        let mode = fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(secrets.get("node").await, Ok(Some(b"second".to_vec())));
        assert_eq!(secrets.keys().await, Ok(vec!["node".to_owned()]));
        secrets.delete("node").await.expect("deletes");
        assert_eq!(secrets.get("node").await, Ok(None));
    }
}
