//! Metered memory whose exhaustion is an error instead of an abort.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytemuck::{Pod, Zeroable};
use cdi_model::compute::ComputeError;

/// Counts the bytes of all living buffers of one back end.
#[derive(Debug, Clone, Default)]
pub(super) struct Meter(Arc<AtomicU64>);

impl Meter {
    pub(super) fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// `count` elements, all zero.
    pub(super) fn zeroed<T: Copy + Default>(&self, count: u64) -> Result<Buffer<T>, ComputeError> {
        let mut buffer = self.empty(count)?;
        buffer.values.extend(std::iter::repeat_n(T::default(), usize::try_from(count).unwrap_or(usize::MAX)));
        Ok(buffer)
    }

    /// A copy of `values`.
    pub(super) fn copy<T: Copy>(&self, values: &[T]) -> Result<Buffer<T>, ComputeError> {
        let mut buffer = self.empty(values.len() as u64)?;
        buffer.values.extend_from_slice(values);
        Ok(buffer)
    }

    fn empty<T>(&self, count: u64) -> Result<Buffer<T>, ComputeError> {
        let bytes = count.saturating_mul(size_of::<T>() as u64);
        let exhausted = ComputeError::OutOfMemory { bytes };
        let mut values = Vec::new();
        let count = usize::try_from(count).map_err(|_| exhausted.clone())?;
        values.try_reserve_exact(count).map_err(|_| exhausted)?;
        self.0.fetch_add(bytes, Ordering::Relaxed);
        Ok(Buffer { values, bytes, meter: self.clone() })
    }
}

/// A fixed number of elements, counted while it lives.
#[derive(Debug)]
pub(super) struct Buffer<T> {
    values: Vec<T>,
    bytes: u64,
    meter: Meter,
}

impl<T> Deref for Buffer<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.values
    }
}

impl<T> DerefMut for Buffer<T> {
    fn deref_mut(&mut self) -> &mut [T] {
        &mut self.values
    }
}

impl<T> Drop for Buffer<T> {
    fn drop(&mut self) {
        self.meter.0.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Room that operations reuse, so that a step allocates nothing once the first has run.
#[derive(Debug, Default)]
pub(super) struct Scratch(Vec<Aligned>);

#[derive(Debug, Clone, Copy, Default, Pod, Zeroable)]
#[repr(C, align(16))]
struct Aligned([u8; 16]);

impl Scratch {
    /// `count` elements that hold anything. `T` is aligned to at most 16 bytes and fills whole 16 bytes.
    pub(super) fn room<T: Pod>(&mut self, count: usize) -> Result<&mut [T], ComputeError> {
        const { assert!(align_of::<T>() <= 16 && size_of::<T>().is_multiple_of(16)) };
        let chunks = count.saturating_mul(size_of::<T>() / 16);
        let missing = chunks.saturating_sub(self.0.len());
        let exhausted = |_| ComputeError::OutOfMemory { bytes: 16 * chunks as u64 };
        self.0.try_reserve(missing).map_err(exhausted)?;
        self.0.resize(self.0.len() + missing, Aligned::default());
        Ok(bytemuck::cast_slice_mut(&mut self.0[..chunks]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_counted_while_it_lives() {
        let meter = Meter::default();
        let buffer = meter.zeroed::<f32>(3).expect("allocates");
        let copy = meter.copy(&buffer).expect("allocates");
        assert_eq!((copy.len(), meter.bytes()), (3, 24));
        drop(buffer);
        assert_eq!(meter.bytes(), 12);
        drop(copy);
        assert_eq!(meter.bytes(), 0);
    }

    #[test]
    fn exhaustion_is_an_error_and_counts_nothing() {
        let meter = Meter::default();
        let bytes = u64::MAX;
        assert_eq!(meter.zeroed::<f32>(u64::MAX / 2).err(), Some(ComputeError::OutOfMemory { bytes }));
        assert_eq!(meter.bytes(), 0);
    }
}
