//! The certificate of a server. Its hash is part of the server's address, so it has to outlive restarts.

use std::fmt;

use sha2::{Digest as _, Sha256};
use str0m::config::DtlsCert;

use crate::fingerprint::Fingerprint;

/// What the bytes begin with: a name and a version.
const MAGIC: &[u8; 8] = b"cdi-dtl1";

/// Longest encoding that is read. A P-256 certificate has about 400 bytes, its key about 140.
const MAX_BYTES: usize = 8 * 1024;

/// SHA-256 of what follows: the stack panics when it is given a damaged key.
const CHECKSUM_BYTES: usize = 32;

/// Length of the prefix that says where the certificate ends and the key begins.
const LENGTH_BYTES: usize = 4;

/// A self-signed certificate for DTLS and its private key.
///
/// Browsers compare its hash with the address and look at nothing else in it, its date included.
#[derive(Clone)]
pub struct Certificate(DtlsCert);

/// Why there is no certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// The bytes are not what [`Certificate::to_bytes`] wrote.
    #[error("not a DTLS certificate with its key")]
    Malformed,
    /// The system could not make a key.
    #[error("no certificate could be made")]
    Generate,
}

impl Certificate {
    /// Makes a new one.
    ///
    /// # Errors
    /// [`CertificateError::Generate`] when the system gives no randomness.
    pub fn generate() -> Result<Self, CertificateError> {
        let provider = str0m::crypto::from_feature_flags();
        provider.dtls_provider.generate_certificate().map(Self).ok_or(CertificateError::Generate)
    }

    /// Certificate and private key, to be kept where only the owner can read them.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let length = u32::try_from(self.0.certificate.len()).expect("a certificate is short");
        let body = [&length.to_be_bytes()[..], &self.0.certificate, &self.0.private_key].concat();
        [&MAGIC[..], &Sha256::digest(&body), &body].concat()
    }

    /// What [`Certificate::to_bytes`] wrote.
    ///
    /// # Errors
    /// [`CertificateError::Malformed`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, CertificateError> {
        let malformed = CertificateError::Malformed;
        let rest = bytes.strip_prefix(MAGIC).filter(|_| bytes.len() <= MAX_BYTES).ok_or(malformed)?;
        let (checksum, rest) = rest.split_first_chunk::<CHECKSUM_BYTES>().ok_or(malformed)?;
        if Sha256::digest(rest)[..] != checksum[..] {
            return Err(malformed);
        }
        let (length, rest) = rest.split_first_chunk::<LENGTH_BYTES>().ok_or(malformed)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| malformed)?;
        let (certificate, private_key) = rest.split_at_checked(length).ok_or(malformed)?;
        if certificate.is_empty() || private_key.is_empty() {
            return Err(malformed);
        }
        Ok(Self(DtlsCert { certificate: certificate.to_vec(), private_key: private_key.to_vec() }))
    }

    /// Its hash, as the address names it.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::new(Sha256::digest(&self.0.certificate).into())
    }

    pub(super) fn for_dtls(&self) -> DtlsCert {
        self.0.clone()
    }
}

/// Without the key.
impl fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Certificate").field(&self.fingerprint().to_sdp()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_certificate_has_the_same_hash() {
        let first = Certificate::generate().unwrap();
        let again = Certificate::from_bytes(&first.to_bytes()).unwrap();
        assert_eq!(first.fingerprint(), again.fingerprint());
        assert_eq!(first.to_bytes(), again.to_bytes());
        assert_ne!(Certificate::generate().unwrap().fingerprint(), first.fingerprint());
        assert!(!format!("{first:?}").contains("private"));
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_refused_without_a_panic(
            bytes in proptest::collection::vec(0_u8.., 0..64), length in 0_u32..,
        ) {
            proptest::prop_assert!(Certificate::from_bytes(&bytes).is_err());
            let body = [&length.to_be_bytes()[..], &bytes].concat();
            let _ = Certificate::from_bytes(&[&MAGIC[..], &Sha256::digest(&body), &body].concat());
        }

        #[test]
        fn any_damage_is_noticed(at in 0_usize..10_000, bit in 0_u8..8) {
            let mut bytes = Certificate::generate().unwrap().to_bytes();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            proptest::prop_assert_eq!(Certificate::from_bytes(&bytes).unwrap_err(), CertificateError::Malformed);
        }
    }
}
