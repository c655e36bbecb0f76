//! Which layers a joining node should host: where coverage is weakest.
//!
//! Source of the rule: Petals, <https://arxiv.org/abs/2209.01188>, section 3.2 (the span whose sorted
//! throughputs are smallest); here replicas stand for throughput.

use cdi_types::LayerRange;

use crate::registry::HEARTBEAT_MS;

/// What an operator may set of placement (INF-06).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// How many nodes should hold each layer: spare hosts move until that is so.
    pub min_replicas: u32,
    /// How long a move must have been called for, unchanged, before it is made, in milliseconds.
    pub rebalance_interval_ms: u64,
}

impl Default for Policy {
    /// Two replicas, so that the loss of one costs no fetching; three announcements of everybody.
    fn default() -> Self {
        Self { min_replicas: 2, rebalance_interval_ms: 3 * HEARTBEAT_MS }
    }
}

/// Models below this size are split even where one tab could hold them whole, in bytes.
pub const SMALL_MODEL_BYTES: u64 = 100_000_000;

/// How many layers a node hosts by default: what fits `budget_bytes`, and of a small model at most a third,
/// so that small swarms really split.
#[must_use]
pub fn default_layers(layers: u32, weight_bytes: u64, budget_bytes: u64) -> u32 {
    let layer_bytes = weight_bytes.div_ceil(u64::from(layers.max(1))).max(1);
    let fits = u32::try_from(budget_bytes / layer_bytes).unwrap_or(u32::MAX);
    let most = if weight_bytes < SMALL_MODEL_BYTES { layers.div_ceil(3) } else { layers };
    fits.min(most)
}

/// The `count` adjacent layers that the swarm needs most: those whose replica counts, sorted, are the
/// smallest; of equals the first. `None` when there is nothing to host.
#[must_use]
pub fn neediest(replicas: &[u32], count: u32) -> Option<LayerRange> {
    let count = (count as usize).min(replicas.len());
    if count == 0 {
        return None;
    }
    let sorted = |start: usize| {
        let mut span = replicas[start..start + count].to_vec();
        span.sort_unstable();
        span
    };
    let start = (0..=replicas.len() - count).min_by_key(|start| sorted(*start))?;
    LayerRange::new(u32::try_from(start).ok()?, u32::try_from(start + count - 1).ok()?).ok()
}

/// The layers that fewer than `least` nodes hold, for an alert (INF-07).
#[must_use]
pub fn scarce(replicas: &[u32], least: u32) -> Vec<LayerRange> {
    let mut ranges: Vec<LayerRange> = Vec::new();
    for (layer, _) in (0..).zip(replicas).filter(|(_, held)| **held < least) {
        let Ok(one) = LayerRange::new(layer, layer) else { continue };
        match ranges.last_mut().and_then(|last| Some((last.union(one)?, last))) {
            Some((longer, last)) => *last = longer,
            None => ranges.push(one),
        }
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_tabs_cover_eight_layers() {
        let mut replicas = vec![0; 8];
        let mut chosen = Vec::new();
        for _ in 0..3 {
            let range = neediest(&replicas, default_layers(8, 7_000_000, 1 << 30)).expect("a range");
            range.iter().for_each(|l| replicas[l as usize] += 1);
            chosen.push(range.to_string());
        }
        assert_eq!(chosen, ["0-2", "3-5", "5-7"]);
        assert!(replicas.iter().all(|r| *r > 0));
    }

    #[test]
    fn the_budget_and_the_size_of_the_model_bound_the_share() {
        assert_eq!(default_layers(8, 7_000_000, 1 << 30), 3);
        assert_eq!(default_layers(22, 600_000_000, 1 << 30), 22);
        assert_eq!(default_layers(22, 2_200_000_000, 1_000_000_000), 10);
        assert_eq!(default_layers(8, 7_000_000, 0), 0);
    }

    #[test]
    fn scarce_layers_are_named() {
        let named = |least| scarce(&[2, 1, 0, 3, 1], least).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(named(2), ["1-2", "4-4"]);
        assert_eq!(named(1), ["2-2"]);
        assert_eq!(named(0), Vec::<String>::new());
    }

    #[test]
    fn edges() {
        assert_eq!(neediest(&[], 3), None);
        assert_eq!(neediest(&[0, 0], 0), None);
        assert_eq!(neediest(&[1, 0], 9), LayerRange::whole(2));
        assert_eq!(neediest(&[2, 2, 1, 2], 1), LayerRange::new(2, 2).ok());
    }
}
