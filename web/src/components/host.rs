//! The screen on which a tab is lent.

use std::rc::Rc;

use cdi_node::view::{ComputeView, HostLayers, HostingState, HostingView, ModelView, PeerView, ServedView, SpeedView};
use cdi_types::advert::Tier;
use web_sys::HtmlSelectElement;
use yew::prelude::*;

use super::{Figure, Hosting, Uptime};
use crate::format;
use crate::messages as m;
use crate::state::Action;

/// Properties of [`Host`].
#[derive(PartialEq, Properties)]
pub struct HostProps {
    /// What this tab hosts.
    pub hosting: Rc<HostingView>,
    /// What it computed for others.
    pub served: ServedView,
    /// The model, once known.
    pub model: Option<Rc<ModelView>>,
    /// What computes, once measured.
    pub compute: Option<Rc<ComputeView>>,
    /// How fast this tab computes, once it has.
    pub speed: Option<SpeedView>,
    /// Every known node.
    pub peers: Rc<Vec<PeerView>>,
    /// Bytes that came over the network in the last load.
    pub fetched_bytes: u64,
    /// How much the user wants to host.
    pub chosen: HostLayers,
    /// Where the user's actions go.
    pub act: Callback<Action>,
}

/// An offer while this tab hosts nothing, the state of affairs while it does.
#[component]
pub fn Host(props: &HostProps) -> Html {
    let HostProps { hosting, fetched_bytes, act, .. } = props;
    let offers = matches!(hosting.state, HostingState::Off | HostingState::Error);
    html! {
        <>
            <div class="screen-head">
                <h2>{ m::HOST }</h2>
                <p class="lead">{ m::HOST_LEAD }</p>
            </div>
            <div class="grid">
                <section class="card" aria-label={m::HOST_A_SHARD}>
                    <Hosting {hosting} fetched_bytes={*fetched_bytes} {act} />
                    if offers {
                        { offer(props) }
                    }
                    <h3>{ m::THIS_TABS_WORK }</h3>
                    { figures(props) }
                    if let Some(compute) = &props.compute {
                        <p class="fine" data-testid="compute-reason">{ &compute.reason }</p>
                    }
                    if let Some(speed) = &props.speed {
                        { measured(speed) }
                    }
                </section>
                <section class="card" aria-labelledby="shares-title">
                    <h3 id="shares-title">{ m::SHARES }</h3>
                    <ul class="ticks">{ for m::SHARES_LIST.into_iter().map(|text| html! { <li>{ text }</li> }) }</ul>
                    <p class="fine">{ m::SEES }</p>
                </section>
            </div>
        </>
    }
}

fn figures(props: &HostProps) -> Html {
    let HostProps { hosting, served, speed, peers, .. } = props;
    let (sent, received) = peers.iter().fold((0_u64, 0_u64), |(sent, received), peer| {
        (sent.saturating_add(peer.sent_bytes), received.saturating_add(peer.received_bytes))
    });
    let layers = hosting.layers.map_or_else(|| m::DASH.to_owned(), |layers| layers.to_string());
    let memory = speed.map_or_else(|| m::DASH.to_owned(), |speed| format::bytes(speed.memory_bytes));
    let sessions = usize::try_from(served.sessions).unwrap_or(usize::MAX);
    let served_in = format!("{} {}", m::FIGURE_SERVED, format::counted(sessions, "session"));
    html! {
        <dl class="figures">
            <Figure value={layers} label={m::FIGURE_LAYERS} />
            <Figure value={served.tokens.to_string()} label={served_in} testid="tokens-served" />
            <Uptime hosting={hosting.state == HostingState::Hosting} />
            <Figure value={memory} label={m::FIGURE_MEMORY} />
            <Figure value={format::bytes(sent)} label={m::FIGURE_SENT} />
            <Figure value={format::bytes(received)} label={m::FIGURE_RECEIVED} />
        </dl>
    }
}

fn measured(speed: &SpeedView) -> Html {
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

fn offer(props: &HostProps) -> Html {
    let HostProps { model, compute, chosen, act, .. } = props;
    let no_compute = compute.as_ref().is_some_and(|c| c.tier == Tier::None);
    let hint = match model {
        _ if no_compute => m::CANNOT_COMPUTE.to_owned(),
        None => m::WAITING_FOR_MODEL.to_owned(),
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
            <div class="host-row">
                <label class="field">
                    <span>{ m::LAYERS }</span>
                    <select data-testid="host-layers" {onchange}>
                        <option value="auto" selected={*chosen == HostLayers::Auto}>{ m::AUTO }</option>
                        { for (1..=layers).map(|n| html! {
                            <option value={n.to_string()} selected={*chosen == HostLayers::Exactly(n)}>{ n }</option>
                        }) }
                    </select>
                </label>
                <button type="button" class="button button-primary" data-testid="host-shard"
                    disabled={no_compute || model.is_none()} onclick={act.reform(|_| Action::Host)}>
                    { m::HOST_A_SHARD }
                </button>
            </div>
            <p class="fine">{ hint }</p>
        </>
    }
}
