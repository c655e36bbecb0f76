//! How announcements travel. Nodes and relays use the same settings, or they would drop each other's.

use cdi_types::Network;
use cdi_types::advert::MAX_ADVERT_BYTES;
use libp2p::gossipsub::{
    Behaviour, ConfigBuilder, IdentTopic, MessageAuthenticity, PeerScoreParams, PeerScoreThresholds, TopicScoreParams,
    ValidationMode,
};
use libp2p::identity::Keypair;

use crate::NetError;

/// Room in a gossip frame beside the announcement: signature, key, ids, control messages.
const FRAME_OVERHEAD_BYTES: usize = 8 * 1024;
/// Message ids in one "I have" list. An id has about 75 bytes, so that the list fits a frame; the default
/// of 5,000 would not.
const MAX_IHAVE_IDS: usize = 64;
/// Score of one invalid announcement; squared per topic by gossipsub's P4.
/// Source: <https://github.com/libp2p/specs/blob/master/pubsub/gossipsub/gossipsub-v1.1.md#peer-scoring>.
const INVALID_WEIGHT: f64 = -10.0;
/// Announced and then not delivered messages that are forgiven.
const BROKEN_PROMISES: f64 = 6.0;

/// The announce topic of `network`.
#[must_use]
pub fn topic(network: Network) -> IdentTopic {
    IdentTopic::new(network.announce_topic())
}

/// A gossipsub behaviour that is subscribed to the announce topic.
///
/// Its owner must report a verdict on every message, see [`is_acceptable`].
///
/// # Errors
/// [`NetError::Start`] when libp2p refuses the settings.
pub fn behaviour(keypair: &Keypair, network: Network) -> Result<Behaviour, NetError> {
    let start = |reason: &dyn ToString| NetError::Start(format!("gossip: {}", reason.to_string()));
    let config = ConfigBuilder::default()
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .max_transmit_size(MAX_ADVERT_BYTES + FRAME_OVERHEAD_BYTES)
        .max_ihave_length(MAX_IHAVE_IDS)
        .build()
        .map_err(|e| start(&e))?;
    let mut gossip: Behaviour =
        Behaviour::new(MessageAuthenticity::Signed(keypair.clone()), config).map_err(|e| start(&e))?;
    let (params, thresholds) = scores(network);
    gossip.with_peer_score(params, thresholds).map_err(|e| start(&e))?;
    gossip.subscribe(&topic(network)).map_err(|e| start(&e))?;
    Ok(gossip)
}

/// Whether an announcement of `bytes` bytes may be passed on.
#[must_use]
pub const fn is_acceptable(bytes: usize) -> bool {
    bytes <= MAX_ADVERT_BYTES
}

/// Who sends invalid announcements is ignored after the fourth within a minute or so. Nothing else counts: quiet peers are
/// welcome, and many tabs share one address behind a NAT.
fn scores(network: Network) -> (PeerScoreParams, PeerScoreThresholds) {
    let topic_params = TopicScoreParams {
        time_in_mesh_weight: 0.0,
        first_message_deliveries_weight: 0.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: INVALID_WEIGHT,
        invalid_message_deliveries_decay: 0.99,
        ..TopicScoreParams::default()
    };
    let params = PeerScoreParams {
        topics: [(topic(network).hash(), topic_params)].into(),
        ip_colocation_factor_weight: 0.0,
        app_specific_weight: 0.0,
        // A hidden tab is slow and breaks a promise now and then.
        slow_peer_weight: 0.0,
        behaviour_penalty_threshold: BROKEN_PROMISES,
        ..PeerScoreParams::default()
    };
    let thresholds = PeerScoreThresholds {
        gossip_threshold: INVALID_WEIGHT * 2.0,
        publish_threshold: INVALID_WEIGHT * 4.0,
        graylist_threshold: INVALID_WEIGHT * 6.0,
        ..PeerScoreThresholds::default()
    };
    (params, thresholds)
}
