//! Who this relay is: a key that outlives restarts, so that its address stays the same.

use std::path::Path;

use cdi_platform::db::DbError;
use cdi_platform::secret::Secrets;
use cdi_platform::{Place, random};
use cdi_types::Keypair;

/// Store and key of the secret: `<data>/identity/node`, 32 bytes that only the owner can read. Certificates
/// get a store of their own beside it.
const STORE: &str = "identity";
const KEY: &str = "node";

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Storage(#[from] DbError),
    /// The file is not one that this program wrote. It is left alone: a new key would be a new relay.
    #[error("identity/{KEY} does not hold 32 bytes; restore it, or remove it to get a new identity")]
    Malformed,
}

/// The key kept in `data`, made on first use; a new one when there is no directory.
///
/// # Errors
/// See [`IdentityError`].
pub async fn load(data: Option<&Path>) -> Result<Keypair, IdentityError> {
    let place = data.map_or_else(Place::memory, Place::disk);
    let secrets = Secrets::open(&place, STORE).await?;
    let seed = match secrets.get(KEY).await? {
        Some(bytes) => bytes.try_into().map_err(|_| IdentityError::Malformed)?,
        None => {
            let seed = random::seed();
            secrets.put(KEY, &seed).await?;
            seed
        }
    };
    Ok(Keypair::from_seed(&seed))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_identity_outlives_a_restart_and_is_never_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        let data = directory.path().join("relay");
        let first = load(Some(&data)).await.expect("a new identity");
        let second = load(Some(&data)).await.expect("the same identity");
        assert_eq!(first.public(), second.public());
        assert_ne!(load(None).await.expect("an identity").public(), first.public());

        let file = data.join(STORE).join(KEY);
        std::fs::write(&file, b"damaged").expect("writable");
        assert!(matches!(load(Some(&data)).await, Err(IdentityError::Malformed)));
        assert_eq!(std::fs::read(&file).expect("still there"), b"damaged");
    }
}
