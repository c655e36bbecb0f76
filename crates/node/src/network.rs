//! Which network a node belongs to, when its user says nothing: that of the relay.

use cdi_platform::http::{self, Limits};
use cdi_types::Network;
use cdi_types::relay::{MAX_RELAY_BYTES, RelayInfo};

/// The network that the relay at `relay` serves, e.g. `http://127.0.0.1:8080`; `None` when it does not answer.
pub async fn network_of(relay: &str) -> Option<Network> {
    let url = format!("{relay}/relay.json");
    let body = http::get(&url, Limits::bytes(MAX_RELAY_BYTES), |_| ()).await.ok()?;
    Some(serde_json::from_slice::<RelayInfo>(&body).ok()?.network)
}
