//! What is simulated: how many nodes, how fast, how far apart, how faithful.

use serde::Serialize;

use super::rng::Rng;

/// A log-normal distribution, the usual shape of speeds and distances of volunteers' machines.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct LogNormal {
    /// Half of the values are below.
    pub median: f64,
    /// Deviation of the natural logarithm.
    pub sigma: f64,
}

impl LogNormal {
    pub(super) fn draw(self, rng: &mut Rng) -> f64 {
        rng.log_normal(self.median, self.sigma)
    }
}

/// One simulated swarm.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scenario {
    /// Same seed, same run.
    pub seed: u64,
    /// Nodes that are there at a time: whoever leaves is followed by somebody new.
    pub nodes: u32,
    /// Questions that are being asked or thought about at a time.
    pub askers: u32,
    /// Layers of the model.
    pub layers: u32,
    /// Virtual seconds of asking, after a minute in which the first nodes join.
    pub seconds: u32,
    /// Median time that a tab stays, in seconds; `None`: nobody leaves.
    pub lifetime_s: Option<f64>,
    /// Share of departures without a goodbye, which others notice after a second of silence.
    pub crashes: f64,
    /// Milliseconds of one layer and one token.
    pub layer_ms: LogNormal,
    /// One-way milliseconds between a node and the backbone: a hop takes those of both ends.
    pub access_ms: LogNormal,
    /// Bytes a second that a node sends at most.
    pub upload_bytes_per_s: f64,
    /// Bytes of a row of activations.
    pub row_bytes: u32,
    /// Least and most layers that a node holds.
    pub share: (u32, u32),
    /// Positions of cache that a node gives to all sessions together.
    pub kv_positions: u32,
    /// Share of nodes that are ten times slower than they say.
    pub slow: f64,
    /// Share of nodes that send wrong rows.
    pub lying: f64,
    /// Share of nodes that announce layers and then refuse every session.
    pub refusing: f64,
    /// How often the swarm is cut in two.
    pub partitions: u32,
    /// How long a cut lasts, in seconds.
    pub partition_s: f64,
    /// Median length of a prompt, in tokens.
    pub prompt_tokens: LogNormal,
    /// Tokens of an answer.
    pub answer_tokens: u32,
    /// Share of questions that are answered with a temperature.
    pub sampled: f64,
    /// Whether clients feed drafts.
    pub speculate: bool,
}

/// Longest prompt.
pub(super) const MAX_PROMPT: f64 = 400.0;
/// Most positions of a sequence.
pub(super) const CONTEXT: u32 = 1_024;

impl Scenario {
    /// A swarm of `nodes` like the one that is expected: tabs that stay for ten minutes (median), 2 ms a layer, 12 ms to
    /// the backbone, 1 % liars and slow ones.
    #[must_use]
    pub fn of(nodes: u32, seed: u64) -> Self {
        Self {
            seed,
            nodes,
            askers: (nodes / 4).max(1),
            layers: 24,
            seconds: 600,
            lifetime_s: Some(600.0),
            crashes: 0.5,
            layer_ms: LogNormal { median: 2.0, sigma: 0.6 },
            access_ms: LogNormal { median: 12.0, sigma: 0.5 },
            upload_bytes_per_s: 2.5e6,
            row_bytes: 4_096,
            share: (4, 12),
            kv_positions: 8 * CONTEXT,
            slow: 0.01,
            lying: 0.0,
            refusing: 0.01,
            partitions: 1,
            partition_s: 30.0,
            prompt_tokens: LogNormal { median: 60.0, sigma: 0.8 },
            answer_tokens: 60,
            sampled: 0.5,
            speculate: true,
        }
    }

    /// A short run of at most 50 nodes under more trouble than any real swarm has, for property tests.
    #[must_use]
    pub fn trouble(seed: u64) -> Self {
        let mut rng = Rng::new(seed ^ 0x5ce0);
        // Mostly small: trouble shows where there are few replacements.
        let nodes = if rng.chance(0.05) { rng.between(21, 50) } else { rng.between(1, 20) };
        let layers = rng.between(2, 12);
        Self {
            askers: rng.between(1, 4),
            layers,
            seconds: 30,
            lifetime_s: rng.chance(0.8).then(|| f64::from(rng.between(5, 60))),
            crashes: rng.unit(),
            layer_ms: LogNormal { median: 0.5 + 3.0 * rng.unit(), sigma: 0.5 },
            access_ms: LogNormal { median: 1.0 + 60.0 * rng.unit(), sigma: 0.5 },
            share: (1, layers),
            kv_positions: rng.between(2, 8) * CONTEXT,
            slow: if rng.chance(0.3) { 0.2 } else { 0.0 },
            lying: if rng.chance(0.1) { 0.2 } else { 0.0 },
            refusing: if rng.chance(0.3) { 0.2 } else { 0.0 },
            partitions: rng.between(0, 2),
            partition_s: f64::from(rng.between(1, 10)),
            prompt_tokens: LogNormal { median: 30.0, sigma: 1.0 },
            answer_tokens: 24,
            speculate: rng.chance(0.8),
            ..Self::of(nodes, seed)
        }
    }
}
