//! The certificate of WebRTC-direct, kept like the identity: its hash is part of the relay's address.

use std::path::Path;

use cdi_platform::Place;
use cdi_platform::db::DbError;
use cdi_platform::secret::Secrets;
use cdi_webrtc::native::{Certificate, CertificateError as Unusable};

/// Store and key of the certificate: `<data>/certificates/webrtc-direct`, readable by its owner only.
const STORE: &str = "certificates";
const KEY: &str = "webrtc-direct";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Storage(#[from] DbError),
    /// None could be made.
    #[error(transparent)]
    Generate(Unusable),
    /// The file is not one that this program wrote. It is left alone: a new certificate would be a new address.
    #[error("certificates/{KEY} is damaged; restore it, or remove it to get a new address for WebRTC-direct")]
    Malformed,
}

/// The certificate kept in `data`, made on first use; a new one when there is no directory.
///
/// # Errors
/// See [`CertificateError`].
pub(crate) async fn load(data: Option<&Path>) -> Result<Certificate, CertificateError> {
    let place = data.map_or_else(Place::memory, Place::disk);
    let secrets = Secrets::open(&place, STORE).await?;
    if let Some(bytes) = secrets.get(KEY).await? {
        return Certificate::from_bytes(&bytes).map_err(|_| CertificateError::Malformed);
    }
    let certificate = Certificate::generate().map_err(CertificateError::Generate)?;
    secrets.put(KEY, &certificate.to_bytes()).await?;
    Ok(certificate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_certificate_outlives_a_restart_and_is_never_overwritten() {
        let directory = tempfile::tempdir().expect("a directory");
        let data = directory.path().join("relay");
        let first = load(Some(&data)).await.expect("a new certificate");
        let second = load(Some(&data)).await.expect("the same certificate");
        assert_eq!(first.fingerprint(), second.fingerprint());

        let file = data.join(STORE).join(KEY);
        std::fs::write(&file, b"damaged").expect("writable");
        assert!(matches!(load(Some(&data)).await, Err(CertificateError::Malformed)));
        assert_eq!(std::fs::read(&file).expect("still there"), b"damaged");
    }
}
