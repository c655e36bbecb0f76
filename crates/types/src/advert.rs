//! What a node says about itself: the capability advert, gossiped on [`Network::announce_topic`].
//!
//! [`Network::announce_topic`]: crate::Network::announce_topic

use serde::{Deserialize, Serialize};

use crate::block::Cid;
use crate::layers::LayerRange;
use crate::session::is_zero;

/// Envelope kind of an advert.
pub const KIND: &str = "advert";
/// Largest advert that is parsed, in bytes, envelope included.
pub const MAX_ADVERT_BYTES: usize = 16 * 1024;
/// Most shards in one advert.
pub const MAX_SHARDS: usize = 64;

/// A node's capabilities. Figures are measured, never configured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Advert {
    /// Build of the node's program, for people.
    pub build: String,
    /// What computes.
    pub tier: Tier,
    /// The shards it serves, or has claimed and is fetching.
    pub shards: Vec<Shard>,
    /// Further layers of each of its models that it would take on, on request.
    pub spare_layers: u32,
    /// Positions of KV cache it can still give to sessions.
    pub kv_room: u32,
    /// Stages of sessions that run there: who computes for many is slower for each.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub stages: u32,
    /// Measured upload bandwidth in bytes per second; 0 while unknown.
    pub upload_bytes_per_s: u64,
    /// Whether its tab is in the background, where timers are slow.
    pub hidden: bool,
}

/// What a node computes with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// WebGPU, or a native GPU.
    Gpu,
    /// CPU SIMD.
    Cpu,
    /// Nothing: the node relays, routes or only asks.
    None,
}

/// A contiguous part of a model that a node holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Shard {
    /// CID of the model's manifest.
    pub model: Cid,
    /// The layers. The first layer comes with the embedding, the last with the head.
    pub layers: LayerRange,
    /// Whether it serves them already; a claim only keeps others from fetching the same layers.
    pub ready: bool,
    /// Numeric identity of the kernels that run it: equal ids give equal bits.
    pub kernel_id: String,
    /// Measured milliseconds to decode one token through these layers; 0 while unknown.
    pub decode_ms: f32,
}

impl Advert {
    /// Whether the advert is within its bounds.
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.build.len() <= 64
            && self.shards.len() <= MAX_SHARDS
            && self.shards.iter().all(|s| s.kernel_id.len() <= 128 && s.decode_ms.is_finite() && s.decode_ms >= 0.0)
    }

    /// The shards of `model`, ready or claimed.
    pub fn shards_of(&self, model: &Cid) -> impl Iterator<Item = &Shard> {
        self.shards.iter().filter(move |s| s.model == *model)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cbor;

    #[test]
    fn adverts_of_nodes_that_count_no_stages_are_understood() {
        let advert = Advert {
            build: "other".to_owned(),
            tier: Tier::None,
            shards: Vec::new(),
            spare_layers: 0,
            kv_room: 0,
            stages: 0,
            upload_bytes_per_s: 0,
            hidden: false,
        };
        let bytes = cbor::encode(&advert).expect("encodes");
        assert!(!bytes.windows(6).any(|word| word == b"stages"), "one encoding a value, with and without it");
        assert_eq!(cbor::decode::<Advert>(&bytes), Ok(advert));
    }
}
