//! Who computes the answer, and what strangers see of it.

use cdi_node::view::{Link, StageView};
use yew::prelude::*;

use crate::format;
use crate::messages as m;
use crate::state::Route;
use crate::state::privacy::Exposure;

/// Properties of [`Pipeline`].
#[derive(PartialEq, Properties)]
pub struct PipelineProps {
    /// What to show.
    pub route: Route,
    /// Whether the answer is being computed now.
    pub running: bool,
}

/// The stages in order, why this route, and where the words went.
#[component]
pub fn Pipeline(props: &PipelineProps) -> Html {
    let Route { stages, why, changes } = &props.route;
    html! {
        <section class="route" aria-label={m::ROUTE_OF_ANSWER}>
            <ol class={classes!("pipeline", props.running.then_some("running"))} data-testid="pipeline" data-changes={changes.to_string()}>
                { for stages.iter().map(stage) }
            </ol>
            <p class="fine">
                <span data-testid="why">{ why }</span>
                if *changes > 0 {
                    { format!(" Route changed {}.", if *changes == 1 { "once".to_owned() } else { format!("{changes} times") }) }
                }
            </p>
            if let Some(exposure) = Exposure::of(stages) {
                { badge(exposure) }
            }
        </section>
    }
}

/// Stages as chips, also for the swarm's screen.
pub(super) fn stage(stage: &StageView) -> Html {
    let peer = stage.peer.to_base58();
    let name = if stage.link == Link::Local { m::THIS_TAB.to_owned() } else { format::short_peer(&stage.peer) };
    html! {
        <li class="stage" data-peer={peer.clone()} data-layers={stage.layers.to_string()} data-link={stage.link.name()} title={peer}>
            <span class="stage-peer">{ name }</span>
            <span class="stage-link">{ stage.link.name() }</span>
            <span class="stage-layers">{ format!("layers {}", stage.layers) }</span>
        </li>
    }
}

fn badge(exposure: Exposure) -> Html {
    let (name, text) = match exposure {
        Exposure::Local => (m::ROUTE_NAMES[0], m::EXPOSED_LOCAL),
        Exposure::Boomerang => (m::ROUTE_NAMES[1], m::EXPOSED_BOOMERANG),
        Exposure::Light => (m::ROUTE_NAMES[2], m::EXPOSED_LIGHT),
    };
    html! {
        <p class="exposure fine" data-testid="exposure" data-exposure={exposure.name()}>
            <span class="badge">{ name }</span>{ " " }{ text }
        </p>
    }
}
