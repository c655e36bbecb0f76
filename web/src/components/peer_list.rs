//! The nodes of the swarm.

use std::rc::Rc;

use cdi_node::view::{Link, PeerView};
use cdi_types::advert::Tier;
use yew::prelude::*;

use crate::format;

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
        <div class="peers">
            if !props.peers.is_empty() {
                <table>
                    <thead>
                        <tr><th scope="col">{ "Node" }</th><th scope="col">{ "Layers" }</th><th scope="col">{ "Link" }</th>
                            <th scope="col">{ "RTT" }</th><th scope="col">{ "Data" }</th></tr>
                    </thead>
                    <tbody>{ for own.into_iter().chain(others).take(MAX_ROWS).map(row) }</tbody>
                </table>
            }
            if others_missing {
                <p class="fine">{ "No other tab yet: open this page in a second one, or send its address to a friend." }</p>
            }
            if more > 0 {
                <p class="fine">{ format!("and {}", format::counted(more, "more node")) }</p>
            }
        </div>
    }
}

fn row(peer: &PeerView) -> Html {
    let id = peer.peer.to_base58();
    let name = if peer.this { "This tab".to_owned() } else { format::short_peer(&peer.peer) };
    let tier = match peer.tier {
        Tier::Gpu => "GPU",
        Tier::Cpu => "CPU",
        Tier::None => "no compute",
    };
    let link = match peer.link {
        _ if peer.this => "—",
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
                <span class="peer-note">{ tier }if peer.hidden { { ", in background" } }</span>
            </th>
            <td>{ peer.layers.map_or_else(|| "—".to_owned(), |l| l.to_string()) }</td>
            <td class={classes!(relayed.then_some("relayed"))} title={limit.clone()}>
                { link }if limit.is_some() { <span class="peer-note">{ "limited" }</span> }
            </td>
            <td>{ peer.rtt_ms.map_or_else(|| "—".to_owned(), |ms| format::milliseconds(f64::from(ms))) }</td>
            <td
                title={split}
                data-path={path}
                data-received={peer.received_bytes.to_string()}
                data-sent={peer.sent_bytes.to_string()}
            >
                { if data == 0 { "—".to_owned() } else { format::bytes(data) } }
            </td>
        </tr>
    }
}
