//! What outlives a restart: who is banned, and which relays and peers were good.

use std::time::Duration;

use cdi_platform::kv::KeyValue;
use serde::{Deserialize, Serialize};

use crate::Address;
use crate::bans::Ban;

/// Name of the value in its store.
const KEY: &str = "net";
/// Relays that are remembered.
pub(crate) const MAX_RELAYS: usize = 32;
/// Peers that are remembered.
pub(crate) const MAX_PEERS: usize = 32;

/// What is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Kept {
    #[serde(default)]
    pub(crate) bans: Vec<Ban>,
    /// Best first.
    #[serde(default)]
    pub(crate) relays: Vec<GoodRelay>,
    /// Addresses at which peers were reached without a relay, latest first.
    #[serde(default)]
    pub(crate) peers: Vec<String>,
}

/// A relay that granted a reservation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GoodRelay {
    pub(crate) address: String,
    pub(crate) rtt_ms: Option<u32>,
}

impl GoodRelay {
    /// The address, if it still makes sense.
    pub(crate) fn address(&self) -> Option<Address> {
        self.address.parse().ok()
    }

    pub(crate) fn rtt(&self) -> Option<Duration> {
        self.rtt_ms.map(|ms| Duration::from_millis(ms.into()))
    }
}

/// What was kept; nothing when there is no store, or when it cannot be read.
pub(crate) async fn load(store: Option<&KeyValue>) -> Kept {
    let Some(store) = store else { return Kept::default() };
    let bytes = match store.get(KEY).await {
        Ok(bytes) => bytes.unwrap_or_default(),
        Err(error) => {
            tracing::warn!(%error, "what was known of relays and peers is not read");
            return Kept::default();
        }
    };
    if bytes.is_empty() {
        return Kept::default();
    }
    serde_ipld_dagcbor::from_slice(&bytes).unwrap_or_else(|error| {
        tracing::warn!(%error, "what was known of relays and peers makes no sense");
        Kept::default()
    })
}

/// Keeps it. A failure costs comfort, not function: it is logged.
pub(crate) async fn save(store: KeyValue, kept: Kept) {
    let saved = match serde_ipld_dagcbor::to_vec(&kept) {
        Ok(bytes) => store.put(KEY, &bytes).await.map_err(|e| e.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(error) = saved {
        tracing::warn!(%error, "what is known of relays and peers is not kept");
    }
}

/// A peer id as text.
pub(crate) mod peer_text {
    use cdi_types::PeerId;
    use serde::de::Error as _;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(peer: &PeerId, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&peer.to_base58())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PeerId, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use cdi_platform::Place;
    use cdi_types::PeerId;
    use futures::executor::block_on;

    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_nonsense_does_not() {
        block_on(async {
            let store = KeyValue::open(&Place::memory(), "net").await.expect("a store");
            assert_eq!(load(Some(&store)).await, Kept::default());
            let kept = Kept {
                bans: vec![Ban { peer: PeerId::random(), until_ms: 5, times: 1 }],
                relays: vec![GoodRelay { address: "/ip4/192.0.2.1/tcp/1/ws".to_owned(), rtt_ms: Some(7) }],
                peers: vec!["/ip4/192.0.2.2/tcp/1".to_owned()],
            };
            save(store.clone(), kept.clone()).await;
            assert_eq!(load(Some(&store)).await, kept);
            store.put(KEY, b"nonsense").await.expect("writes");
            assert_eq!(load(Some(&store)).await, Kept::default());
            assert_eq!(load(None).await, Kept::default());
        });
    }
}
