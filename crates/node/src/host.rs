//! What this node holds: hosting on the user's wish, and taking on layers for a session that needs them.

use std::time::Duration;

use cdi_platform::tab;
use cdi_platform::time::{Instant, sleep};
use cdi_swarm::placement;
use cdi_types::LayerRange;
use futures::StreamExt as _;

use crate::announce::announce;
use crate::compute::{ComputeError, Loading};
use crate::shared::{Hosting, Model, Node};
use crate::view::{ComputeView, Event, HostLayers, HostingState, HostingView, Progress};

/// Time from reaching the relay to having heard everybody: two gossip heartbeats and a half.
const SETTLE: Duration = Duration::from_millis(2_500);
/// Longest wait when there is no relay.
const SETTLE_AT_MOST: Duration = Duration::from_secs(5);

/// How often a load looks whether a lost device has been replaced.
const RESTART_LOOK: Duration = Duration::from_millis(50);
/// Where a tab remembers which block store is its own.
pub(crate) const STORE: &str = "cdi-store";

/// Why layers are not held.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HostError {
    /// The model is not known yet.
    #[error("the model is not known yet; wait for the relay")]
    NoModel,
    /// Not even one layer fits the budget.
    #[error("not one layer fits the memory budget of this tab")]
    NoRoom,
    /// Somebody else's session asks for more than this node would take on.
    #[error("no room for further layers")]
    NotSpare,
    /// Fetching, loading or testing failed.
    #[error(transparent)]
    Compute(#[from] ComputeError),
}

/// Hosts layers, as the user wishes; `resume` is the range of an earlier visit.
pub(crate) async fn host(node: &Node, wish: HostLayers, resume: Option<LayerRange>) {
    if let Err(error) = try_host(node, wish, resume).await {
        tracing::warn!(%error, "not hosting");
        if matches!(&error, HostError::Compute(error) if error.is_device_lost()) && !node.state().recovering {
            return device_lost(node);
        }
        node.state().hosting = Hosting::default();
        announce(node).await;
        let message = Some(format!("Hosting failed: {error}. Press the button to try again."));
        node.emit(Event::Hosting(HostingView { state: HostingState::Error, message, ..HostingView::default() })).await;
    }
}

async fn try_host(node: &Node, wish: HostLayers, resume: Option<LayerRange>) -> Result<(), HostError> {
    let model = node.state().model.clone().ok_or(HostError::NoModel)?;
    show(node, HostingState::Fetching, Some(Progress::default()), None).await;
    if resume.is_none() {
        settle(node).await;
    }
    let info = &model.info;
    let fits = node.fits(&model);
    let count = match wish {
        HostLayers::Auto => placement::default_layers(info.layers, info.weight_bytes, node.limits.budget_bytes),
        HostLayers::Exactly(layers) => layers.min(fits),
    };
    let layers = {
        let state = node.state();
        let whole = LayerRange::whole(info.layers).ok_or(HostError::NoModel)?;
        let resumed = resume.filter(|r| whole.covers(*r) && r.count() <= fits);
        let neediest = || placement::neediest(&state.registry.coverage(&model.id, info.layers, true), count);
        resumed.or_else(neediest).ok_or(HostError::NoRoom)?
    };
    let claim = Hosting { wish: Some(wish), layers: Some(layers), fits, ..Hosting::default() };
    node.state().hosting = claim;
    show(node, HostingState::Fetching, Some(Progress::default()), None).await;
    announce(node).await;
    let loading = load(node, &model, layers, true, true).await?;
    show(node, HostingState::Testing, None, None).await;
    let decode_ms = node.compute.self_test(model.id, layers).await?;
    {
        let mut state = node.state();
        if state.hosting.layers.is_none() {
            // Stopped meanwhile.
            return Ok(());
        }
        state.hosting.ready = true;
        state.hosting.decode_ms = decode_ms;
    }
    show(node, HostingState::Hosting, None, remark(&loading)).await;
    announce(node).await;
    node.remember_hosting().await;
    Ok(())
}

/// Waits until the others have had time to answer this node's first announcement: who chooses before takes layers that
/// somebody holds already.
async fn settle(node: &Node) {
    let started = Instant::now();
    while started.elapsed() < SETTLE_AT_MOST {
        let heard = node.state().relay_up.map(|up| up.elapsed());
        match heard {
            Some(heard) if heard >= SETTLE => return,
            Some(heard) => sleep(SETTLE - heard).await,
            None => sleep(SETTLE / 10).await,
        }
    }
}

pub(crate) fn remark(loading: &Loading) -> Option<String> {
    loading.kept_in_memory.then(|| {
        "The browser's storage is full: some layers are kept in memory and fetched again after a reload.".to_owned()
    })
}

/// Makes sure that `layers` are loaded, for this node's own session or, within what the user allows, for
/// somebody else's.
pub(crate) async fn ensure(node: Node, layers: LayerRange, own: bool) -> Result<(), HostError> {
    let model = node.state().model.clone().ok_or(HostError::NoModel)?;
    let served = {
        let state = node.state();
        state.hosting.ready && state.hosting.layers.is_some_and(|held| held.covers(layers))
    };
    if served {
        return Ok(());
    }
    if own {
        load(&node, &model, layers, false, false).await?;
        return Ok(());
    }
    let grown = {
        let mut state = node.state();
        let hosting = &mut state.hosting;
        let held = hosting.layers.filter(|_| hosting.ready).ok_or(HostError::NotSpare)?;
        let union = held.union(layers).ok_or(HostError::NotSpare)?;
        if union.count() - held.count() > hosting.spare() {
            return Err(HostError::NotSpare);
        }
        hosting.layers = Some(union);
        (held, union)
    };
    show(&node, HostingState::Hosting, None, None).await;
    // All of them: what is loaded is not loaded again, but the pins cover exactly what is asked for.
    let loaded = load(&node, &model, grown.1, true, false).await;
    if loaded.is_err() {
        let mut state = node.state();
        if state.hosting.layers == Some(grown.1) {
            state.hosting.layers = Some(grown.0);
        }
    }
    show(&node, HostingState::Hosting, None, None).await;
    announce(&node).await;
    node.remember_hosting().await;
    loaded?;
    Ok(())
}

/// After this node's own answer: a host holds no layers that it does not show.
pub(crate) async fn release_others(node: &Node) {
    let (model, hosted) = {
        let state = node.state();
        let moves = state.hosting.moving.is_some() || state.hosting.leaving;
        (state.model.clone(), state.hosting.layers.filter(|_| !moves))
    };
    if let (Some(model), Some(hosted)) = (model, hosted) {
        keep(node, &model, Some(hosted)).await;
    }
}

/// Gives up every loaded layer outside `kept`.
pub(crate) async fn keep(node: &Node, model: &Model, kept: Option<LayerRange>) {
    if let Err(error) = node.compute.unload(model.id, kept).await {
        tracing::warn!(%error, "layers not unloaded");
    }
}

/// Gives up what is hosted.
pub(crate) async fn stop(node: &Node) {
    node.state().hosting = Hosting::default();
    show(node, HostingState::Off, None, None).await;
    announce(node).await;
    node.remember_hosting().await;
    let model = node.state().model.clone();
    if let Some(model) = model {
        keep(node, &model, None).await;
    }
}

/// Serves nobody new, or serves again.
pub(crate) async fn pause(node: &Node, paused: bool) {
    node.state().hosting.paused = paused;
    let state = if paused { HostingState::Paused } else { HostingState::Hosting };
    show(node, state, None, None).await;
    announce(node).await;
}

/// The GPU is gone: starts the compute half again, on what is left, and loads what was held.
pub(crate) fn device_lost(node: &Node) {
    if std::mem::replace(&mut node.state().recovering, true) {
        return;
    }
    node.state().restarting = true;
    let node = node.clone();
    cdi_platform::task::spawn(async move {
        let before = {
            let mut state = node.state();
            state.hosting.ready = false;
            (state.hosting.wish, state.hosting.layers)
        };
        announce(&node).await;
        let started = start_compute(&node).await;
        node.state().restarting = false;
        match started {
            Ok(()) => {
                node.emit(Event::Notice("The GPU was lost; this tab goes on with the CPU.".to_owned())).await;
                if let (Some(wish), layers) = before {
                    host(&node, wish, layers).await;
                }
            }
            Err(error) => node.emit(Event::Error(error.to_string())).await,
        }
        node.state().recovering = false;
    });
}

/// Starts the compute half and shows what it chose.
pub(crate) async fn start_compute(node: &Node) -> Result<(), ComputeError> {
    let started = node.compute.start(node.limits.compute.clone()).await?;
    {
        let mut state = node.state();
        state.tier = Some(started.tier);
        state.kernel_id.clone_from(&started.kernel_id);
    }
    if started.lasting {
        tab::remember(STORE, &started.store.to_string());
    }
    let view = ComputeView { tier: started.tier, reason: started.reason, kernel_id: started.kernel_id };
    node.emit(Event::Compute(view)).await;
    if !started.lasting {
        let text = "This browser keeps nothing on disk: layers are fetched again after a reload.";
        node.emit(Event::Notice(text.to_owned())).await;
    }
    Ok(())
}

/// Shows how fast this node computes, when that has changed, and goes on with the CPU when the GPU was lost meanwhile.
pub(crate) async fn measure(node: Node) {
    if std::mem::replace(&mut node.state().measuring, true) {
        return;
    }
    match node.compute.stats().await {
        Ok(speed) => {
            let news = node.state().speed.replace(speed) != Some(speed) && speed.gflops.is_some();
            if news {
                node.emit(Event::Speed(speed)).await;
            }
        }
        Err(error) if error.is_device_lost() => device_lost(&node),
        // Not started yet: there is nothing to measure.
        Err(_) => {}
    }
    node.state().measuring = false;
}

/// Fetches and loads, showing progress when it is the user who waits for it.
pub(crate) async fn load(
    node: &Node,
    model: &Model,
    layers: LayerRange,
    pin: bool,
    shown: bool,
) -> Result<Loading, ComputeError> {
    // What a lost device would be given now would be lost as well.
    while node.state().restarting {
        sleep(RESTART_LOOK).await;
    }
    let _one_at_a_time = node.loading.lock().await;
    let (mut reports, done) = node.compute.load(model.id, layers, pin);
    let started = Instant::now();
    let watch = async {
        while let Some(mut progress) = reports.next().await {
            let seconds = started.elapsed().as_secs_f64().max(1e-3);
            #[allow(clippy::cast_precision_loss, reason = "a speed for display")]
            let fetched = progress.fetched_bytes as f64;
            progress.bytes_per_s = fetched / seconds;
            node.state().progress = Some(progress);
            if shown {
                show(node, HostingState::Fetching, Some(progress), None).await;
            }
        }
    };
    let (loading, ()) = futures::join!(done, watch);
    let loading = loading?;
    node.state().kernel_id.clone_from(&loading.kernel_id);
    for source in &loading.bad_sources {
        let text = format!("{source} sent damaged blocks. They were fetched elsewhere and it is not asked again.");
        node.emit(Event::Notice(text)).await;
    }
    Ok(loading)
}

pub(crate) async fn show(node: &Node, state: HostingState, progress: Option<Progress>, message: Option<String>) {
    let view = {
        let mut known = node.state();
        let progress = progress.or(known.progress.take().filter(|_| state != HostingState::Off));
        known.progress = progress;
        HostingView { state, layers: known.hosting.layers, progress, message }
    };
    node.emit(Event::Hosting(view)).await;
}
