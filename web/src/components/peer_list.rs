//! The nodes of the swarm.

use std::rc::Rc;

use cdi_node::view::{Link, PeerView};
use cdi_types::advert::Tier;
use yew::prelude::*;

use crate::format;
use crate::messages as m;

/// Most rows; the rest is counted.
const MAX_ROWS: usize = 50;

/// Properties of [`PeerList`].
#[derive(PartialEq, Properties)]
pub struct PeerListProps {
    /// Every known node, this one included.
    pub peers: Rc<Vec<PeerView>>,
}

/// One row a node, this tab first.
#[component]
pub fn PeerList(props: &PeerListProps) -> Html {
    let (own, others): (Vec<_>, Vec<_>) = props.peers.iter().partition(|p| p.this);
    let others_missing = others.is_empty();
    let more = props.peers.len().saturating_sub(MAX_ROWS);
    html! {
        <div class="peers" tabindex="0" role="group" aria-label={m::NODES_TABLE}>
            if !props.peers.is_empty() {
                <table>
                    <thead>
                        <tr><th scope="col">{ m::NODE }</th><th scope="col">{ m::LAYERS }</th><th scope="col">{ m::LINK }</th>
                            <th scope="col">{ m::RTT }</th><th scope="col">{ m::DATA }</th></tr>
                    </thead>
                    <tbody>{ for own.into_iter().chain(others).take(MAX_ROWS).map(row) }</tbody>
                </table>
            }
            if others_missing {
                <p class="fine">{ m::NOBODY_ELSE }</p>
            }
            if more > 0 {
                <p class="fine">{ format!("and {}", format::counted(more, "more node")) }</p>
            }
        </div>
    }
}

fn row(peer: &PeerView) -> Html {
    let id = peer.peer.to_base58();
    let name = if peer.this { m::THIS_TAB.to_owned() } else { format::short_peer(&peer.peer) };
    let tier = match peer.tier {
        Tier::Gpu => m::TIER_GPU,
        Tier::Cpu => m::TIER_CPU,
        Tier::None => m::TIER_NONE,
    };
    let link = match peer.link {
        _ if peer.this => m::DASH,
        Some(link) => link.name(),
        None => "none",
    };
    let relayed = peer.link == Some(Link::Relayed);
    let limit = peer.limit_bytes.map(|limit| format!("The relay ends this link after {}.", format::bytes(limit)));
    let data = peer.received_bytes.saturating_add(peer.sent_bytes);
    let (received, sent) = (format::bytes(peer.received_bytes), format::bytes(peer.sent_bytes));
    let worker = format::bytes(peer.worker_bytes);
    let split = format!("{received} received, {sent} sent, {worker} of it without this page's thread");
    let path = if peer.worker_bytes > 0 { "worker" } else { "page" };
    html! {
        <tr key={id.clone()} class={classes!(peer.this.then_some("peer-own"))} data-peer={id.clone()} title={id}>
            <th scope="row">
                <span class="peer-id">{ name }</span>
                <span class="peer-note">{ tier }if peer.hidden { { m::IN_BACKGROUND } }</span>
            </th>
            <td>{ peer.layers.map_or_else(|| m::DASH.to_owned(), |l| l.to_string()) }</td>
            <td class={classes!(relayed.then_some("relayed"))} title={limit.clone()}>
                { link }if limit.is_some() { <span class="peer-note">{ m::LIMITED }</span> }
            </td>
            <td>{ peer.rtt_ms.map_or_else(|| m::DASH.to_owned(), |ms| format::milliseconds(f64::from(ms))) }</td>
            <td
                title={split}
                data-path={path}
                data-received={peer.received_bytes.to_string()}
                data-sent={peer.sent_bytes.to_string()}
            >
                { if data == 0 { m::DASH.to_owned() } else { format::bytes(data) } }
            </td>
        </tr>
    }
}
