//! Which layers are served, one cell a layer.

use std::rc::Rc;

use cdi_node::view::PeerView;
use yew::prelude::*;

use crate::state::coverage::{WANTED_REPLICAS, replicas, summary};

/// Properties of [`Coverage`].
#[derive(PartialEq, Properties)]
pub struct CoverageProps {
    /// Every known node, this one included.
    pub peers: Rc<Vec<PeerView>>,
    /// Layers of the model; 0 while unknown.
    pub layers: u32,
}

/// The map, with a sentence that says what it means.
#[component]
pub fn Coverage(props: &CoverageProps) -> Html {
    let replicas = replicas(&props.peers, props.layers);
    let thin = replicas.iter().any(|&count| count < WANTED_REPLICAS);
    let own = props.peers.iter().find(|p| p.this).and_then(|p| p.layers);
    html! {
        <div class="coverage">
            <ol class="cells" data-testid="coverage">
                { for (0..).zip(&replicas).map(|(layer, count)| cell(layer, *count, own.is_some_and(|r| r.contains(layer)))) }
            </ol>
            <p class={classes!("fine", thin.then_some("thin"))} role="status">{ summary(&replicas) }</p>
        </div>
    }
}

fn cell(layer: u32, replicas: u32, own: bool) -> Html {
    let level = match replicas {
        0 => "cell-missing",
        n if n < WANTED_REPLICAS => "cell-thin",
        _ => "cell-good",
    };
    let text = format!("layer {layer}: {replicas}{}", if own { ", one of them in this tab" } else { "" });
    html! {
        <li class={classes!("cell", level, own.then_some("cell-own"))} data-layer={layer.to_string()}
            data-replicas={replicas.to_string()} title={text.clone()}>
            <span aria-hidden="true">{ replicas }</span>
            <span class="visually-hidden">{ text }</span>
        </li>
    }
}
