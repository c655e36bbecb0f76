//! Records the dispatches of a step into one compute pass and submits them together.

use std::pin::Pin;

use cdi_model::compute::ComputeError;
use futures::FutureExt as _;
use futures::channel::oneshot;

use crate::gpu::health::Health;
use crate::gpu::kernel::{Kernel, Pipelines};
use crate::gpu::memory::{Allocation, ScopeResult};
use crate::gpu::params::{Params, SLOT_BYTES};

/// WebGPU's limit of workgroups in one dimension; browsers drop larger dispatches without a visible sign.
pub(crate) const MAX_GROUPS: u32 = 65_535;

/// Workgroups in x and y.
pub(crate) type Grid = [u32; 2];

/// A grid of at least `groups` workgroups for kernels that number them `y * width + x` and skip the surplus.
pub(crate) fn linear_grid(groups: u32) -> Grid {
    let width = groups.clamp(1, MAX_GROUPS);
    [width, groups.div_ceil(width).max(1)]
}

/// The command stream of a device.
pub(crate) struct Recorder {
    device: wgpu::Device,
    queue: wgpu::Queue,
    pipelines: Pipelines,
    params: Params,
    open: Option<Open>,
    /// Validation results of submissions that no `read` has looked at.
    verdicts: Vec<Pin<Box<dyn ScopeResult>>>,
    /// Kept between reads, unmapped.
    staging: Option<wgpu::Buffer>,
}

/// What is recorded and not submitted. The pass comes first: it must end before its encoder.
struct Open {
    pass: wgpu::ComputePass<'static>,
    encoder: wgpu::CommandEncoder,
}

impl Recorder {
    pub(crate) fn new(device: wgpu::Device, queue: wgpu::Queue) -> Self {
        let pipelines = Pipelines::new(&device);
        let params = Params::new(&device);
        Self { device, queue, pipelines, params, open: None, verdicts: Vec::new(), staging: None }
    }

    /// Writes to a buffer before anything recorded runs.
    pub(crate) fn write(&self, target: &Allocation, offset: u64, bytes: &[u8]) {
        self.queue.write_buffer(target.buffer(), offset, bytes);
    }

    /// Whether there are commands to submit.
    pub(crate) fn has_commands(&self) -> bool {
        self.open.is_some()
    }

    /// Whether the next dispatch needs a submission first.
    pub(crate) fn is_full(&self) -> bool {
        self.params.is_full()
    }

    /// Records one dispatch; `buffers` in the order of the kernel's bindings.
    pub(crate) fn dispatch(&mut self, kernel: Kernel, words: &[u32], buffers: &[&Allocation], grid: Grid) {
        let offset = self.params.record(words);
        let pipeline = self.pipelines.get(kernel);
        let mut entries = vec![wgpu::BindGroupEntry {
            binding: 0,
            resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                buffer: self.params.buffer(),
                offset: 0,
                size: wgpu::BufferSize::new(SLOT_BYTES),
            }),
        }];
        entries.extend(
            (1..).zip(buffers).map(|(binding, buffer)| wgpu::BindGroupEntry { binding, resource: buffer.binding() }),
        );
        let bind_group = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &pipeline.layout,
            entries: &entries,
        });
        let open = self.open.get_or_insert_with(|| {
            let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default()).forget_lifetime();
            Open { pass, encoder }
        });
        open.pass.set_pipeline(&pipeline.pipeline);
        open.pass.set_bind_group(0, &bind_group, &[offset]);
        open.pass.dispatch_workgroups(grid[0], grid[1], 1);
    }

    /// Drops whatever was recorded.
    pub(crate) fn discard(&mut self) {
        self.open = None;
        self.params.clear();
    }

    /// Submits what was recorded, then a copy of `source` to `target` where asked.
    pub(crate) fn submit(&mut self, copy: Option<(&Allocation, &wgpu::Buffer)>) {
        if self.open.is_none() && copy.is_none() {
            return;
        }
        // An error while recording makes `finish` fail, so this scope sees the whole step.
        let scope = self.device.push_error_scope(wgpu::ErrorFilter::Validation);
        let mut encoder = match self.open.take() {
            Some(Open { pass, encoder }) => {
                drop(pass);
                encoder
            }
            None => self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default()),
        };
        if let Some((source, target)) = copy {
            encoder.copy_buffer_to_buffer(source.buffer(), 0, target, 0, source.bytes());
        }
        self.params.upload(&self.queue);
        self.queue.submit([encoder.finish()]);
        self.verdicts.push(Box::pin(scope.pop()));
    }

    /// Submits and reads `source` back in the same submission.
    pub(crate) async fn read(&mut self, source: &Allocation, health: &Health) -> Result<Vec<f32>, ComputeError> {
        // Taken out, so that a read that is dropped half way leaves no mapped buffer behind.
        let staging = match self.staging.take() {
            Some(staging) if staging.size() >= source.bytes() => staging,
            _ => self.device.create_buffer(&wgpu::BufferDescriptor {
                label: Some("staging"),
                size: source.bytes().next_power_of_two(),
                usage: wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST,
                mapped_at_creation: false,
            }),
        };
        self.submit(Some((source, &staging)));
        let (sender, receiver) = oneshot::channel();
        staging.map_async(wgpu::MapMode::Read, ..source.bytes(), move |result| {
            // The receiver is gone if the read was dropped; nobody is left to tell.
            let _ = sender.send(result);
        });
        // Natively this waits for the device and runs the callback; in a browser it does nothing and the
        // event loop runs it.
        if let Err(error) = self.device.poll(wgpu::PollType::wait_indefinitely()) {
            health.report(error.to_string());
        }
        let mapped = receiver.await;
        self.judge(health).await?;
        match mapped {
            Ok(Ok(())) => {}
            Ok(Err(error)) => health.report(error.to_string()),
            Err(_) => health.report("the device dropped a read".to_owned()),
        }
        health.check()?;
        let values = match staging.get_mapped_range(..source.bytes()) {
            Ok(view) => view.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect(),
            Err(error) => return Err(ComputeError::DeviceLost(error.to_string())),
        };
        staging.unmap();
        self.staging = Some(staging);
        Ok(values)
    }

    /// Looks at the validation results of all submissions so far.
    async fn judge(&mut self, health: &Health) -> Result<(), ComputeError> {
        while let Some(verdict) = self.verdicts.last_mut() {
            if let Some(error) = verdict.as_mut().await {
                health.report(error.to_string());
            }
            self.verdicts.pop();
        }
        health.check()
    }

    /// Forgets validation results that are known to be good, so that many submissions without a read stay bounded.
    pub(crate) fn sweep(&mut self, health: &Health) {
        self.verdicts.retain_mut(|verdict| match verdict.as_mut().now_or_never() {
            Some(Some(error)) => {
                health.report(error.to_string());
                false
            }
            Some(None) => false,
            None => true,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_linear_grid_covers_its_groups_within_the_limit() {
        for groups in [0, 1, 65_535, 65_536, 131_070, 131_071, u32::MAX] {
            let [x, y] = linear_grid(groups);
            assert!(u64::from(x) * u64::from(y) >= u64::from(groups).max(1));
            assert!(x <= MAX_GROUPS && y <= 65_538 && x > 0 && y > 0);
        }
        assert_eq!(linear_grid(7), [7, 1]);
    }
}
