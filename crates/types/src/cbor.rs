//! Canonical DAG-CBOR: one value, one encoding, one CID.
//!
//! Source: <https://ipld.io/specs/codecs/dag-cbor/spec/>.

use serde::{Serialize, de::DeserializeOwned};

use crate::block::MAX_BLOCK_BYTES;

/// Why bytes were not a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CborError {
    /// Larger than a block may be.
    #[error("DAG-CBOR value of {0} bytes is over the limit of {MAX_BLOCK_BYTES}")]
    TooLarge(usize),
    /// Malformed, or not of the expected shape.
    #[error("invalid DAG-CBOR: {0}")]
    Invalid(String),
    /// Valid, but not the one canonical encoding of its value.
    #[error("DAG-CBOR value is not in canonical form")]
    NotCanonical,
}

/// Encodes `value` canonically.
///
/// # Errors
/// [`CborError::Invalid`] when the value cannot be represented, [`CborError::TooLarge`] above a block's size.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CborError> {
    let bytes = serde_ipld_dagcbor::to_vec(value).map_err(|e| CborError::Invalid(e.to_string()))?;
    if bytes.len() > MAX_BLOCK_BYTES { Err(CborError::TooLarge(bytes.len())) } else { Ok(bytes) }
}

/// Decodes `bytes`, which must be the canonical encoding of the result.
///
/// Re-encoding is what makes the check complete: key order, integer width and float width are all covered.
/// A field that `T` does not know is refused by the same comparison.
///
/// # Errors
/// Any [`CborError`].
pub fn decode<T: Serialize + DeserializeOwned>(bytes: &[u8]) -> Result<T, CborError> {
    if bytes.len() > MAX_BLOCK_BYTES {
        return Err(CborError::TooLarge(bytes.len()));
    }
    let value: T = serde_ipld_dagcbor::from_slice(bytes).map_err(|e| CborError::Invalid(e.to_string()))?;
    if encode(&value)? == bytes { Ok(value) } else { Err(CborError::NotCanonical) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn round_trip() {
        let map = BTreeMap::from([("b".to_owned(), 1u64), ("aa".to_owned(), 300)]);
        assert_eq!(decode::<BTreeMap<String, u64>>(&encode(&map).expect("encodes")), Ok(map));
    }

    #[test]
    fn another_encoding_of_the_same_value_is_refused() {
        // 1 as a two-byte integer: legal CBOR, not canonical.
        assert!(decode::<u64>(&[0x18, 0x01]).is_err());
        // {"aa": 1, "b": 2}: DAG-CBOR sorts shorter keys first.
        let unsorted = [0xa2, 0x62, b'a', b'a', 0x01, 0x61, b'b', 0x02];
        assert_eq!(decode::<BTreeMap<String, u64>>(&unsorted), Err(CborError::NotCanonical));
    }

    #[test]
    fn oversize_is_refused_before_parsing() {
        assert_eq!(decode::<u64>(&vec![0; MAX_BLOCK_BYTES + 1]), Err(CborError::TooLarge(MAX_BLOCK_BYTES + 1)));
    }
}
