//! The file of keys: names, limits, and hashes of the keys. A key itself is shown once and kept nowhere.

use std::io::{self, Write as _};
use std::path::Path;

use cdi_platform::random;
use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::account::Limits;

/// Keys begin so, that they are recognised where they should not be.
const PREFIX: &str = "sk-cdi-";
/// Longest name of a key's holder, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// Why keys cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read or written.
    #[error("the file of keys: {0}")]
    File(#[from] io::Error),
    /// The file is not one of keys.
    #[error("the file of keys is none: {0}")]
    Malformed(#[from] serde_json::Error),
    /// There is a key of this name.
    #[error("there is a key for {0:?} already; revoke it first")]
    Exists(String),
    /// There is no key of this name.
    #[error("there is no key for {0:?}")]
    Unknown(String),
    /// The name is empty, too long, or would not fit on a line.
    #[error("a name has 1 to {MAX_NAME_BYTES} bytes on one line")]
    Name,
}

/// A key, without itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Whose it is.
    pub name: String,
    /// SHA-256 of the key, in hexadecimal. Keys have 256 random bits, so that a slow hash would protect nothing more.
    pub sha256: String,
    /// What its holder may use.
    #[serde(flatten)]
    pub limits: Limits,
}

/// The keys of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFile {
    /// In the order in which they were added.
    pub keys: Vec<Entry>,
}

impl KeyFile {
    /// The keys of the file at `path`; none if there is no file.
    ///
    /// # Errors
    /// [`KeysError::File`] or [`KeysError::Malformed`].
    pub fn read(path: &Path) -> Result<Self, KeysError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn parse(text: &str) -> Result<Self, KeysError> {
        Ok(serde_json::from_str(text)?)
    }

    /// Writes the file at once or not at all, for its owner's eyes.
    ///
    /// # Errors
    /// [`KeysError::File`].
    pub fn write(&self, path: &Path) -> Result<(), KeysError> {
        let beside = path.with_extension("new");
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&beside)?;
        file.write_all(&serde_json::to_vec_pretty(self)?)?;
        file.sync_all()?;
        std::fs::rename(&beside, path)?;
        Ok(())
    }

    /// A new key for `name`, which is told nowhere else.
    ///
    /// # Errors
    /// [`KeysError::Name`] or [`KeysError::Exists`].
    pub fn add(&mut self, name: &str, limits: Limits) -> Result<String, KeysError> {
        if name.is_empty() || name.len() > MAX_NAME_BYTES || name.contains(char::is_control) {
            return Err(KeysError::Name);
        }
        if self.keys.iter().any(|entry| entry.name == name) {
            return Err(KeysError::Exists(name.to_owned()));
        }
        let key = PREFIX.to_owned() + &HEXLOWER.encode(&random::seed());
        self.keys.push(Entry { name: name.to_owned(), sha256: hash(&key), limits });
        Ok(key)
    }

    /// Takes the key of `name` away.
    ///
    /// # Errors
    /// [`KeysError::Unknown`].
    pub fn revoke(&mut self, name: &str) -> Result<(), KeysError> {
        let place = self.keys.iter().position(|entry| entry.name == name);
        self.keys.remove(place.ok_or_else(|| KeysError::Unknown(name.to_owned()))?);
        Ok(())
    }
}

/// What the file holds of a key.
pub(super) fn hash(key: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(key.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_shown_once_and_can_be_revoked() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("keys.json");
        let mut file = KeyFile::read(&path).expect("there is none yet");
        let limits = Limits { requests_a_minute: Some(5), tokens_a_day: None };
        let key = file.add("alice", limits).expect("a key");
        assert!(key.starts_with(PREFIX) && key.len() == PREFIX.len() + 64, "{key}");
        assert!(matches!(file.add("alice", limits), Err(KeysError::Exists(_))));
        assert!(matches!(file.add("a\nb", limits), Err(KeysError::Name)));
        file.write(&path).expect("written");
        let text = std::fs::read_to_string(&path).expect("readable");
        assert!(!text.contains(&key[PREFIX.len()..]), "{text}");
        let mut file = KeyFile::read(&path).expect("a file");
        assert_eq!((file.keys[0].sha256.as_str(), file.keys[0].limits), (hash(&key).as_str(), limits));
        file.revoke("alice").expect("it is there");
        assert!(matches!(file.revoke("alice"), Err(KeysError::Unknown(_))));
        std::fs::write(&path, "[]").expect("written");
        assert!(matches!(KeyFile::read(&path), Err(KeysError::Malformed(_))));
    }
}
