//! Buffers of a device: what weights and caches own, and a pool that activations are drawn from.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cdi_model::compute::ComputeError;
use futures::FutureExt as _;

use crate::gpu::health::Health;

/// Free activation buffers that no step has used for this many submissions are given back. Empirical: longer
/// than the alternation of prefill chunks and decode steps, short against a conversation.
const TRIM_AFTER_SUBMISSIONS: u64 = 256;

/// Smallest pooled buffer; the binding granularity of storage buffers.
const SMALLEST_BYTES: u64 = 256;

/// Allocates buffers within the limits of the device.
pub(crate) struct Memory {
    device: wgpu::Device,
    health: Health,
    largest_binding: u64,
    shared: Arc<Shared>,
    /// Allocations whose outcome the browser has not told yet.
    undecided: Vec<(u64, Verdict)>,
}

/// Result of an error scope; a boxed trait of its own because `WasmNotSend` cannot be added to `dyn Future`.
type Verdict = Pin<Box<dyn ScopeResult>>;

pub(crate) trait ScopeResult: Future<Output = Option<wgpu::Error>> + wgpu::WasmNotSend {}
impl<T: Future<Output = Option<wgpu::Error>> + wgpu::WasmNotSend> ScopeResult for T {}

/// What buffers report to when they are dropped.
#[derive(Debug, Default)]
struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    held_bytes: u64,
    /// Submissions so far.
    submissions: u64,
    /// Free activation buffers by size.
    free: HashMap<u64, Vec<Free>>,
    /// Dropped by their owner, but perhaps named by commands that are not submitted yet.
    retired: Vec<wgpu::Buffer>,
}

#[derive(Debug)]
struct Free {
    buffer: wgpu::Buffer,
    /// Value of `submissions` when it was returned.
    returned: u64,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A buffer of which `bytes` are in use. Returns to the pool, or is destroyed, when dropped.
#[derive(Debug)]
pub(crate) struct Allocation {
    buffer: wgpu::Buffer,
    bytes: u64,
    pooled: bool,
    shared: Arc<Shared>,
}

impl Allocation {
    pub(crate) fn buffer(&self) -> &wgpu::Buffer {
        &self.buffer
    }

    /// Bytes in use, a multiple of four.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The part in use as a storage binding.
    pub(crate) fn binding(&self) -> wgpu::BindingResource<'_> {
        wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: &self.buffer,
            offset: 0,
            size: wgpu::BufferSize::new(self.bytes),
        })
    }
}

impl Drop for Allocation {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        let returned = state.submissions;
        if self.pooled {
            let free = Free { buffer: self.buffer.clone(), returned };
            state.free.entry(self.buffer.size()).or_default().push(free);
        } else {
            state.held_bytes -= self.buffer.size();
            state.retired.push(self.buffer.clone());
        }
    }
}

impl Memory {
    #[allow(clippy::arc_with_non_send_sync, reason = "wgpu's buffers are Send and Sync natively, but not in a tab")]
    pub(crate) fn new(device: wgpu::Device, health: Health, largest_binding: u64) -> Self {
        Self { device, health, largest_binding, shared: Arc::default(), undecided: Vec::new() }
    }

    pub(crate) fn held_bytes(&self) -> u64 {
        self.shared.state().held_bytes
    }

    /// Most bytes that one storage binding can name.
    pub(crate) fn largest_binding(&self) -> u64 {
        self.largest_binding
    }

    /// A zeroed buffer for weights or a cache.
    pub(crate) fn own(&mut self, bytes: u64) -> Result<Allocation, ComputeError> {
        self.check_size(bytes)?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let buffer = self.allocate(bytes, usage)?;
        Ok(Allocation { buffer, bytes, pooled: false, shared: self.shared.clone() })
    }

    /// A buffer for the result of a kernel; it may hold anything.
    pub(crate) fn activation(&mut self, bytes: u64) -> Result<Allocation, ComputeError> {
        self.pooled(bytes, u64::MAX)
    }

    /// A buffer for the queue to write to. Such a write runs before all commands of the coming submission,
    /// so the buffer must be one that none of them names.
    pub(crate) fn upload_target(&mut self, bytes: u64) -> Result<Allocation, ComputeError> {
        let submissions = self.shared.state().submissions;
        self.pooled(bytes, submissions)
    }

    /// A pooled buffer that was returned before submission `before`.
    fn pooled(&mut self, bytes: u64, before: u64) -> Result<Allocation, ComputeError> {
        self.check_size(bytes)?;
        let size = bytes.next_power_of_two().clamp(SMALLEST_BYTES, self.largest_binding.max(SMALLEST_BYTES));
        let reused = self.shared.state().free.get_mut(&size).and_then(|free| {
            let at = free.iter().rposition(|free| free.returned < before)?;
            Some(free.swap_remove(at).buffer)
        });
        let buffer = match reused {
            Some(buffer) => buffer,
            None => {
                let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST | wgpu::BufferUsages::COPY_SRC;
                self.allocate(size, usage)?
            }
        };
        Ok(Allocation { buffer, bytes, pooled: true, shared: self.shared.clone() })
    }

    fn check_size(&self, bytes: u64) -> Result<(), ComputeError> {
        if bytes > self.largest_binding { Err(ComputeError::OutOfMemory { bytes }) } else { Ok(()) }
    }

    fn allocate(&mut self, bytes: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer, ComputeError> {
        let buffer = match self.try_allocate(bytes, usage) {
            Err(_) => {
                self.drop_free();
                self.try_allocate(bytes, usage)?
            }
            Ok(buffer) => buffer,
        };
        self.shared.state().held_bytes += buffer.size();
        Ok(buffer)
    }

    /// Natively the outcome is known at once; a browser tells it later, to [`Memory::settle`].
    fn try_allocate(&mut self, size: u64, usage: wgpu::BufferUsages) -> Result<wgpu::Buffer, ComputeError> {
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let buffer =
            self.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false });
        let mut verdict: Verdict = Box::pin(scope.pop());
        match verdict.as_mut().now_or_never() {
            Some(None) => Ok(buffer),
            Some(Some(_)) => Err(ComputeError::OutOfMemory { bytes: size }),
            None => {
                self.undecided.push((size, verdict));
                Ok(buffer)
            }
        }
    }

    /// Waits for the outcome of earlier allocations.
    pub(crate) async fn settle(&mut self) -> Result<(), ComputeError> {
        let mut failed = None;
        // One by one, so that a caller that gives up half way loses none.
        while let Some((bytes, verdict)) = self.undecided.last_mut() {
            if verdict.as_mut().await.is_some() {
                failed = Some(*bytes);
            }
            self.undecided.pop();
        }
        match failed {
            Some(bytes) => {
                // Whatever used the missing buffer was refused; that says nothing about the device.
                self.health.forgive();
                Err(ComputeError::OutOfMemory { bytes })
            }
            None => Ok(()),
        }
    }

    /// To be called after each submission: destroys what only the submitted commands still named.
    pub(crate) fn submitted(&mut self) {
        let mut state = self.shared.state();
        state.submissions += 1;
        let submissions = state.submissions;
        let mut trimmed = Vec::new();
        for free in state.free.values_mut() {
            trimmed.extend(free.extract_if(.., |free| free.returned + TRIM_AFTER_SUBMISSIONS < submissions));
        }
        for free in trimmed {
            state.held_bytes -= free.buffer.size();
            state.retired.push(free.buffer);
        }
        // Dropping the handle would leave the memory to a browser's garbage collector.
        state.retired.drain(..).for_each(|buffer| buffer.destroy());
    }

    /// Gives back every free activation buffer.
    pub(crate) fn drop_free(&mut self) {
        let mut state = self.shared.state();
        for free in std::mem::take(&mut state.free).into_values().flatten() {
            state.held_bytes -= free.buffer.size();
            state.retired.push(free.buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use cdi_model::compute::Compute as _;
    use futures::executor::block_on;

    use super::*;
    use crate::gpu::open_for_test;

    /// A browser tells later that an allocation failed: then it is that, and not a lost device.
    #[test]
    fn a_late_refusal_is_out_of_memory() {
        let Some(mut gpu) = open_for_test() else { return };
        let x = gpu.upload(4, &[1.0; 4]).expect("an upload");
        let refusal = wgpu::Error::OutOfMemory { source: "refused".into() };
        gpu.memory.undecided.push((4096, Box::pin(std::future::ready(Some(refusal)))));
        gpu.health.report("an invalid buffer was used".to_owned());
        assert_eq!(block_on(gpu.read(&x)), Err(ComputeError::OutOfMemory { bytes: 4096 }));
        assert_eq!(block_on(gpu.read(&x)), Ok(vec![1.0; 4]));
    }
}
