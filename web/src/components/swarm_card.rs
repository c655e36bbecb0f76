//! The swarm as this tab sees it.

use std::rc::Rc;

use cdi_node::view::{ModelView, PeerView};
use yew::prelude::*;

use super::{Coverage, PeerList};
use crate::format;

/// Properties of [`SwarmCard`].
#[derive(PartialEq, Properties)]
pub struct SwarmCardProps {
    /// Every known node, this one included.
    pub peers: Rc<Vec<PeerView>>,
    /// The model, once known.
    pub model: Option<Rc<ModelView>>,
}

/// Number of peers, layers covered, and the peers themselves.
#[component]
pub fn SwarmCard(props: &SwarmCardProps) -> Html {
    let SwarmCardProps { peers, model } = props;
    let others = || peers.iter().filter(|p| !p.this);
    let (known, linked) = (others().count(), others().filter(|p| p.link.is_some()).count());
    html! {
        <section class="card" aria-labelledby="swarm-title">
            <div class="card-head">
                <h2 id="swarm-title">{ "Swarm" }</h2>
                <span class="count" data-testid="peers" data-count={known.to_string()} data-connected={linked.to_string()}>
                    { format::counted(known, "other node") }
                    if linked < known {
                        { format!(", {linked} connected") }
                    }
                </span>
            </div>
            <Coverage {peers} layers={model.as_ref().map_or(0, |m| m.layers)} />
            <PeerList {peers} />
        </section>
    }
}
