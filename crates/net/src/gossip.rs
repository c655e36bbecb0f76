//! How announcements travel. Nodes and relays use the same settings, or they would drop each other's.

use std::time::Duration;

use cdi_platform::time::Instant;
use cdi_types::advert::MAX_ADVERT_BYTES;
use cdi_types::{Network, PeerId};
use libp2p::gossipsub::{
    self, ConfigBuilder, IdentTopic, IdentityTransform, Message, MessageAcceptance, MessageAuthenticity,
    PeerScoreParams, PeerScoreThresholds, TopicScoreParams, ValidationMode, WhitelistSubscriptionFilter,
};
use libp2p::identity::Keypair;

use crate::NetError;
use crate::rate::{Rate, Rates};

/// Gossipsub that hears of no topic but ours: a peer that subscribes to a million costs nothing.
pub type Behaviour = gossipsub::Behaviour<IdentityTransform, WhitelistSubscriptionFilter>;

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

/// Messages and control messages that are read from one frame.
const MAX_FRAME_MESSAGES: usize = 128;
/// Frames that wait for one peer. Beyond it a slow peer misses some, instead of holding up to 100 MB.
const PEER_QUEUE: usize = 256;
/// Announcements of one author: it says who it is when something changes, and every 5 s.
pub const AUTHOR_RATE: Rate = Rate { burst: 60.0, per_second: 2.0 };
/// Announcements that one neighbour passes on, which may be those of the whole network.
pub const NEIGHBOUR_RATE: Rate = Rate { burst: 2000.0, per_second: 500.0 };
/// Gossipsub's score that a peer gets for the best and, negated, for the worst of our own (see `score.rs`).
pub(crate) const QUALITY_SCORE: f64 = 10.0;

/// The announce topic of `network`.
#[must_use]
pub fn topic(network: Network) -> IdentTopic {
    IdentTopic::new(network.announce_topic())
}

/// A gossipsub behaviour that is subscribed to the announce topic.
///
/// Its owner must report a verdict on every message, see [`Guard::judge`].
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
        .max_messages_per_rpc(Some(MAX_FRAME_MESSAGES))
        .connection_handler_queue_len(PEER_QUEUE)
        .build()
        .map_err(|e| start(&e))?;
    let ours = WhitelistSubscriptionFilter([topic(network).hash()].into());
    let signed = MessageAuthenticity::Signed(keypair.clone());
    let mut gossip = Behaviour::new_with_subscription_filter(signed, config, ours).map_err(|e| start(&e))?;
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

/// What becomes of an announcement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is passed on.
    Accepted,
    /// Its author or the neighbour says too much. Not the fault of whoever passed it on.
    TooOften,
    /// Its author says too much, and sent it itself.
    Flood,
    /// It is over the size limit.
    Oversize,
    /// It names no author.
    Anonymous,
}

impl Verdict {
    /// In one word, for counters.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::TooOften => "too_often",
            Self::Flood => "flood",
            Self::Oversize => "oversize",
            Self::Anonymous => "anonymous",
        }
    }

    /// What gossipsub does with it.
    #[must_use]
    pub const fn acceptance(self) -> MessageAcceptance {
        match self {
            Self::Accepted => MessageAcceptance::Accept,
            Self::TooOften => MessageAcceptance::Ignore,
            Self::Flood | Self::Oversize | Self::Anonymous => MessageAcceptance::Reject,
        }
    }
}

/// Judges announcements by size and by how often they come.
#[derive(Debug)]
pub struct Guard {
    authors: Rates<PeerId>,
    neighbours: Rates<PeerId>,
}

impl Default for Guard {
    fn default() -> Self {
        Self { authors: Rates::new(AUTHOR_RATE), neighbours: Rates::new(NEIGHBOUR_RATE) }
    }
}

impl Guard {
    /// What becomes of `message`, which `neighbour` passed on.
    pub fn judge(&mut self, message: &Message, neighbour: PeerId, now: Instant) -> Verdict {
        if !is_acceptable(message.data.len()) {
            return Verdict::Oversize;
        }
        let Some(author) = message.source else { return Verdict::Anonymous };
        if !self.neighbours.allow(neighbour, now) {
            return Verdict::TooOften;
        }
        match (self.authors.allow(author, now), author == neighbour) {
            (true, _) => Verdict::Accepted,
            (false, true) => Verdict::Flood,
            (false, false) => Verdict::TooOften,
        }
    }
}

/// Who sends invalid announcements is ignored after the fourth within a minute or so, and preferred when it brings
/// news early or has a good score with us. Silence costs nothing: quiet peers are welcome, and many tabs share one
/// address behind a NAT. The numbers are explained in docs/protocol.md.
fn scores(network: Network) -> (PeerScoreParams, PeerScoreThresholds) {
    let topic_params = TopicScoreParams {
        topic_weight: 1.0,
        // At most 1 after an hour: who stays is better than who comes and goes.
        time_in_mesh_weight: 1.0 / 3600.0,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 3600.0,
        // At most 5: who brings news first.
        first_message_deliveries_weight: 0.1,
        first_message_deliveries_decay: 0.9,
        first_message_deliveries_cap: 50.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: INVALID_WEIGHT,
        invalid_message_deliveries_decay: 0.99,
        ..TopicScoreParams::default()
    };
    let params = PeerScoreParams {
        topics: [(topic(network).hash(), topic_params)].into(),
        ip_colocation_factor_weight: 0.0,
        app_specific_weight: 1.0,
        // A hidden tab is slow and breaks a promise now and then.
        slow_peer_weight: 0.0,
        behaviour_penalty_threshold: BROKEN_PROMISES,
        ..PeerScoreParams::default()
    };
    let thresholds = PeerScoreThresholds {
        // Below what a bad score with us alone can take away.
        gossip_threshold: INVALID_WEIGHT * 2.0,
        publish_threshold: INVALID_WEIGHT * 4.0,
        graylist_threshold: INVALID_WEIGHT * 6.0,
        ..PeerScoreThresholds::default()
    };
    (params, thresholds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(source: Option<PeerId>, bytes: usize) -> Message {
        Message { source, data: vec![0; bytes], sequence_number: None, topic: topic(Network::Testnet).hash() }
    }

    #[test]
    fn an_author_that_says_too_much_is_held_to_its_rate() {
        let (mut guard, now) = (Guard::default(), Instant::now());
        let [author, other, neighbour] = [(); 3].map(|()| PeerId::random());
        let mut verdicts = |from: PeerId, through| -> Vec<_> {
            (0..100).map(|_| guard.judge(&message(Some(from), 10), through, now)).collect()
        };
        let own = verdicts(author, author);
        assert_eq!(own.iter().filter(|v| **v == Verdict::Accepted).count(), 60);
        assert_eq!(own.last(), Some(&Verdict::Flood));
        assert_eq!(verdicts(author, neighbour).last(), Some(&Verdict::TooOften), "who passes it on is not to blame");
        assert_eq!(verdicts(other, neighbour).first(), Some(&Verdict::Accepted));
    }

    #[test]
    fn a_neighbour_with_many_made_up_authors_is_held_to_its_rate() {
        let (mut guard, now, neighbour) = (Guard::default(), Instant::now(), PeerId::random());
        let judge = |guard: &mut Guard, from| guard.judge(&message(Some(PeerId::random()), 10), from, now);
        let accepted = (0..3000).filter(|_| judge(&mut guard, neighbour) == Verdict::Accepted).count();
        assert_eq!(accepted, 2000);
        assert_eq!(judge(&mut guard, PeerId::random()), Verdict::Accepted);
    }

    #[test]
    fn what_is_too_large_or_unsigned_is_rejected() {
        let (mut guard, now, peer) = (Guard::default(), Instant::now(), PeerId::random());
        assert_eq!(guard.judge(&message(Some(peer), MAX_ADVERT_BYTES + 1), peer, now), Verdict::Oversize);
        assert_eq!(guard.judge(&message(None, 1), peer, now), Verdict::Anonymous);
        assert_eq!(guard.judge(&message(Some(peer), MAX_ADVERT_BYTES), peer, now), Verdict::Accepted);
    }
}
