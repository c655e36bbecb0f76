//! Which token comes next.

use std::cmp::Ordering;

use cdi_types::sampling::{Sampling, uniform};

/// Why no token was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SampleError {
    /// No logit is a number above negative infinity: whatever computed them is broken.
    #[error("no usable logit among {0}")]
    NoCandidate(usize),
    /// [`Sampling::is_valid`] does not hold.
    #[error("invalid sampling parameters")]
    InvalidSampling,
}

/// Chooses the token that follows `position`, from one row of logits.
///
/// A pure function: same logits, parameters and position, same token, on every target. NaN and negative
/// infinity are never chosen. Greedy takes the largest logit and, of equal ones, the lowest id.
///
/// Sampling orders the tokens by logit, largest first, equal ones by id, and sums in this order and in f64:
/// weights are `e^((logit - max) / temperature)` (by `libm`, whose result does not depend on the platform); `top_k`
/// cuts first, then `top_p` to the shortest beginning whose weight reaches `top_p` of the sum; the token is the
/// first at which the running sum exceeds [`uniform`]`(seed, position)` times the sum of what is left.
///
/// # Errors
/// Any [`SampleError`].
pub fn choose(logits: &[f32], sampling: &Sampling, position: u32) -> Result<u32, SampleError> {
    if !sampling.is_valid() {
        return Err(SampleError::InvalidSampling);
    }
    let mut candidates: Vec<(u32, f32)> =
        (0u32..).zip(logits.iter().copied()).filter(|(_, logit)| *logit > f32::NEG_INFINITY).collect();
    let best = candidates.iter().copied().min_by(order).ok_or(SampleError::NoCandidate(logits.len()))?;
    if sampling.temperature == 0.0 {
        return Ok(best.0);
    }
    let top_k = sampling.top_k as usize;
    if (1..candidates.len()).contains(&top_k) {
        candidates.select_nth_unstable_by(top_k - 1, order);
        candidates.truncate(top_k);
    }
    candidates.sort_unstable_by(order);
    let weight = |logit: f32| {
        // Where both are infinite the difference is no number.
        if logit == best.1 { 1.0 } else { libm::exp(f64::from(logit - best.1) / f64::from(sampling.temperature)) }
    };
    let weights: Vec<f64> = candidates.iter().map(|(_, logit)| weight(*logit)).collect();
    let kept = nucleus(&weights, f64::from(sampling.top_p));
    let total: f64 = kept.iter().sum();
    let target = uniform(sampling.seed, position) * total;
    let mut sum = 0.0;
    let chosen = kept.iter().position(|weight| {
        sum += weight;
        sum > target
    });
    // `uniform` is below 1, so the running sum passes the target, unless rounding lets both end equal.
    Ok(candidates[chosen.unwrap_or(kept.len() - 1)].0)
}

/// The shortest beginning of `weights` that reaches `top_p` of their sum, at least one.
fn nucleus(weights: &[f64], top_p: f64) -> &[f64] {
    if top_p >= 1.0 {
        return weights;
    }
    let target = weights.iter().sum::<f64>() * top_p;
    let mut sum = 0.0;
    let last = weights.iter().position(|weight| {
        sum += weight;
        sum >= target
    });
    last.map_or(weights, |last| &weights[..=last])
}

/// Largest logit first, equal ones by id. There is no NaN here; `+0` and `-0` are equal.
fn order(a: &(u32, f32), b: &(u32, f32)) -> Ordering {
    b.1.partial_cmp(&a.1).unwrap_or(Ordering::Equal).then(a.0.cmp(&b.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wasm_bindgen_test::wasm_bindgen_test;

    use super::*;

    const WARM: Sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 42 };

    #[test]
    fn greedy_takes_the_lowest_of_the_largest() {
        assert_eq!(choose(&[1.0, 3.0, 3.0], &Sampling::GREEDY, 0), Ok(1));
        assert_eq!(choose(&[f32::NAN, -0.0, 0.0], &Sampling::GREEDY, 0), Ok(1));
        assert_eq!(choose(&[1.0, f32::INFINITY], &Sampling::GREEDY, 0), Ok(1));
    }

    #[test]
    fn nothing_to_choose_from_is_an_error() {
        for logits in [&[][..], &[f32::NAN, f32::NEG_INFINITY]] {
            for sampling in [Sampling::GREEDY, WARM] {
                assert_eq!(choose(logits, &sampling, 0), Err(SampleError::NoCandidate(logits.len())));
            }
        }
        let bad = Sampling { top_p: 0.0, ..WARM };
        assert_eq!(choose(&[1.0], &bad, 0), Err(SampleError::InvalidSampling));
    }

    #[test]
    fn infinite_logits_share_everything() {
        let logits = [0.0, f32::INFINITY, f32::INFINITY];
        assert!((0..50).all(|p| choose(&logits, &WARM, p).expect("a token") > 0));
    }

    #[test]
    fn top_p_keeps_the_shortest_beginning() {
        let weights = [0.5, 0.25, 0.25];
        assert_eq!(nucleus(&weights, 0.5), &weights[..1]);
        assert_eq!(nucleus(&weights, 0.51), &weights[..2]);
        assert_eq!(nucleus(&weights, 1e-9), &weights[..1]);
        assert_eq!(nucleus(&weights, 1.0), &weights);
    }

    /// Frequencies of 4,000 draws match the softmax within 5 standard deviations.
    #[test]
    fn draws_follow_the_distribution() {
        let logits = [0.0, 1.0, 2.0, -1.0];
        let mut counts = [0u32; 4];
        for position in 0..4_000 {
            counts[choose(&logits, &WARM, position).expect("a token") as usize] += 1;
        }
        let total: f64 = logits.iter().map(|l| f64::from(*l).exp()).sum();
        for (logit, count) in logits.iter().zip(counts) {
            let p = f64::from(*logit).exp() / total;
            let deviation = (4_000.0 * p * (1.0 - p)).sqrt();
            assert!((f64::from(count) - 4_000.0 * p).abs() < 5.0 * deviation, "{counts:?}");
        }
    }

    /// Pinned, natively and in a browser: a change here changes every sampled answer.
    #[wasm_bindgen_test(unsupported = test)]
    fn draws_are_stable() {
        let logits: Vec<f32> = (0..50).map(|i| ((i * 37) % 50) as f32 / 7.0).collect();
        let sampling = Sampling { temperature: 0.8, top_k: 20, top_p: 0.9, seed: 7 };
        let drawn: Vec<u32> = (0..8).map(|p| choose(&logits, &sampling, p).expect("a token")).collect();
        assert_eq!(drawn, PINNED);
    }

    const PINNED: [u32; 8] = [43, 35, 4, 35, 27, 12, 16, 8];

    proptest! {
        #[test]
        fn a_choice_is_always_a_candidate(
            logits in prop::collection::vec(prop_oneof![any::<f32>(), -5.0f32..5.0, Just(f32::NAN)], 1..40),
            temperature in 0.0f32..3.0,
            top_k in 0u32..50,
            top_p in 0.001f32..=1.0,
            seed: u64,
            position: u32,
        ) {
            let sampling = Sampling { temperature, top_k, top_p, seed };
            match choose(&logits, &sampling, position) {
                Ok(id) => {
                    let logit = logits[id as usize];
                    prop_assert!(logit > f32::NEG_INFINITY);
                    let larger = logits.iter().filter(|l| **l > logit).count();
                    prop_assert!(top_k == 0 || larger < top_k as usize);
                    prop_assert_eq!(choose(&logits, &sampling, position), Ok(id));
                }
                Err(e) => {
                    prop_assert_eq!(e, SampleError::NoCandidate(logits.len()));
                    prop_assert!(logits.iter().all(|l| l.is_nan() || *l == f32::NEG_INFINITY));
                }
            }
        }

        #[test]
        fn one_candidate_is_greedy(logits in prop::collection::vec(-9.0f32..9.0, 1..30), seed: u64, top_k: bool) {
            let narrow = if top_k { Sampling { top_k: 1, seed, ..WARM } } else { Sampling { top_p: 1e-6, seed, ..WARM } };
            prop_assert_eq!(choose(&logits, &narrow, 0), choose(&logits, &Sampling::GREEDY, 0));
        }
    }
}
