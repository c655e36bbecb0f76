//! What this node says about itself, and what it believes of others.

use bytes::Bytes;
use cdi_platform::time::unix_ms;
use cdi_swarm::registry::{HEARTBEAT_MS, Observed};
use cdi_types::advert::{Advert, KIND, Shard, Tier};
use cdi_types::envelope::{Envelope, EnvelopeError, Statement};
use cdi_types::{PeerId, cbor};

use crate::shared::{Node, Shared, State};

/// An advert outlives this many missed heartbeats.
const LIFETIME_MS: u64 = 12 * HEARTBEAT_MS;

/// Why an announcement was not believed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Disbelief {
    /// The envelope is not acceptable.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// The payload is not an advert.
    #[error(transparent)]
    Advert(#[from] cbor::CborError),
    /// Somebody passes on another node's envelope as its own.
    #[error("an advert signed by another node")]
    Sender,
    /// Out of bounds, or older than what is known.
    #[error("an advert that is stale or out of bounds")]
    Stale,
}

/// Announces this node on gossip, now. One that has no room for layers only asks, and is nobody's business.
pub(crate) async fn announce(node: &Node) {
    if node.limits.budget_bytes == 0 {
        return;
    }
    let (advert, sequence) = {
        let mut state = node.state();
        // Unix time, so that a node that restarts goes on above what others remember.
        state.sequence = unix_ms().max(state.sequence + 1);
        (advert(&state, node), state.sequence)
    };
    {
        let mut state = node.state();
        let own = state.registry.observe(node.me, sequence, advert.clone(), node.now_ms());
        state.dirty |= own != Observed::Refreshed;
    }
    let Ok(payload) = cbor::encode(&advert) else { return };
    let statement = Statement {
        network: node.limits.network,
        kind: KIND.to_owned(),
        sender: node.limits.keypair.public(),
        sequence,
        expires_ms: unix_ms() + LIFETIME_MS,
        payload,
    };
    let bytes = Envelope::sign(&node.limits.keypair, &statement).and_then(|e| e.to_bytes());
    match bytes {
        Ok(bytes) => {
            if let Err(error) = node.net.publish(Bytes::from(bytes)).await {
                tracing::debug!(%error, "not announced");
            }
        }
        Err(error) => tracing::warn!(%error, "advert not signed"),
    }
}

fn advert(state: &State, node: &Shared) -> Advert {
    let hosting = &state.hosting;
    let shard = |layers, ready, decode_ms| {
        let model = state.model.as_ref().filter(|_| !hosting.paused)?.id;
        Some(Shard { model, layers, ready, kernel_id: state.kernel_id.clone(), decode_ms })
    };
    let held = hosting.layers.and_then(|layers| shard(layers, hosting.ready, hosting.decode_ms));
    let claimed = hosting.moving.and_then(|layers| shard(layers, false, 0.0));
    Advert {
        build: env!("CARGO_PKG_VERSION").to_owned(),
        tier: state.tier.unwrap_or(Tier::None),
        shards: held.into_iter().chain(claimed).collect(),
        spare_layers: hosting.spare(),
        kv_room: state.kv_room(node.limits.compute.kv_bytes),
        stages: u32::try_from(state.stages.len()).unwrap_or(u32::MAX),
        upload_bytes_per_s: node.uplink.bytes_per_s(),
        hidden: state.hidden,
    }
}

/// Takes in what `source` announced.
///
/// # Errors
/// [`Disbelief`]; the caller counts it.
pub(crate) fn believe(node: &Shared, source: PeerId, data: &[u8]) -> Result<Observed, Disbelief> {
    let statement = Envelope::open(data, node.limits.network, KIND, unix_ms())?;
    if statement.sender.peer_id() != source {
        return Err(Disbelief::Sender);
    }
    let advert: Advert = cbor::decode(&statement.payload)?;
    let now_ms = node.now_ms();
    match node.state().registry.observe(source, statement.sequence, advert, now_ms) {
        Observed::Ignored => Err(Disbelief::Stale),
        observed => Ok(observed),
    }
}
