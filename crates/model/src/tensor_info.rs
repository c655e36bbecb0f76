//! Where a tensor lies in a file, whatever the file's format.

use cdi_types::manifest::DType;

use crate::range_read::{RangeError, RangeRead};

/// Where one tensor lies and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Type of the elements.
    pub dtype: DType,
    /// Outermost dimension first.
    pub shape: Vec<u32>,
    /// First byte, from the start of the file.
    pub offset: u64,
    /// Number of bytes.
    pub bytes: u64,
}

impl TensorInfo {
    /// Fills `buf` with the tensor's bytes from `offset` on.
    ///
    /// # Errors
    /// [`RangeError::OutOfRange`] past the tensor's end, or whatever the file says.
    pub fn read_at(&self, file: &(impl RangeRead + ?Sized), offset: u64, buf: &mut [u8]) -> Result<(), RangeError> {
        let len = buf.len() as u64;
        if offset.checked_add(len).is_none_or(|end| end > self.bytes) {
            return Err(RangeError::OutOfRange { offset, len, size: self.bytes });
        }
        file.read_at(self.offset + offset, buf)
    }
}
