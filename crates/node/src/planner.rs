//! Which way a session goes: the mode that the user chose, applied to what is known of the swarm.

use cdi_net::LinkKind;
use cdi_swarm::client::Client;
use cdi_swarm::route::{self, Candidate, Route};
use cdi_types::LayerRange;
use cdi_types::advert::{Advert, Tier};

use crate::shared::{Model, Node, State};
use crate::view::RouteMode;

/// Expected one-way time to a peer whose round trip is not measured yet, in milliseconds.
const UNKNOWN_HOP_MS: f64 = 15.0;
/// What a stage adds to a hop: taking a frame apart, two messages to the worker. Empirical.
const STAGE_OVERHEAD_MS: f64 = 1.0;
/// Expected time of a layer in this tab before it is measured, in milliseconds.
const UNKNOWN_LOCAL_LAYER_MS: f64 = 2.0;

/// A route and the reason for it.
pub(crate) struct Plan {
    /// `None` when nobody can compute some layer.
    pub(crate) route: Option<Route>,
    /// One sentence for the user.
    pub(crate) why: String,
}

/// Plans a way through `layers`, without the nodes that failed this session.
pub(crate) fn plan(node: &Node, model: &Model, layers: LayerRange, mode: RouteMode, client: &Client) -> Plan {
    let state = node.state();
    let usable = !client.excluded(&node.me);
    // What the user asks for outright is tried; what nobody asked for must fit.
    let me_spare = if usable { node.fits(model) } else { 0 };
    let all_layers = if usable { model.info.layers } else { 0 };
    let local_layer_ms = state.local_layer_ms().unwrap_or(UNKNOWN_LOCAL_LAYER_MS);
    let local_ms = local_layer_ms * f64::from(layers.count());
    let alone = |spare| route::plan(layers, &[], node.me, spare);
    let through_swarm = || {
        let candidates = candidates(&state, model, client, node);
        route::plan(layers, &candidates, node.me, me_spare)
    };
    match mode {
        RouteMode::ThisTab => {
            Plan { route: alone(all_layers), why: "You chose this tab: nothing leaves it.".to_owned() }
        }
        RouteMode::Swarm => {
            let route = through_swarm();
            let why = route.as_ref().map_or_else(String::new, |r| swarm_words(r, node, local_ms));
            Plan { route, why }
        }
        RouteMode::Auto => {
            let swarm = through_swarm().filter(|r| r.legs.iter().all(|leg| !leg.fetch));
            match swarm {
                Some(swarm) if swarm.expected_ms < local_ms || me_spare < layers.count() => {
                    let why = swarm_words(&swarm, node, local_ms);
                    Plan { route: Some(swarm), why }
                }
                Some(swarm) => {
                    let why = format!(
                        "This tab alone is expected at {local_ms:.0} ms a token, the swarm at {:.0} ms.",
                        swarm.expected_ms
                    );
                    Plan { route: alone(me_spare), why }
                }
                None => Plan {
                    route: alone(me_spare),
                    why: "No peers host all layers, so this tab computes them itself.".to_owned(),
                },
            }
        }
    }
}

fn swarm_words(route: &Route, node: &Node, local_ms: f64) -> String {
    let peers = route.legs.iter().filter(|l| l.peer != node.me).count();
    let own = route.legs.len() - peers;
    let fetching = route.legs.iter().filter(|l| l.fetch).count();
    let mut words = match (peers, own) {
        (0, _) => "No peer hosts these layers, so this tab computes them itself".to_owned(),
        (_, 0) => format!("{peers} of {} stages are computed by peers", route.legs.len()),
        _ => format!("peers compute {peers} of {} stages and this tab fills the gap", route.legs.len()),
    };
    if fetching == 0 && peers > 0 {
        let slower = if route.expected_ms > local_ms { ": slower than this tab alone" } else { "" };
        words += &format!(", expected at {:.0} ms a token{slower}", route.expected_ms);
    }
    words[..1].to_uppercase() + &words[1..] + "."
}

fn candidates(state: &State, model: &Model, client: &Client, node: &Node) -> Vec<Candidate> {
    let usable = |(peer, advert): (&cdi_types::PeerId, &Advert)| {
        if client.excluded(peer) || advert.tier == Tier::None {
            return None;
        }
        let shard = advert.shards_of(&model.id).find(|s| s.ready);
        let layer_ms = shard.map_or(0.0, |s| f64::from(s.decode_ms) / f64::from(s.layers.count()));
        Some(Candidate {
            peer: *peer,
            held: shard.map(|s| s.layers),
            spare_layers: advert.spare_layers,
            layer_ms,
            hop_ms: STAGE_OVERHEAD_MS + if *peer == node.me { 0.0 } else { hop_ms(state, peer) },
            stages: advert.stages,
            hidden: advert.hidden,
        })
    };
    state.registry.nodes().filter_map(usable).collect()
}

fn hop_ms(state: &State, peer: &cdi_types::PeerId) -> f64 {
    let link = state.links.get(peer);
    let measured = link.and_then(|l| l.rtt_ms).map(|rtt| f64::from(rtt) / 2.0);
    let relayed = link.is_none_or(|l| l.kind == LinkKind::Relayed);
    measured.unwrap_or(if relayed { 2.0 * UNKNOWN_HOP_MS } else { UNKNOWN_HOP_MS })
}
