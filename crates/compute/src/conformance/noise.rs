//! Test data: a seeded generator whose numbers are the same everywhere.

/// xorshift64*. Source: <https://www.jstatsoft.org/article/view/v008i14>.
#[derive(Debug, Clone)]
pub struct Noise(u64);

impl Noise {
    /// A generator for a seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// The next 64 bits.
    pub const fn bits(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number in [-1, 1).
    #[allow(clippy::cast_precision_loss, reason = "24 bits fit a f32 exactly")]
    pub const fn unit(&mut self) -> f32 {
        (self.bits() >> 40) as f32 / (1 << 23) as f32 - 1.0
    }

    /// `count` numbers in [-scale, scale).
    pub fn values(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| self.unit() * scale).collect()
    }

    /// An index below `end`.
    #[allow(clippy::cast_possible_truncation, reason = "below end, which is a u32")]
    pub const fn below(&mut self, end: u32) -> u32 {
        (self.bits() % end as u64) as u32
    }
}
