//! Signed envelopes: who said what, on which network, until when.
//!
//! Every payload that outlives one connection travels in an envelope. Replay is refused by whoever
//! keeps the highest `sequence` seen of a sender and kind.

use serde::{Deserialize, Serialize};

use crate::cbor::{self, CborError};
use crate::identity::{Keypair, PublicKey};
use crate::network::Network;

/// Prefix of every signed envelope; a signature made here is worth nothing anywhere else.
const DOMAIN: &[u8] = b"cdi/envelope/1\0";

/// What a sender states and signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Statement {
    /// Network that the statement is made on.
    pub network: Network,
    /// What the payload is, e.g. `advert`.
    pub kind: String,
    /// Who states it.
    pub sender: PublicKey,
    /// Grows with every statement of one sender and kind.
    pub sequence: u64,
    /// Unix time after which the statement is void, in milliseconds.
    pub expires_ms: u64,
    /// Canonical DAG-CBOR of the payload.
    #[serde(with = "serde_bytes")]
    pub payload: Vec<u8>,
}

/// A statement with its sender's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// Canonical DAG-CBOR of a [`Statement`], exactly as it was signed.
    #[serde(with = "serde_bytes")]
    statement: Vec<u8>,
    /// Ed25519 signature over the domain tag and `statement`.
    #[serde(with = "serde_bytes")]
    signature: Vec<u8>,
}

/// Why an envelope was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// Not an envelope, or not in canonical form.
    #[error(transparent)]
    Encoding(#[from] CborError),
    /// The signature is not the sender's.
    #[error("the envelope's signature does not match its sender")]
    Signature,
    /// Made on another network.
    #[error("the envelope belongs to network {0}")]
    Network(Network),
    /// Of another kind than the place it came in by takes.
    #[error("expected an envelope of kind {expected:?}, got {got:?}")]
    Kind {
        /// What the place takes.
        expected: String,
        /// What came.
        got: String,
    },
    /// Past its expiry.
    #[error("the envelope expired at {0} ms")]
    Expired(u64),
}

impl Envelope {
    /// Signs `statement` with `key`, which must be its sender's.
    ///
    /// # Errors
    /// [`EnvelopeError::Signature`] for another key, [`EnvelopeError::Encoding`] for a payload above a block's size.
    pub fn sign(key: &Keypair, statement: &Statement) -> Result<Self, EnvelopeError> {
        if statement.sender != key.public() {
            return Err(EnvelopeError::Signature);
        }
        let statement = cbor::encode(statement)?;
        let signature = key.sign(&signed_bytes(&statement)).to_vec();
        Ok(Self { statement, signature })
    }

    /// The bytes that travel.
    ///
    /// # Errors
    /// [`EnvelopeError::Encoding`] above a block's size.
    pub fn to_bytes(&self) -> Result<Vec<u8>, EnvelopeError> {
        Ok(cbor::encode(self)?)
    }

    /// Decodes and checks `bytes`: form, signature, network, kind and expiry (`now_ms`, Unix milliseconds).
    ///
    /// # Errors
    /// Any [`EnvelopeError`].
    pub fn open(bytes: &[u8], network: Network, kind: &str, now_ms: u64) -> Result<Statement, EnvelopeError> {
        let envelope: Self = cbor::decode(bytes)?;
        let statement: Statement = cbor::decode(&envelope.statement)?;
        if !statement.sender.verify(&signed_bytes(&envelope.statement), &envelope.signature) {
            return Err(EnvelopeError::Signature);
        }
        if statement.network != network {
            return Err(EnvelopeError::Network(statement.network));
        }
        if statement.kind != kind {
            return Err(EnvelopeError::Kind { expected: kind.to_owned(), got: statement.kind });
        }
        if statement.expires_ms <= now_ms {
            return Err(EnvelopeError::Expired(statement.expires_ms));
        }
        Ok(statement)
    }
}

fn signed_bytes(statement: &[u8]) -> Vec<u8> {
    [DOMAIN, statement].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn statement(key: &Keypair) -> Statement {
        Statement {
            network: Network::Testnet,
            kind: "advert".to_owned(),
            sender: key.public(),
            sequence: 3,
            expires_ms: 1_000,
            payload: b"payload".to_vec(),
        }
    }

    fn signed() -> Vec<u8> {
        let key = Keypair::from_seed(&[1; 32]);
        Envelope::sign(&key, &statement(&key)).and_then(|e| e.to_bytes()).expect("signs")
    }

    #[test]
    fn opens_what_was_signed() {
        let opened = Envelope::open(&signed(), Network::Testnet, "advert", 999).expect("opens");
        assert_eq!(opened, statement(&Keypair::from_seed(&[1; 32])));
    }

    #[test]
    fn refuses_the_wrong_network_kind_time_and_key() {
        let bytes = signed();
        let open = |network, kind, now| Envelope::open(&bytes, network, kind, now).expect_err("refused");
        assert_eq!(open(Network::Mainnet, "advert", 0), EnvelopeError::Network(Network::Testnet));
        assert!(matches!(open(Network::Testnet, "receipt", 0), EnvelopeError::Kind { .. }));
        assert_eq!(open(Network::Testnet, "advert", 1_000), EnvelopeError::Expired(1_000));
        let other = Keypair::from_seed(&[2; 32]);
        let forged = Envelope::sign(&other, &statement(&Keypair::from_seed(&[1; 32])));
        assert_eq!(forged, Err(EnvelopeError::Signature));
    }

    proptest! {
        #[test]
        fn no_changed_byte_is_accepted(at in 0usize..200, bit in 0u8..8) {
            let mut bytes = signed();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            prop_assert!(Envelope::open(&bytes, Network::Testnet, "advert", 0).is_err());
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Envelope::open(&bytes, Network::Testnet, "advert", 0).is_err());
        }
    }
}
