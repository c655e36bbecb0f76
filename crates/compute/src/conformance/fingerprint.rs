//! One number that stands for all bits of a fixed computation.

use cdi_model::compute::{Compute, WeightFormat};

use super::layer::{Layer, sequence};

/// [`fingerprint`] of the kernel id `cpu-f32-v1`, natively and in a browser.
pub const CPU_F32_V1_FINGERPRINT: u64 = 41_022_542_715_548_602;

/// FNV-1a over the bits of two layers' outputs, F32 and Q8_0.
///
/// Back ends of equal kernel ids must give equal fingerprints. Source of the hash:
/// <https://datatracker.ietf.org/doc/html/draft-eastlake-fnv>.
pub async fn fingerprint<C: Compute>(c: &mut C) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    let mut x = sequence(40, 24);
    for (seed, format) in [(41, WeightFormat::F32), (42, WeightFormat::Q8_0)] {
        let layer = Layer::seeded(c, seed, format);
        x = layer.run(c, &x, [24]).await;
        for byte in x.iter().flat_map(|x| x.to_bits().to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    hash
}
