//! Giving up layers that others hold for ones that nobody holds, when [`cdi_swarm::relocation`] calls for it.
//!
//! What is hosted is served until the new layers are there, and what is given up is kept until the sessions that
//! began on it have ended. Where not both fit, the old layers go first, and only if others hold all of them.

use std::time::Duration;

use cdi_platform::task;
use cdi_platform::time::{Instant, sleep};
use cdi_swarm::placement::Policy;
use cdi_swarm::registry::HEARTBEAT_MS;
use cdi_swarm::relocation::{Relocation, may_leave};
use cdi_types::LayerRange;

use crate::announce::announce;
use crate::compute::ComputeError;
use crate::host;
use crate::shared::{Model, Node, State};
use crate::view::{HostLayers, HostingState};

/// How often a mover looks whether it may go on.
const LOOK: Duration = Duration::from_millis(250);
/// How long a mover that has its new layers waits for leave to drop the old ones.
const LEAVE_WITHIN: Duration = Duration::from_secs(60);
/// How long sessions may stay on layers that were given up; then their clients replace this stage.
const DRAIN_WITHIN: Duration = Duration::from_secs(300);
/// Time in which everybody has heard that the old layers are not served any more.
const HEARD: Duration = Duration::from_millis(HEARTBEAT_MS);

/// A move that was decided.
struct Move {
    model: Model,
    wish: HostLayers,
    from: LayerRange,
    to: LayerRange,
    /// Whether both ranges fit the memory budget.
    both_fit: bool,
}

/// Looks whether this node should host other layers, and begins to move.
pub(crate) fn consider(node: &Node) {
    let decided = decide(node, &mut node.state());
    if let Some(decided) = decided {
        tracing::info!(from = %decided.from, to = %decided.to, "moving to layers that nobody holds");
        task::spawn(relocate(node.clone(), decided));
    }
}

fn decide(node: &Node, state: &mut State) -> Option<Move> {
    let hosting = &state.hosting;
    // Without a relay the others are not heard, whatever they hold.
    let settled = hosting.ready && !hosting.paused && hosting.moving.is_none() && !hosting.leaving;
    if !settled || state.relay_up.is_none() {
        state.relocation = Relocation::default();
        return None;
    }
    let (model, from, wish) = (state.model.clone()?, hosting.layers?, hosting.wish?);
    let (layers, now_ms) = (model.info.layers, node.now_ms());
    let policy = Policy::default();
    let to = state.relocation.consider(&state.registry, &node.me, (&model.id, layers), &policy, now_ms)?;
    let shared = from.intersection(to).map_or(0, LayerRange::count);
    let both_fit = from.count().saturating_add(to.count() - shared) <= state.hosting.fits;
    // Sessions go on over the old layers while both fit; otherwise they come first: the need will still be there when they
    // have ended.
    let idle = || state.stages.is_empty() && may_leave(&state.registry, &node.me, &model.id, from, None);
    if !(both_fit || idle()) {
        return None;
    }
    state.relocation = Relocation::default();
    if both_fit {
        state.hosting.moving = Some(to);
    }
    Some(Move { model, wish, from, to, both_fit })
}

async fn relocate(node: Node, decided: Move) {
    let Move { model, wish, from, to, both_fit } = &decided;
    if !both_fit {
        node.state().hosting.ready = false;
        announce(&node).await;
        host::keep(&node, model, None).await;
        return host::host(&node, *wish, Some(*to)).await;
    }
    announce(&node).await;
    tell(&node, format!("Other tabs hold layers {from} too, and nobody holds some of {to}: fetching those.")).await;
    let done = match fetch(&node, &decided).await {
        Ok(Some(decode_ms)) => leave(&node, &decided, decode_ms).await,
        Ok(None) => false,
        Err(error) => {
            tracing::warn!(%error, "not moved");
            if error.is_device_lost() {
                host::device_lost(&node);
            }
            false
        }
    };
    if done {
        announce(&node).await;
        node.remember_hosting().await;
        tell(&node, format!("Moved from layers {from}, which others hold, to {to}, which were missing.")).await;
        drain(&node).await;
    } else {
        stay(&node, &decided).await;
    }
    host::release_others(&node).await;
}

/// Whether the user has neither stopped hosting nor begun anew meanwhile.
fn stands(state: &State, decided: &Move) -> bool {
    let hosting = &state.hosting;
    hosting.ready && hosting.layers == Some(decided.from) && hosting.moving == Some(decided.to)
}

/// Loads and tests the new layers; the milliseconds of a token through them, or `None` when the move was called off.
async fn fetch(node: &Node, decided: &Move) -> Result<Option<f32>, ComputeError> {
    host::load(node, &decided.model, decided.to, true, false).await?;
    if !stands(&node.state(), decided) {
        return Ok(None);
    }
    node.compute.self_test(decided.model.id, decided.to).await.map(Some)
}

/// Offers the new layers in place of the old ones as soon as others hold those.
async fn leave(node: &Node, decided: &Move, decode_ms: f32) -> bool {
    let ready = Instant::now();
    while ready.elapsed() < LEAVE_WITHIN {
        {
            let mut state = node.state();
            if !stands(&state, decided) {
                return false;
            }
            if may_leave(&state.registry, &node.me, &decided.model.id, decided.from, decided.to) {
                let hosting = &mut state.hosting;
                hosting.layers = hosting.moving.take();
                hosting.decode_ms = decode_ms;
                hosting.leaving = true;
                return true;
            }
        }
        sleep(LOOK).await;
    }
    false
}

/// Keeps the old layers until nobody computes with them any more.
async fn drain(node: &Node) {
    let left = Instant::now();
    loop {
        let busy = {
            let state = node.state();
            let within = |layers| state.hosting.layers.is_some_and(|held| held.covers(layers));
            state.stages.values().any(|stage| !within(stage.layers))
        };
        let elapsed = left.elapsed();
        if elapsed >= DRAIN_WITHIN || (elapsed >= HEARD && !busy) {
            break;
        }
        sleep(LOOK).await;
    }
    node.state().hosting.leaving = false;
}

/// The move was called off: what was hosted is still hosted.
async fn stay(node: &Node, decided: &Move) {
    let stands = {
        let mut state = node.state();
        let stands = stands(&state, decided);
        state.hosting.moving.take_if(|moving| stands && *moving == decided.to);
        stands
    };
    if stands {
        announce(node).await;
        // Loaded already: this only pins the old blocks again.
        if let Err(error) = host::load(node, &decided.model, decided.from, true, false).await {
            tracing::warn!(%error, "blocks not pinned");
        }
        show(node, None).await;
    } else if node.state().hosting.layers.is_none() {
        host::keep(node, &decided.model, None).await;
    }
}

async fn tell(node: &Node, message: String) {
    show(node, Some(message)).await;
}

async fn show(node: &Node, message: Option<String>) {
    let state = if node.state().hosting.paused { HostingState::Paused } else { HostingState::Hosting };
    host::show(node, state, None, message).await;
}
