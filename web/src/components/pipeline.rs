//! Who computes the answer.

use cdi_node::view::{Link, StageView};
use yew::prelude::*;

use crate::format;
use crate::state::Route;

/// Properties of [`Pipeline`].
#[derive(PartialEq, Properties)]
pub struct PipelineProps {
    /// What to show.
    pub route: Route,
    /// Whether the answer is being computed now.
    pub running: bool,
}

/// The stages in order, and why this route.
#[component]
pub fn Pipeline(props: &PipelineProps) -> Html {
    let Route { stages, why, changes } = &props.route;
    html! {
        <section class="route" aria-label="Route of the answer">
            <ol class={classes!("pipeline", props.running.then_some("running"))} data-testid="pipeline" data-changes={changes.to_string()}>
                { for stages.iter().map(stage) }
            </ol>
            <p class="fine">
                <span data-testid="why">{ why }</span>
                if *changes > 0 {
                    { format!(" Route changed {}.", if *changes == 1 { "once".to_owned() } else { format!("{changes} times") }) }
                }
            </p>
        </section>
    }
}

fn stage(stage: &StageView) -> Html {
    let peer = stage.peer.to_base58();
    let name = if stage.link == Link::Local { "This tab".to_owned() } else { format::short_peer(&stage.peer) };
    html! {
        <li class="stage" data-peer={peer.clone()} data-layers={stage.layers.to_string()} data-link={stage.link.name()} title={peer}>
            <span class="stage-peer">{ name }</span>
            <span class="stage-link">{ stage.link.name() }</span>
            <span class="stage-layers">{ format!("layers {}", stage.layers) }</span>
        </li>
    }
}
