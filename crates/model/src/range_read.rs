//! Reading parts of a file without holding it.

/// Why a range was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// The range does not lie in the file.
    #[error("bytes {offset}..+{len} are outside of a file of {size} bytes")]
    OutOfRange {
        /// First byte asked for.
        offset: u64,
        /// Number of bytes asked for.
        len: u64,
        /// Length of the file.
        size: u64,
    },
    /// The storage failed; the text is its own.
    #[error("reading failed: {0}")]
    Storage(String),
}

/// A file of known length that is read piece by piece: a slice, a file on disk, a `Blob` of a browser.
pub trait RangeRead {
    /// Length in bytes.
    fn size(&self) -> u64;

    /// Fills `buf` with the bytes from `offset` on.
    ///
    /// # Errors
    /// [`RangeError::OutOfRange`] unless all of them exist, [`RangeError::Storage`] when the storage fails.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), RangeError>;
}

impl RangeRead for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), RangeError> {
        let part = usize::try_from(offset)
            .ok()
            .and_then(|first| self.get(first..first.checked_add(buf.len())?))
            .ok_or(RangeError::OutOfRange { offset, len: buf.len() as u64, size: self.size() })?;
        buf.copy_from_slice(part);
        Ok(())
    }
}

impl<T: RangeRead + ?Sized> RangeRead for &T {
    fn size(&self) -> u64 {
        (**self).size()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> Result<(), RangeError> {
        (**self).read_at(offset, buf)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_read_only_what_they_hold() {
        let file: &[u8] = b"hello";
        let mut buf = [0; 2];
        file.read_at(3, &mut buf).expect("in range");
        assert_eq!(&buf, b"lo");
        for offset in [4, 5, 6, u64::MAX] {
            assert_eq!(file.read_at(offset, &mut buf), Err(RangeError::OutOfRange { offset, len: 2, size: 5 }));
        }
    }
}
