//! Content-addressed blocks: CIDv1 with SHA-256, as raw bytes or DAG-CBOR.
//!
//! Source: <https://github.com/multiformats/cid>, codec table <https://github.com/multiformats/multicodec>.

pub use cid::Cid;
use multihash::Multihash;
use sha2::{Digest, Sha256};

/// Largest block that any part of the swarm stores, sends or accepts, in bytes.
///
/// IPFS peers refuse blocks above 2 MiB (bitswap) and recommend 1 MiB or less.
pub const MAX_BLOCK_BYTES: usize = 1 << 20;

/// Multicodec of raw bytes.
pub const CODEC_RAW: u64 = 0x55;
/// Multicodec of DAG-CBOR.
pub const CODEC_DAG_CBOR: u64 = 0x71;
const HASH_SHA2_256: u64 = 0x12;

/// Why a block was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    /// The bytes do not hash to the CID that they were asked for by.
    #[error("block does not match its CID {0}")]
    HashMismatch(Cid),
    /// The CID uses a version, codec or hash function that the swarm does not use.
    #[error("unsupported CID {0}: need CIDv1, raw or DAG-CBOR, SHA-256")]
    UnsupportedCid(Cid),
    /// The block is larger than [`MAX_BLOCK_BYTES`].
    #[error("block of {0} bytes is over the limit of {MAX_BLOCK_BYTES}")]
    TooLarge(usize),
}

/// CID of `bytes` as a raw block.
#[must_use]
pub fn raw_cid(bytes: &[u8]) -> Cid {
    cid_of(CODEC_RAW, bytes)
}

/// CID of `bytes`, which the caller has encoded as canonical DAG-CBOR.
#[must_use]
pub fn dag_cbor_cid(bytes: &[u8]) -> Cid {
    cid_of(CODEC_DAG_CBOR, bytes)
}

fn cid_of(codec: u64, bytes: &[u8]) -> Cid {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    let hash = Multihash::wrap(HASH_SHA2_256, &digest).expect("32 bytes fit a 64-byte multihash");
    Cid::new_v1(codec, hash)
}

/// Checks that `cid` is one the swarm uses.
///
/// # Errors
/// [`BlockError::UnsupportedCid`] for another version, codec, hash function or digest length.
pub fn check_cid(cid: &Cid) -> Result<(), BlockError> {
    let supported = cid.version() == cid::Version::V1
        && matches!(cid.codec(), CODEC_RAW | CODEC_DAG_CBOR)
        && cid.hash().code() == HASH_SHA2_256
        && cid.hash().digest().len() == 32;
    if supported { Ok(()) } else { Err(BlockError::UnsupportedCid(*cid)) }
}

/// Checks that `bytes` are the block that `cid` names.
///
/// # Errors
/// [`BlockError::TooLarge`], [`BlockError::UnsupportedCid`] or [`BlockError::HashMismatch`].
pub fn verify(cid: &Cid, bytes: &[u8]) -> Result<(), BlockError> {
    if bytes.len() > MAX_BLOCK_BYTES {
        return Err(BlockError::TooLarge(bytes.len()));
    }
    check_cid(cid)?;
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    if cid.hash().digest() == digest { Ok(()) } else { Err(BlockError::HashMismatch(*cid)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The CID of "hello" as every IPFS implementation computes it
    /// (`printf hello | ipfs add --cid-version 1 --raw-leaves`).
    #[test]
    fn raw_cid_matches_ipfs() {
        assert_eq!(raw_cid(b"hello").to_string(), "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq");
    }

    #[test]
    fn verify_accepts_the_block_and_nothing_else() {
        let cid = raw_cid(b"block");
        assert_eq!(verify(&cid, b"block"), Ok(()));
        assert_eq!(verify(&cid, b"blocc"), Err(BlockError::HashMismatch(cid)));
        let large = vec![0; MAX_BLOCK_BYTES + 1];
        assert_eq!(verify(&cid, &large), Err(BlockError::TooLarge(MAX_BLOCK_BYTES + 1)));
    }

    #[test]
    fn foreign_cids_are_refused() {
        let dag_pb = Cid::new_v1(0x70, *raw_cid(b"x").hash());
        assert_eq!(verify(&dag_pb, b"x"), Err(BlockError::UnsupportedCid(dag_pb)));
        let v0 = Cid::new_v0(*raw_cid(b"x").hash()).expect("a v0 CID");
        assert_eq!(check_cid(&v0), Err(BlockError::UnsupportedCid(v0)));
    }
}
