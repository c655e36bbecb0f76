//! Offering this tab as a host.

use std::rc::Rc;

use cdi_node::view::{ComputeView, HostLayers, HostingState, HostingView, ModelView, SpeedView};
use cdi_types::advert::Tier;
use web_sys::HtmlSelectElement;
use yew::prelude::*;

use super::Hosting;
use crate::format;
use crate::state::Action;

/// Properties of [`HostCard`].
#[derive(PartialEq, Properties)]
pub struct HostCardProps {
    /// What this tab hosts.
    pub hosting: Rc<HostingView>,
    /// The model, once known.
    pub model: Option<Rc<ModelView>>,
    /// What computes, once measured.
    pub compute: Option<Rc<ComputeView>>,
    /// How fast this tab computes, once it has.
    pub speed: Option<SpeedView>,
    /// Bytes that came over the network in the last load.
    pub fetched_bytes: u64,
    /// How much the user wants to host.
    pub chosen: HostLayers,
    /// Where the user's actions go.
    pub act: Callback<Action>,
}

/// The card: an offer while this tab hosts nothing, the state of affairs while it does.
#[component]
pub fn HostCard(props: &HostCardProps) -> Html {
    let HostCardProps { hosting, fetched_bytes, act, .. } = props;
    let offers = matches!(hosting.state, HostingState::Off | HostingState::Error);
    html! {
        <section class="card" aria-labelledby="host-title">
            <h2 id="host-title">{ "Host" }</h2>
            <Hosting {hosting} fetched_bytes={*fetched_bytes} {act} />
            if offers {
                { offer(props) }
            }
            if let Some(compute) = &props.compute {
                <p class="fine" data-testid="compute-reason">{ &compute.reason }</p>
            }
            if let Some(speed) = &props.speed {
                { figures(speed) }
            }
        </section>
    }
}

fn figures(speed: &SpeedView) -> Html {
    let mut parts = Vec::new();
    if let Some(gflops) = speed.gflops {
        parts.push(format!("{} over all steps", format::flops(gflops)));
    }
    if let Some(decode_ms) = speed.decode_ms {
        parts.push(format!("{decode_ms:.1} ms a token"));
    }
    parts.push(format!("{} in use", format::bytes(speed.memory_bytes)));
    html! {
        <p class="fine" data-testid="compute-speed" data-gflops={speed.gflops.unwrap_or_default().to_string()}>
            { format!("Measured here: {}.", parts.join(" · ")) }
        </p>
    }
}

fn offer(props: &HostCardProps) -> Html {
    let HostCardProps { model, compute, chosen, act, .. } = props;
    let no_compute = compute.as_ref().is_some_and(|c| c.tier == Tier::None);
    let hint = match model {
        _ if no_compute => "This browser can ask, but cannot compute for others.".to_owned(),
        None => "Waiting for the model…".to_owned(),
        Some(model) => {
            format!("{}: {} layers, {} in all.", model.name, model.layers, format::bytes(model.weight_bytes))
        }
    };
    let layers = model.as_ref().map_or(0, |m| m.layers);
    let onchange = {
        let act = act.clone();
        Callback::from(move |event: Event| {
            let Some(value) = event.target_dyn_into::<HtmlSelectElement>().map(|s| s.value()) else { return };
            act.emit(Action::ChooseHostLayers(value.parse().map_or(HostLayers::Auto, HostLayers::Exactly)));
        })
    };
    html! {
        <>
            <p>{ "Lend this tab to the swarm: it keeps a few layers and computes them for others while it is open." }</p>
            <div class="host-row">
                <label class="field">
                    <span>{ "Layers" }</span>
                    <select data-testid="host-layers" {onchange}>
                        <option value="auto" selected={*chosen == HostLayers::Auto}>{ "Auto" }</option>
                        { for (1..=layers).map(|n| html! {
                            <option value={n.to_string()} selected={*chosen == HostLayers::Exactly(n)}>{ n }</option>
                        }) }
                    </select>
                </label>
                <button type="button" class="button button-primary" data-testid="host-shard"
                    disabled={no_compute || model.is_none()} onclick={act.reform(|_| Action::Host)}>
                    { "Host a shard" }
                </button>
            </div>
            <p class="fine">{ hint }</p>
            <p class="fine">{ "Hosting shows your IP address to the tabs you work with and uses your bandwidth. Stop at any time." }</p>
        </>
    }
}
