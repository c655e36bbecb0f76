//! Ed25519 identities: key pairs, signatures, libp2p peer ids and `did:key`.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
pub use libp2p_identity::PeerId;
use serde::{Deserialize, Serialize};

/// Multicodec prefix of an Ed25519 public key (0xed as a varint), used by `did:key`.
const MULTICODEC_ED25519: [u8; 2] = [0xed, 0x01];

/// Why bytes or text were not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not 32 bytes, or not valid base64 of 32 bytes.
    #[error("an Ed25519 key is 32 bytes")]
    Length,
    /// 32 bytes that are not a point on the curve.
    #[error("not a valid Ed25519 public key")]
    Invalid,
}

/// A secret Ed25519 key and its public half. Zeroed when dropped; never printed.
#[derive(Clone)]
pub struct Keypair(SigningKey);

/// An Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "serde_bytes::ByteArray<32>", into = "serde_bytes::ByteArray<32>")]
pub struct PublicKey(VerifyingKey);

/// A detached Ed25519 signature, 64 bytes.
pub type Signature = [u8; 64];

impl Keypair {
    /// The key pair of a 32-byte secret seed. The caller draws the seed from a secure source.
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// The key pair of a base64 seed, as [`Keypair::seed_base64`] writes it.
    ///
    /// # Errors
    /// [`KeyError::Length`] unless the text is base64 of exactly 32 bytes.
    pub fn from_seed_base64(text: &str) -> Result<Self, KeyError> {
        let bytes = BASE64.decode(text.trim()).map_err(|_| KeyError::Length)?;
        let seed: [u8; 32] = bytes.try_into().map_err(|_| KeyError::Length)?;
        Ok(Self::from_seed(&seed))
    }

    /// The secret seed, 32 bytes.
    #[must_use]
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The secret seed as base64, 44 characters.
    #[must_use]
    pub fn seed_base64(&self) -> String {
        BASE64.encode(self.seed())
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs `message`. The caller prefixes a domain tag, so that a signature made for one purpose
    /// is worth nothing for another.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> Signature {
        self.0.sign(message).to_bytes()
    }

    /// The same key in libp2p's form, for the transport.
    ///
    /// # Panics
    /// Never: every 32-byte seed is an Ed25519 key.
    #[must_use]
    pub fn to_libp2p(&self) -> libp2p_identity::Keypair {
        libp2p_identity::Keypair::ed25519_from_bytes(self.seed()).expect("a seed is 32 bytes")
    }
}

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keypair({})", self.public().peer_id())
    }
}

impl PublicKey {
    /// The key that the 32 bytes encode.
    ///
    /// # Errors
    /// [`KeyError::Invalid`] when they are not a curve point.
    pub fn from_bytes(bytes: &[u8; 32]) -> Result<Self, KeyError> {
        VerifyingKey::from_bytes(bytes).map(Self).map_err(|_| KeyError::Invalid)
    }

    /// The 32 bytes of the key.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The key as base64, 44 characters.
    #[must_use]
    pub fn to_base64(&self) -> String {
        BASE64.encode(self.to_bytes())
    }

    /// Whether `signature` is this key's over `message`. A malformed signature is `false`, never an error.
    ///
    /// Strict verification: rejects small-order keys and malleable encodings, which the plain check of
    /// RFC 8032 lets pass.
    #[must_use]
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        ed25519_dalek::Signature::from_slice(signature).is_ok_and(|s| self.0.verify_strict(message, &s).is_ok())
    }

    /// The libp2p peer id of the key.
    ///
    /// # Panics
    /// Never: the bytes of a [`PublicKey`] are a curve point.
    #[must_use]
    pub fn peer_id(&self) -> PeerId {
        let key = libp2p_identity::ed25519::PublicKey::try_from_bytes(&self.to_bytes()).expect("a curve point");
        libp2p_identity::PublicKey::from(key).to_peer_id()
    }

    /// The public key inside a peer id: Ed25519 peer ids carry it whole (identity multihash).
    #[must_use]
    pub fn from_peer_id(peer: &PeerId) -> Option<Self> {
        let hash = multihash::Multihash::<64>::from_bytes(&peer.to_bytes()).ok()?;
        let key = (hash.code() == 0)
            .then(|| libp2p_identity::PublicKey::try_decode_protobuf(hash.digest()).ok())
            .flatten()?;
        Self::from_bytes(&key.try_into_ed25519().ok()?.to_bytes()).ok()
    }

    /// The key as a `did:key` identifier.
    ///
    /// Source: <https://w3c-ccg.github.io/did-key-spec/> (multibase base58btc of multicodec-prefixed key).
    #[must_use]
    pub fn did_key(&self) -> String {
        let bytes = [&MULTICODEC_ED25519[..], &self.to_bytes()].concat();
        format!("did:key:z{}", bs58::encode(bytes).into_string())
    }

    /// The key of a `did:key` identifier.
    ///
    /// # Errors
    /// [`KeyError::Length`] when it is not one of an Ed25519 key, [`KeyError::Invalid`] for a bad point.
    pub fn from_did_key(did: &str) -> Result<Self, KeyError> {
        let text = did.strip_prefix("did:key:z").ok_or(KeyError::Length)?;
        let bytes = bs58::decode(text).into_vec().map_err(|_| KeyError::Length)?;
        let key = bytes.strip_prefix(&MULTICODEC_ED25519[..]).ok_or(KeyError::Length)?;
        Self::from_bytes(key.try_into().map_err(|_| KeyError::Length)?)
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.peer_id())
    }
}

impl TryFrom<serde_bytes::ByteArray<32>> for PublicKey {
    type Error = KeyError;

    fn try_from(bytes: serde_bytes::ByteArray<32>) -> Result<Self, KeyError> {
        Self::from_bytes(&bytes.into_array())
    }
}

impl From<PublicKey> for serde_bytes::ByteArray<32> {
    fn from(key: PublicKey) -> Self {
        Self::new(key.to_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keypair() -> Keypair {
        Keypair::from_seed(&[7; 32])
    }

    #[test]
    fn base64_keys_have_the_right_length_and_round_trip() {
        let key = keypair();
        assert_eq!(key.seed_base64().len(), 44);
        assert_eq!(key.public().to_base64().len(), 44);
        let again = Keypair::from_seed_base64(&key.seed_base64()).expect("its own export");
        assert_eq!(again.public(), key.public());
        assert!(Keypair::from_seed_base64("AAAA").is_err());
        assert!(Keypair::from_seed_base64("not base64!").is_err());
    }

    #[test]
    fn an_invalid_signature_is_false_not_an_error() {
        let key = keypair();
        let signature = key.sign(b"message");
        assert!(key.public().verify(b"message", &signature));
        assert!(!key.public().verify(b"massage", &signature));
        let mut broken = signature;
        broken[3] ^= 1;
        assert!(!key.public().verify(b"message", &broken));
        assert!(!key.public().verify(b"message", &signature[..63]));
        assert!(!key.public().verify(b"message", b""));
        assert!(!Keypair::from_seed(&[8; 32]).public().verify(b"message", &signature));
    }

    /// Test vector 1 of RFC 8032, section 7.1.
    #[test]
    fn rfc8032_vector() {
        let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let key = Keypair::from_seed(&seed.try_into().expect("32 bytes"));
        assert_eq!(
            key.public().to_bytes().to_vec(),
            hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")
        );
        let signature = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155\
                         5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";
        assert_eq!(key.sign(b"").to_vec(), hex(signature));
    }

    #[test]
    fn peer_id_carries_the_key() {
        let public = keypair().public();
        assert!(public.peer_id().to_string().starts_with("12D3KooW"));
        assert_eq!(PublicKey::from_peer_id(&public.peer_id()), Some(public));
        assert_eq!(keypair().to_libp2p().public().to_peer_id(), public.peer_id());
    }

    /// The example of the did:key specification's Ed25519 section has this prefix for every Ed25519 key.
    #[test]
    fn did_key_round_trips() {
        let public = keypair().public();
        let did = public.did_key();
        assert!(did.starts_with("did:key:z6Mk"), "{did}");
        assert_eq!(PublicKey::from_did_key(&did), Ok(public));
        assert!(PublicKey::from_did_key("did:key:zQ3shokFTS3brHcDQrn82RUDfCZESWL1ZdCEJwekUDPQiYBme").is_err());
        assert!(PublicKey::from_did_key("did:web:example.org").is_err());
    }

    #[test]
    fn debug_output_has_no_secret() {
        let key = keypair();
        assert!(!format!("{key:?}").contains(&key.seed_base64()));
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> =
            text.chars().filter_map(|c| c.to_digit(16)).map(|d| u8::try_from(d).expect("a digit")).collect();
        digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
    }
}
