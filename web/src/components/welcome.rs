//! What a first visitor sees: what this is, the live swarm, and one thing to press.

use std::rc::Rc;

use cdi_node::view::{ModelView, PeerView};
use yew::prelude::*;

use super::Topology;
use crate::app::seed;
use crate::format;
use crate::messages as m;
use crate::state::coverage::{covered, replicas};
use crate::state::{Action, Screen};

/// Properties of [`Welcome`].
#[derive(PartialEq, Properties)]
pub struct WelcomeProps {
    /// The model, once known.
    pub model: Option<Rc<ModelView>>,
    /// Every known node.
    pub peers: Rc<Vec<PeerView>>,
    /// Whether a question can be asked now.
    pub can_ask: bool,
    /// Where questions go.
    pub act: Callback<Action>,
}

/// Shown before the first question.
#[component]
pub fn Welcome(props: &WelcomeProps) -> Html {
    let WelcomeProps { model, peers, can_ask, act } = props;
    let example = |text: &'static str| {
        let onclick = act.reform(move |_| Action::Ask { prompt: text.to_owned(), seed: seed() });
        html! { <li><button type="button" class="example" disabled={!can_ask} {onclick}>{ text }</button></li> }
    };
    html! {
        <section class="welcome" aria-labelledby="welcome-title">
            <div class="hero">
                <div class="hero-text">
                    <h2 id="welcome-title">{ m::LANDING_TITLE }</h2>
                    <p class="lead">{ m::LANDING_LEAD }</p>
                    <button type="button" class="button button-primary" data-testid="lend"
                        onclick={act.reform(|_| Action::Go(Screen::Host))}>
                        { m::LEND }
                    </button>
                </div>
                <div class="hero-swarm" role="group" aria-label={m::LIVE_NETWORK}>
                    <Topology {peers} route={None} compact={true} />
                    { figures(peers, model.as_deref()) }
                </div>
            </div>
            <ul class="examples" aria-label={m::EXAMPLES_LABEL}>{ for m::EXAMPLES.into_iter().map(example) }</ul>
            <p class="fine">{ about(model.as_deref()) }</p>
        </section>
    }
}

/// The network in three figures; a sentence while there is nobody else.
fn figures(peers: &[PeerView], model: Option<&ModelView>) -> Html {
    if peers.is_empty() {
        return html! { <p class="fine">{ m::LOOKING }</p> };
    }
    if peers.iter().all(|peer| peer.this) {
        return html! { <p class="fine">{ m::FIRST_HERE }</p> };
    }
    let hosts = peers.iter().filter(|peer| peer.layers.is_some()).count();
    let figure = |value: String, label| html! { <li><strong>{ value }</strong>{ " " }{ label }</li> };
    html! {
        <ul class="hero-figures">
            { figure(peers.len().to_string(), m::STAT_NODES) }
            { figure(hosts.to_string(), m::STAT_HOSTS) }
            if let Some(model) = model {
                { figure(format!("{}/{}", covered(&replicas(peers, model.layers)), model.layers), m::STAT_LAYERS) }
            }
        </ul>
    }
}

fn about(model: Option<&ModelView>) -> String {
    match model {
        Some(model) if !model.name.to_lowercase().contains("genesis") => {
            format!("The swarm runs {}: {} layers, {}.", model.name, model.layers, format::bytes(model.weight_bytes))
        }
        _ => m::GENESIS_ABOUT.to_owned(),
    }
}
