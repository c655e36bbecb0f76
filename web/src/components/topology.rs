//! Who is linked to this tab, as a drawing.

use std::collections::HashMap;
use std::f64::consts::TAU;
use std::rc::Rc;

use cdi_node::view::{Link, PeerView};
use cdi_types::{LayerRange, PeerId};
use yew::prelude::*;

use crate::format;
use crate::messages as m;
use crate::state::Route;

/// Most nodes that are drawn; the rest is counted.
const MAX_NODES: usize = 24;
/// The drawing's own units.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 280.0;

/// Properties of [`Topology`].
#[derive(PartialEq, Properties)]
pub struct TopologyProps {
    /// Every known node, this one included.
    pub peers: Rc<Vec<PeerView>>,
    /// The route of the running answer, along which its rows move.
    pub route: Option<Route>,
    /// Without labels, for the landing.
    pub compact: bool,
}

/// This tab in the middle, the others around it, hosts first; a line for each link.
#[component]
pub fn Topology(props: &TopologyProps) -> Html {
    let TopologyProps { peers, route, compact } = props;
    let mut others: Vec<&PeerView> = peers.iter().filter(|peer| !peer.this).collect();
    // A stable order, so that nothing jumps: hosts by their layers, then by id.
    others.sort_by_key(|peer| (peer.layers.map_or(u32::MAX, LayerRange::first), peer.peer.to_base58()));
    let more = others.len().saturating_sub(MAX_NODES);
    others.truncate(MAX_NODES);
    let center = (WIDTH / 2.0, HEIGHT / 2.0);
    let places: Vec<(f64, f64)> = (0..others.len()).map(|index| place(index, others.len())).collect();
    let mut at: HashMap<PeerId, (f64, f64)> = others.iter().map(|p| p.peer).zip(places.iter().copied()).collect();
    let own = peers.iter().find(|peer| peer.this);
    at.extend(own.map(|own| (own.peer, center)));
    let direct = others.iter().filter(|p| p.link == Some(Link::Direct)).count();
    let relayed = others.iter().filter(|p| p.link == Some(Link::Relayed)).count();
    let label = format!("{}: {direct} {}, {relayed} {}", m::TOPOLOGY, m::LEGEND_DIRECT, m::LEGEND_RELAYED);
    html! {
        <figure class={classes!("topology", compact.then_some("compact"))}>
            <svg viewBox={format!("0 0 {WIDTH} {HEIGHT}")} role="img" aria-label={label}>
                { for others.iter().zip(&places).filter_map(|(peer, place)| edge(peer, center, *place)) }
                if let Some(route) = route {
                    { flow(route, center, &at) }
                }
                { for others.iter().zip(&places).map(|(peer, place)| node(peer, *place, *compact)) }
                { center_node(own, center, *compact) }
            </svg>
            if !compact {
                <figcaption class="legend fine">
                    <span class="legend-direct">{ m::LEGEND_DIRECT }</span>
                    <span class="legend-relayed">{ m::LEGEND_RELAYED }</span>
                    <span class="legend-known">{ m::LEGEND_KNOWN }</span>
                    if more > 0 {
                        <span>{ format!("and {}", format::counted(more, "more node")) }</span>
                    }
                </figcaption>
            }
        </figure>
    }
}

/// Where node `index` of `count` stands: on an ellipse, the first at the left, so that two face each other.
#[allow(clippy::cast_precision_loss, reason = "at most 24 nodes")]
fn place(index: usize, count: usize) -> (f64, f64) {
    let angle = TAU * (index as f64 / count.max(1) as f64 + 0.5);
    let (radius_x, radius_y) = (WIDTH * 0.42, HEIGHT * 0.34);
    (WIDTH / 2.0 + radius_x * angle.cos(), HEIGHT / 2.0 + radius_y * angle.sin())
}

fn edge(peer: &PeerView, from: (f64, f64), to: (f64, f64)) -> Option<Html> {
    let class = match peer.link? {
        Link::Local => return None,
        Link::Direct => "edge edge-direct",
        Link::Relayed => "edge edge-relayed",
    };
    Some(html! { <path {class} key={peer.peer.to_base58()} d={line(&[from, to])} /> })
}

/// From this tab through the stages and back.
fn flow(route: &Route, center: (f64, f64), at: &HashMap<PeerId, (f64, f64)>) -> Html {
    let mut points = vec![center];
    points.extend(route.stages.iter().filter_map(|stage| at.get(&stage.peer)));
    points.push(center);
    html! { <path class="flow" d={line(&points)} /> }
}

fn line(points: &[(f64, f64)]) -> String {
    let steps = points.iter().enumerate().map(|(i, (x, y))| format!("{}{x:.1} {y:.1}", if i == 0 { "M" } else { "L" }));
    steps.collect()
}

fn node(peer: &PeerView, (x, y): (f64, f64), compact: bool) -> Html {
    let hosts = peer.layers.is_some();
    let class = classes!("node", hosts.then_some("node-host"), peer.link.is_none().then_some("node-known"));
    // Away from the middle, where the lines are.
    let name_y = if y < HEIGHT / 2.0 - 1.0 { y - 23.0 } else { y + 33.0 };
    html! {
        <g {class} key={peer.peer.to_base58()}>
            <circle cx={format!("{x:.1}")} cy={format!("{y:.1}")} r={if hosts { "15" } else { "9" }} />
            if let Some(layers) = peer.layers {
                <text class="node-layers" x={format!("{x:.1}")} y={format!("{:.1}", y + 4.0)}>{ layers.to_string() }</text>
            }
            if !compact {
                <text class="node-name" x={format!("{x:.1}")} y={format!("{name_y:.1}")}>{ format::short_peer(&peer.peer) }</text>
            }
        </g>
    }
}

fn center_node(own: Option<&PeerView>, (x, y): (f64, f64), compact: bool) -> Html {
    let layers = own.and_then(|own| own.layers);
    html! {
        <g class="node node-own">
            <circle cx={x.to_string()} cy={y.to_string()} r="19" />
            <text class="node-layers" x={x.to_string()} y={(y + 4.0).to_string()}>
                { layers.map_or_else(|| m::YOU.to_owned(), |layers| layers.to_string()) }
            </text>
            if !compact {
                <text class="node-name" x={x.to_string()} y={(y + 38.0).to_string()}>{ m::THIS_TAB }</text>
            }
        </g>
    }
}
