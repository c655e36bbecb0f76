//! How the next token is chosen, and the random number that chooses it.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

const DOMAIN: &[u8] = b"cdi/sample/1\0";

/// Parameters of sampling, sent to whichever node holds the head.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Sampling {
    /// 0 chooses the most likely token (greedy).
    pub temperature: f32,
    /// Only the `top_k` most likely tokens are considered; 0 considers all.
    pub top_k: u32,
    /// Only the smallest set of tokens whose probabilities reach `top_p`; 1 considers all.
    pub top_p: f32,
    /// Same seed, same prompt, same kernel id: same answer.
    pub seed: u64,
}

impl Sampling {
    /// The most likely token, always.
    pub const GREEDY: Self = Self { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 };

    /// Whether every value is one that sampling is defined for.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.temperature.is_finite()
            && (0.0..=100.0).contains(&self.temperature)
            && self.top_p > 0.0
            && self.top_p <= 1.0
    }
}

/// The uniform number in [0, 1) that chooses the token after `position`.
///
/// A function of seed and position alone, so that a replacement stage, an audit and the check of a
/// draft all draw the same number.
#[must_use]
pub fn uniform(seed: u64, position: u32) -> f64 {
    let mut hash = Sha256::new();
    hash.update(DOMAIN);
    hash.update(seed.to_le_bytes());
    hash.update(position.to_le_bytes());
    let digest: [u8; 32] = hash.finalize().into();
    let bits =
        u64::from_le_bytes([digest[0], digest[1], digest[2], digest[3], digest[4], digest[5], digest[6], digest[7]]);
    // 53 bits: every value is exact in f64 and below 1.
    #[allow(clippy::cast_precision_loss, reason = "53 bits fit a f64 exactly")]
    let mantissa = (bits >> 11) as f64;
    mantissa / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uniform_is_stable_and_spread() {
        let draws: Vec<f64> = (0..2_000).map(|p| uniform(42, p)).collect();
        assert!(draws.iter().all(|u| (0.0..1.0).contains(u)));
        let mean = draws.iter().sum::<f64>() / 2_000.0;
        assert!((mean - 0.5).abs() < 0.02, "{mean}");
        assert_ne!(uniform(1, 0).to_bits(), uniform(2, 0).to_bits());
        // Pinned, as Python's hashlib computes it: changing it would change every sampled answer of the network.
        assert_eq!(uniform(7, 9).to_bits(), 0x3f83_7f36_c606_30c0);
    }

    #[test]
    fn absurd_parameters_are_invalid() {
        assert!(Sampling::GREEDY.is_valid());
        for bad in [
            Sampling { temperature: f32::NAN, ..Sampling::GREEDY },
            Sampling { temperature: -1.0, ..Sampling::GREEDY },
            Sampling { top_p: 0.0, ..Sampling::GREEDY },
            Sampling { top_p: f32::NAN, ..Sampling::GREEDY },
        ] {
            assert!(!bad.is_valid(), "{bad:?}");
        }
    }
}
