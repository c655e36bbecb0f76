//! Parameters of the dispatches of one submission, in one uniform buffer with a slot a dispatch.

/// Bytes of a slot that a kernel sees: eight 32-bit words.
pub(crate) const SLOT_BYTES: u64 = 32;

/// Distance of slots: the largest alignment of dynamic uniform offsets that WebGPU allows an adapter to ask for.
const SLOT_STRIDE: usize = 256;

/// Dispatches of one submission. A decode step of a 100-layer model stays below.
const SLOTS: usize = 2048;

/// Parameters recorded since the last submission and the buffer that they go to.
pub(crate) struct Params {
    buffer: wgpu::Buffer,
    recorded: Vec<u8>,
}

impl Params {
    pub(crate) fn new(device: &wgpu::Device) -> Self {
        let buffer = device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("params"),
            size: (SLOTS * SLOT_STRIDE) as u64,
            usage: wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        Self { buffer, recorded: Vec::with_capacity(SLOTS * SLOT_STRIDE) }
    }

    pub(crate) fn buffer(&self) -> &wgpu::Buffer {
        &self.buffer
    }

    pub(crate) fn is_full(&self) -> bool {
        self.recorded.len() == SLOTS * SLOT_STRIDE
    }

    /// Records the words of a dispatch and returns the offset of its slot.
    pub(crate) fn record(&mut self, words: &[u32]) -> u32 {
        debug_assert!(size_of_val(words) as u64 <= SLOT_BYTES && !self.is_full());
        let offset = self.recorded.len();
        self.recorded.extend_from_slice(bytemuck::cast_slice(words));
        self.recorded.resize(offset + SLOT_STRIDE, 0);
        u32::try_from(offset).expect("the whole buffer is smaller than 4 GiB")
    }

    /// Forgets what was recorded.
    pub(crate) fn clear(&mut self) {
        self.recorded.clear();
    }

    /// Sends what was recorded ahead of the commands that read it, and starts again.
    pub(crate) fn upload(&mut self, queue: &wgpu::Queue) {
        queue.write_buffer(&self.buffer, 0, &self.recorded);
        self.clear();
    }
}
