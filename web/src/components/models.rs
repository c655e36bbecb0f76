//! What can be asked and hosted.

use std::rc::Rc;

use cdi_node::view::{ModelView, PeerView};
use yew::prelude::*;

use super::{Copy, Figure};
use crate::format;
use crate::messages as m;
use crate::state::coverage::{covered, replicas, summary};
use crate::state::{Action, Screen};

/// Properties of [`Models`].
#[derive(PartialEq, Properties)]
pub struct ModelsProps {
    /// The model of the network, once known.
    pub model: Option<Rc<ModelView>>,
    /// Every known node.
    pub peers: Rc<Vec<PeerView>>,
    /// Where the user's actions go.
    pub act: Callback<Action>,
}

/// A card for each model that is announced.
#[component]
pub fn Models(props: &ModelsProps) -> Html {
    html! {
        <>
            <div class="screen-head">
                <h2>{ m::MODELS }</h2>
                <p class="lead">{ m::MODELS_LEAD }</p>
            </div>
            <div class="grid">
                if let Some(model) = &props.model {
                    { card(model, props) }
                } else {
                    <p class="fine" role="status">{ m::WAITING_FOR_MODEL }</p>
                }
            </div>
        </>
    }
}

fn card(model: &ModelView, props: &ModelsProps) -> Html {
    let replicas = replicas(&props.peers, model.layers);
    let online = covered(&replicas) * 100 / replicas.len().max(1);
    let cid = model.id.to_string();
    html! {
        <section class="card card-wide" data-testid="model" aria-labelledby="model-title">
            <h3 id="model-title" class="card-title">{ &model.name }</h3>
            <dl class="figures">
                <Figure value={model.layers.to_string()} label={m::MODEL_LAYERS} />
                <Figure value={format::counted(model.context as usize, "token")} label={m::MODEL_CONTEXT} />
                <Figure value={format::bytes(model.weight_bytes)} label={m::MODEL_SIZE} />
                <Figure value={format!("{online} %")} label={m::MODEL_ONLINE} />
            </dl>
            <p class="fine">{ summary(&replicas) }</p>
            <div class="id-row">
                <div class="id-text"><span class="fine">{ m::MODEL_CID }</span><code dir="ltr">{ cid.clone() }</code></div>
                <Copy text={cid} of={m::MODEL_CID} />
            </div>
            <div class="host-row">
                <button type="button" class="button button-primary" onclick={props.act.reform(|_| Action::Go(Screen::Host))}>
                    { m::HOST_THIS_MODEL }
                </button>
            </div>
        </section>
    }
}
