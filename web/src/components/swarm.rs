//! The swarm as this tab sees it.

use std::rc::Rc;

use cdi_node::view::{Link, ModelView, PeerView};
use cdi_types::advert::Tier;
use yew::prelude::*;

use super::pipeline::stage;
use super::{Coverage, Figure, PeerList, Topology};
use crate::format;
use crate::messages as m;
use crate::state::Route;

/// Properties of [`Swarm`].
#[derive(PartialEq, Properties)]
pub struct SwarmProps {
    /// Every known node, this one included.
    pub peers: Rc<Vec<PeerView>>,
    /// The model, once known.
    pub model: Option<Rc<ModelView>>,
    /// The route of the running answer.
    pub route: Option<Route>,
    /// Whether the screen is shown: what nobody sees is not drawn.
    pub shown: bool,
}

/// Totals, links, layers, and the nodes themselves.
#[component]
pub fn Swarm(props: &SwarmProps) -> Html {
    let SwarmProps { peers, model, route, shown } = props;
    let others = || peers.iter().filter(|p| !p.this);
    let (known, linked) = (others().count(), others().filter(|p| p.link.is_some()).count());
    html! {
        <>
            <div class="screen-head">
                <h2>{ m::SWARM }</h2>
                <p class="lead">
                    { m::SWARM_LEAD }{ " " }
                    <span data-testid="peers" data-count={known.to_string()} data-connected={linked.to_string()}>
                        { format::counted(known, "other node") }
                        if linked < known {
                            { format!(", {linked} connected") }
                        }
                        { "." }
                    </span>
                </p>
            </div>
            <div class="grid">
                <section class="card card-wide">{ totals(peers) }</section>
                <section class="card" aria-labelledby="topology-title">
                    <h3 id="topology-title">{ m::TOPOLOGY }</h3>
                    if *shown {
                        <Topology {peers} route={route.clone()} compact={false} />
                    }
                </section>
                <section class="card" aria-labelledby="coverage-title">
                    <h3 id="coverage-title">{ m::COVERAGE }</h3>
                    <Coverage {peers} layers={model.as_ref().map_or(0, |m| m.layers)} />
                    <h3>{ m::RUNNING_REQUEST }</h3>
                    { running(route.as_ref()) }
                </section>
                <section class="card card-wide" aria-labelledby="nodes-title">
                    <h3 id="nodes-title">{ m::NODES }</h3>
                    <PeerList {peers} />
                </section>
            </div>
        </>
    }
}

fn totals(peers: &[PeerView]) -> Html {
    let count = |counts: fn(&PeerView) -> bool| peers.iter().filter(|peer| counts(peer)).count().to_string();
    html! {
        <dl class="figures">
            <Figure value={peers.len().to_string()} label={m::TOTAL_NODES} />
            <Figure value={count(|peer| peer.layers.is_some())} label={m::TOTAL_HOSTS} />
            <Figure value={count(|peer| peer.tier == Tier::Gpu)} label={m::TOTAL_GPUS} />
            <Figure value={count(|peer| peer.link == Some(Link::Direct))} label={m::TOTAL_DIRECT} />
            <Figure value={count(|peer| peer.link == Some(Link::Relayed))} label={m::TOTAL_RELAYED} />
        </dl>
    }
}

fn running(route: Option<&Route>) -> Html {
    match route {
        Some(route) => html! { <ol class="pipeline running">{ for route.stages.iter().map(stage) }</ol> },
        None => html! { <p class="fine">{ m::NO_REQUEST }</p> },
    }
}
