//! The account: one Ed25519 key a data directory or browser profile, which every node of it works for.
//!
//! Exported it is a file of text, sealed with a passphrase: Argon2id makes the key (19 MiB, two passes, one lane, the
//! least that OWASP's password storage cheat sheet advises), XChaCha20-Poly1305 seals the seed. The public identifier
//! stands beside it in the clear and is authenticated with it.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use cdi_platform::db::DbError;
use cdi_platform::lock::try_lock_patiently;
use cdi_platform::secret::{Protection, Secrets};
use cdi_platform::{Place, random};
use cdi_types::Keypair;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{KeyInit as _, XChaCha20Poly1305, XNonce};
use serde::{Deserialize, Serialize};

/// Most bytes of an exported account that are read.
pub const MAX_EXPORT_BYTES: usize = 4 << 10;
/// Fewest characters of a passphrase.
pub const MIN_PASSPHRASE_CHARS: usize = 10;

const STORE: &str = "account";
const SEED: &str = "seed";
const SEED_BYTES: usize = 32;
const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;
/// Argon2id: memory in KiB, passes, lanes.
const ARGON2: (u32, u32, u32) = (19 << 10, 2, 1);

/// Why there is no account.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    /// Another tab or process holds the store for longer than it should take.
    #[error("the account is in use")]
    InUse,
    /// The stored seed cannot be read. It is left as it is: import the account again to replace it.
    #[error("the stored account is damaged")]
    Damaged,
    /// The passphrase is too short to protect anything.
    #[error("a passphrase needs at least {MIN_PASSPHRASE_CHARS} characters")]
    ShortPassphrase,
    /// The text is not an exported account.
    #[error("this is not an exported account")]
    NotAnExport,
    /// The passphrase is not the one that the account was exported with, or the file was changed.
    #[error("the passphrase is wrong, or the file was changed")]
    WrongPassphrase,
    /// Key derivation needs memory that is not there.
    #[error("there is not enough memory to derive the key")]
    Memory,
    /// Storage failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Where the account of this data directory or profile is kept. Clones share it.
#[derive(Debug, Clone)]
pub struct Accounts {
    place: Place,
    secrets: Secrets,
}

impl Accounts {
    /// Opens the store.
    ///
    /// # Errors
    /// [`AccountError::Db`] when storage fails.
    pub async fn open(place: &Place) -> Result<Self, AccountError> {
        Ok(Self { place: place.clone(), secrets: Secrets::open(place, STORE).await? })
    }

    /// How the seed is kept.
    #[must_use]
    pub const fn protection(&self) -> Protection {
        self.secrets.protection()
    }

    /// The account, made when there is none. Tabs that start at once agree on one.
    ///
    /// # Errors
    /// [`AccountError`].
    pub async fn load_or_create(&self) -> Result<Keypair, AccountError> {
        if let Some(account) = self.load().await? {
            return Ok(account);
        }
        let _lock = try_lock_patiently(&self.place, STORE).await?.ok_or(AccountError::InUse)?;
        match self.load().await? {
            Some(account) => Ok(account),
            None => {
                let account = Keypair::from_seed(&random::seed());
                self.replace(&account).await?;
                Ok(account)
            }
        }
    }

    /// Makes `account` the one of this place.
    ///
    /// # Errors
    /// [`AccountError::Db`] when storage fails.
    pub async fn replace(&self, account: &Keypair) -> Result<(), AccountError> {
        Ok(self.secrets.put(SEED, &account.seed()).await?)
    }

    async fn load(&self) -> Result<Option<Keypair>, AccountError> {
        let Some(stored) = self.secrets.get(SEED).await? else { return Ok(None) };
        let seed: [u8; SEED_BYTES] = stored.try_into().map_err(|_| AccountError::Damaged)?;
        Ok(Some(Keypair::from_seed(&seed)))
    }
}

/// The exported form, as JSON.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exported {
    /// 1: the algorithms of this file with its parameters.
    cdi_account: u32,
    did: String,
    salt: String,
    nonce: String,
    sealed: String,
}

/// Seals an account with a passphrase.
///
/// # Errors
/// [`AccountError::ShortPassphrase`], [`AccountError::Memory`].
pub fn export(account: &Keypair, passphrase: &str) -> Result<String, AccountError> {
    if passphrase.chars().count() < MIN_PASSPHRASE_CHARS {
        return Err(AccountError::ShortPassphrase);
    }
    let (mut salt, mut nonce) = ([0; SALT_BYTES], [0; NONCE_BYTES]);
    random::fill(&mut salt);
    random::fill(&mut nonce);
    let did = account.public().did_key();
    let payload = Payload { msg: &account.seed(), aad: did.as_bytes() };
    let sealed = cipher(passphrase, &salt)?.encrypt(XNonce::from_slice(&nonce), payload);
    let exported = Exported {
        cdi_account: 1,
        did,
        salt: BASE64.encode(salt),
        nonce: BASE64.encode(nonce),
        sealed: BASE64.encode(sealed.map_err(|_| AccountError::Memory)?),
    };
    serde_json::to_string_pretty(&exported).map_err(|_| AccountError::Memory)
}

/// Opens an exported account. The text is nobody's word: nothing in it decides how much work opening it is.
///
/// # Errors
/// [`AccountError::NotAnExport`], [`AccountError::WrongPassphrase`], [`AccountError::Memory`].
pub fn import(text: &str, passphrase: &str) -> Result<Keypair, AccountError> {
    if text.len() > MAX_EXPORT_BYTES {
        return Err(AccountError::NotAnExport);
    }
    let exported: Exported = serde_json::from_str(text).map_err(|_| AccountError::NotAnExport)?;
    let decoded = |text: &str| BASE64.decode(text).map_err(|_| AccountError::NotAnExport);
    let (salt, nonce, sealed) = (decoded(&exported.salt)?, decoded(&exported.nonce)?, decoded(&exported.sealed)?);
    if exported.cdi_account != 1 || salt.len() != SALT_BYTES || nonce.len() != NONCE_BYTES {
        return Err(AccountError::NotAnExport);
    }
    let payload = Payload { msg: &sealed, aad: exported.did.as_bytes() };
    let opened = cipher(passphrase, &salt)?.decrypt(XNonce::from_slice(&nonce), payload);
    let seed = opened.map_err(|_| AccountError::WrongPassphrase)?;
    let seed: [u8; SEED_BYTES] = seed.try_into().map_err(|_| AccountError::NotAnExport)?;
    let account = Keypair::from_seed(&seed);
    if account.public().did_key() == exported.did { Ok(account) } else { Err(AccountError::NotAnExport) }
}

fn cipher(passphrase: &str, salt: &[u8]) -> Result<XChaCha20Poly1305, AccountError> {
    let (memory, passes, lanes) = ARGON2;
    let params = Params::new(memory, passes, lanes, None).map_err(|_| AccountError::Memory)?;
    let mut key = chacha20poly1305::Key::default();
    let derived = Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(
        passphrase.as_bytes(),
        salt,
        &mut key,
    );
    derived.map_err(|_| AccountError::Memory)?;
    Ok(XChaCha20Poly1305::new(&key))
}

#[cfg(test)]
mod tests {
    use cdi_platform::testing::{async_test, lasting_place};

    use super::*;

    const PASSPHRASE: &str = "correct horse";

    fn account() -> Keypair {
        Keypair::from_seed(&[7; 32])
    }

    #[async_test]
    async fn an_account_outlives_its_page() {
        let place = lasting_place();
        let first = Accounts::open(&place).await.expect("opens").load_or_create().await.expect("an account");
        let accounts = Accounts::open(&place).await.expect("opens");
        assert_eq!(accounts.load_or_create().await.expect("the same").public(), first.public());
        assert_ne!(accounts.protection(), Protection::MemoryOnly);

        accounts.replace(&account()).await.expect("replaces");
        assert_eq!(accounts.load_or_create().await.expect("another").public(), account().public());
    }

    #[async_test]
    async fn a_damaged_seed_is_never_overwritten() {
        let accounts = Accounts::open(&Place::memory()).await.expect("opens");
        accounts.secrets.put(SEED, b"too short").await.expect("puts");
        assert_eq!(accounts.load_or_create().await.map(drop), Err(AccountError::Damaged));
        assert_eq!(accounts.secrets.get(SEED).await, Ok(Some(b"too short".to_vec())));
    }

    #[async_test]
    async fn an_exported_account_comes_back_with_its_passphrase_alone() {
        let text = export(&account(), PASSPHRASE).expect("exports");
        assert!(!text.contains(&account().seed_base64()));
        assert_eq!(import(&text, PASSPHRASE).expect("imports").public(), account().public());
        assert_eq!(import(&text, "another horse").map(drop), Err(AccountError::WrongPassphrase));
        assert_ne!(export(&account(), PASSPHRASE).expect("exports"), text, "salt and nonce are fresh");
        assert_eq!(export(&account(), "short").map(drop), Err(AccountError::ShortPassphrase));
    }

    #[async_test]
    async fn a_changed_file_is_not_an_account() {
        let text = export(&account(), PASSPHRASE).expect("exports");
        let other = Keypair::from_seed(&[8; 32]).public().did_key();
        let renamed = text.replace(&account().public().did_key(), &other);
        assert_eq!(import(&renamed, PASSPHRASE).map(drop), Err(AccountError::WrongPassphrase));
        let cut = text.replace("\"salt\": \"", "\"salt\": \"AAAA");
        for hostile in ["", "{}", "null", &text[1..], &cut, &" ".repeat(MAX_EXPORT_BYTES + 1)] {
            assert_eq!(import(hostile, PASSPHRASE).map(drop), Err(AccountError::NotAnExport), "{hostile:.40}");
        }
    }
}
