//! What a first visitor sees: what this is, what it can do, and something to press.

use std::rc::Rc;

use cdi_node::view::ModelView;
use yew::prelude::*;

use crate::app::seed;
use crate::format;
use crate::state::Action;

const EXAMPLES: [&str; 3] =
    ["What is a shard?", "What happens when a tab closes?", "Tell me a story about a brave fox"];

/// Properties of [`Welcome`].
#[derive(PartialEq, Properties)]
pub struct WelcomeProps {
    /// The model, once known.
    pub model: Option<Rc<ModelView>>,
    /// Whether a question can be asked now.
    pub can_ask: bool,
    /// Where questions go.
    pub act: Callback<Action>,
}

/// Shown before the first question.
#[component]
pub fn Welcome(props: &WelcomeProps) -> Html {
    let example = |text: &'static str| {
        let onclick = props.act.reform(move |_| Action::Ask { prompt: text.to_owned(), seed: seed() });
        html! { <li><button type="button" class="chip" disabled={!props.can_ask} {onclick}>{ text }</button></li> }
    };
    html! {
        <section class="welcome" aria-labelledby="welcome-title">
            <h2 id="welcome-title">{ "One model, run together by browser tabs" }</h2>
            <p class="lead">
                { "Each tab holds a few layers of a language model. Your question travels through them, and the \
                   answer keeps coming when one closes. No account, no data centre." }
            </p>
            <ol class="steps" aria-label="How it works">
                <li class="step"><strong>{ "You ask" }</strong></li>
                <li class="step">{ "Tabs compute " }<strong>{ "a few layers each" }</strong></li>
                <li class="step">{ "The answer " }<strong>{ "streams back" }</strong></li>
            </ol>
            <ul class="chips" aria-label="Example questions">{ for EXAMPLES.into_iter().map(example) }</ul>
            <p class="fine">{ about(props.model.as_deref()) }</p>
        </section>
    }
}

fn about(model: Option<&ModelView>) -> String {
    match model {
        Some(model) if !model.name.to_lowercase().contains("genesis") => {
            format!("The swarm runs {}: {}, {}.", model.name, layers(model), format::bytes(model.weight_bytes))
        }
        _ => "Genesis is a 3.6 M parameter demo model: it answers questions about this swarm and tells short \
              stories. It knows little else."
            .to_owned(),
    }
}

fn layers(model: &ModelView) -> String {
    format!("{} layers", model.layers)
}
