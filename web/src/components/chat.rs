//! The conversation.

use std::rc::Rc;

use cdi_node::view::ModelView;
use yew::prelude::*;

use super::{CurrentTurn, PastTurn, Welcome};
use crate::state::{Action, AnswerState, Turn};

/// Properties of [`Chat`].
#[derive(PartialEq, Properties)]
pub struct ChatProps {
    /// Earlier turns, oldest first.
    pub past: Rc<Vec<Rc<Turn>>>,
    /// The current turn.
    pub current: Rc<Turn>,
    /// The model, once known.
    pub model: Option<Rc<ModelView>>,
    /// Whether a question can be asked now.
    pub can_ask: bool,
    /// Where the user's actions go.
    pub act: Callback<Action>,
}

/// All turns, the current one last. The log scrolls from its bottom, see `.log` in the styles.
#[component]
pub fn Chat(props: &ChatProps) -> Html {
    let ChatProps { past, current, model, can_ask, act } = props;
    let fresh = current.state == AnswerState::Idle;
    html! {
        // Focusable, so that the keyboard can scroll it.
        <div class={classes!("log", fresh.then_some("fresh"))} tabindex="0" role="region" aria-label="Conversation">
            <div class="log-inner">
                if fresh {
                    <Welcome {model} {can_ask} {act} />
                }
                { for past.iter().map(|turn| html! { <PastTurn {turn} /> }) }
                <CurrentTurn turn={current} {act} />
            </div>
        </div>
    }
}
