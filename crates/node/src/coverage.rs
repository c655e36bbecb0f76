//! Says when layers are held by so few that the loss of one node would stop answers.

use cdi_swarm::placement::{Policy, scarce};
use cdi_types::LayerRange;

use crate::shared::Node;

/// Looks at how often each layer is held, and logs what changed since the last look (INF-07).
pub(crate) fn look(node: &Node) {
    let mut state = node.state();
    let Some(model) = state.model.clone() else { return };
    let replicas = state.registry.coverage(&model.id, model.info.layers, false);
    let least = Policy::default().min_replicas;
    let now = scarce(&replicas, least);
    if now != state.scarce {
        if now.is_empty() {
            tracing::info!(least, "every layer is held often enough");
        } else {
            let layers = now.iter().map(LayerRange::to_string).collect::<Vec<_>>().join(", ");
            tracing::warn!(least, %layers, "layers are held by too few nodes");
        }
        state.scarce = now;
    }
}
