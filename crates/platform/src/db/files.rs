//! Tables as directories, records as files: `<place>/<database>/<table>/<two characters>/<key>`.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::{DbError, MAX_VALUE_BYTES, Write};

#[derive(Debug, Clone)]
pub(super) struct Tables {
    root: PathBuf,
}

/// Every process counts from zero, so what a crash left half written is overwritten by the next one.
static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

impl Tables {
    pub(super) async fn open(
        place: &Path,
        name: &str,
        _tables: &[&'static str],
        _version: u32,
    ) -> Result<Self, DbError> {
        let root = place.join(encode(name));
        blocking(move || {
            fs::create_dir_all(temporary_directory(&root))?;
            Ok(Self { root })
        })
        .await
    }

    pub(super) async fn remove(place: &Path, name: &str) -> Result<(), DbError> {
        let root = place.join(encode(name));
        blocking(move || ignore_absent(fs::remove_dir_all(root))).await
    }

    pub(super) async fn get(&self, table: &'static str, key: &str) -> Result<Option<Vec<u8>>, DbError> {
        let path = self.path(table, key);
        blocking(move || read_if_present(&path)).await
    }

    pub(super) async fn keys(&self, table: &'static str) -> Result<Vec<String>, DbError> {
        let directory = self.root.join(table);
        blocking(move || Ok(records(&directory)?.into_iter().map(|(key, _)| key).collect())).await
    }

    pub(super) async fn scan(&self, table: &'static str) -> Result<Vec<(String, Vec<u8>)>, DbError> {
        let directory = self.root.join(table);
        blocking(move || records(&directory)?.into_iter().map(|(key, path)| Ok((key, fs::read(path)?))).collect()).await
    }

    pub(super) async fn write(&self, batch: Vec<Write>) -> Result<(), DbError> {
        let tables = self.clone();
        blocking(move || {
            for write in batch {
                match write {
                    Write::Put { table, key, value } => tables.put(&tables.path(table, &key), &value)?,
                    Write::Delete { table, key } => ignore_absent(fs::remove_file(tables.path(table, &key)))?,
                }
            }
            Ok(())
        })
        .await
    }

    /// Writes beside and renames, so that a record is the old one or the new one, never half of it.
    fn put(&self, path: &Path, value: &[u8]) -> io::Result<()> {
        let number = NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed);
        let temporary = temporary_directory(&self.root).join(number.to_string());
        let written = fs::write(&temporary, value).and_then(|()| {
            if let Some(directory) = path.parent() {
                fs::create_dir_all(directory)?;
            }
            fs::rename(&temporary, path)
        });
        if written.is_err() {
            // Best effort: the first error is the one to report.
            let _absent = fs::remove_file(&temporary);
        }
        written
    }

    fn path(&self, table: &str, key: &str) -> PathBuf {
        let name = encode(key);
        // The two characters before the last: the last of a base32 CID has fewer values.
        // Source: go-ds-flatfs, `next-to-last/2`.
        let end = name.len().saturating_sub(1);
        let fan_out = name.get(end.saturating_sub(2)..end).filter(|part| !part.is_empty()).unwrap_or("_");
        self.root.join(table).join(fan_out).join(&name)
    }
}

fn temporary_directory(root: &Path) -> PathBuf {
    root.join(".temporary")
}

/// Keys and paths of all records of a table.
fn records(table: &Path) -> io::Result<Vec<(String, PathBuf)>> {
    let mut records = Vec::new();
    for fan_out in entries(table)? {
        for path in entries(&fan_out)? {
            let key = path.file_name().and_then(|name| decode(name.to_str()?));
            // Files that are not ours are left alone.
            records.extend(key.map(|key| (key, path)));
        }
    }
    Ok(records)
}

fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// A file name for any key: lower-case letters, digits, `-` and `_` stand for themselves, other bytes are
/// `%` and two digits. Capitals too, as some file systems do not tell them apart.
pub(crate) fn encode(key: &str) -> String {
    let mut name = String::with_capacity(key.len());
    for byte in key.bytes() {
        match byte {
            b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' => name.push(char::from(byte)),
            _ => name.push_str(&format!("%{byte:02x}")),
        }
    }
    name
}

/// The key of a file name; nothing for one that [`encode`] does not write.
pub(crate) fn decode(name: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        let length = if first == '%' { 3 } else { first.len_utf8() };
        let part = rest.get(..length)?;
        match part.strip_prefix('%') {
            Some(digits) => bytes.push(u8::from_str_radix(digits, 16).ok()?),
            None => bytes.extend_from_slice(part.as_bytes()),
        }
        rest = &rest[length..];
    }
    String::from_utf8(bytes).ok().filter(|key| encode(key) == name)
}

/// The contents of a file, which [`Tables::put`] wrote or somebody else tampered with.
pub(crate) fn read_if_present(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut value = Vec::new();
    file.take(MAX_VALUE_BYTES as u64 + 1).read_to_end(&mut value)?;
    if value.len() > MAX_VALUE_BYTES {
        return Err(io::Error::new(ErrorKind::InvalidData, "a record is too large to be one"));
    }
    Ok(Some(value))
}

pub(crate) fn ignore_absent(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Runs file operations where they may block.
pub(crate) async fn blocking<T: Send + 'static>(
    operation: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, DbError> {
    let result = tokio::task::spawn_blocking(operation).await;
    result.map_err(|error| DbError::Failed(error.to_string()))?.map_err(|error| match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => DbError::Full,
        ErrorKind::InvalidData => DbError::Damaged(error.to_string()),
        _ => DbError::Failed(error.to_string()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_record_that_somebody_made_too_large_is_damaged() {
        let place = tempfile::tempdir().expect("a directory");
        let tables = Tables::open(place.path(), "db", &[], 1).await.expect("opens");
        let path = tables.path("table", "key");
        tables.put(&path, b"value").expect("writes");
        File::options().write(true).open(&path).and_then(|file| file.set_len(1 << 40)).expect("grows");
        assert!(matches!(tables.get("table", "key").await, Err(DbError::Damaged(_))));
    }

    #[test]
    fn file_names_round_trip_and_cannot_leave_the_directory() {
        for key in ["bafkrei7", "a/b", "..", "A", "%41", "ключ", "x y\0"] {
            let name = encode(key);
            assert_eq!(decode(&name).as_deref(), Some(key));
            assert!(name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_%".contains(&b)));
        }
        for foreign in ["A", "%4", "%zz", "%61", ".DS_Store", "%+1"] {
            assert_eq!(decode(foreign), None, "{foreign}");
        }
    }
}
