//! One number that stands for all bits of a fixed computation.

use cdi_model::compute::{Compute, WeightFormat};

use super::layer::{Layer, sequence};
use super::{Noise, apply};

/// [`fingerprint`] of the kernel id `cpu-v2`, natively and in a browser.
pub const CPU_V2_FINGERPRINT: u64 = 4_001_833_501_294_807_846;

/// FNV-1a over the bits of three layers' outputs, F32, Q8_0 and Q4_0, and of the operations that a layer has not.
///
/// Back ends of equal kernel ids must give equal fingerprints. Source of the hash:
/// <https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>.
pub async fn fingerprint<C: Compute>(c: &mut C) -> u64 {
    let mut hash = Fnv::new();
    let mut x = sequence(40, 24);
    for (seed, format) in [(41, WeightFormat::F32), (42, WeightFormat::Q8_0), (44, WeightFormat::Q4_0)] {
        let layer = Layer::seeded(c, seed, format);
        x = layer.run(c, &x, [24]).await;
        hash.push(&x);
    }
    let mut noise = Noise::new(43);
    let (weight, bias) = (noise.values(96, 1.0), noise.values(96, 1.0));
    let (weight, bias) = (c.new_vector(&weight).expect("a vector"), c.new_vector(&bias).expect("a vector"));
    hash.push(&apply(c, 96, &x, |c, x| c.layer_norm(x, &weight, &bias, 1e-5)).await);
    hash.push(&apply(c, 96, &x, C::gelu).await);
    hash.push(&apply(c, 96, &x, C::softmax).await);
    hash.0
}

struct Fnv(u64);

impl Fnv {
    const fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    fn push(&mut self, values: &[f32]) {
        for byte in values.iter().flat_map(|v| v.to_bits().to_le_bytes()) {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}
