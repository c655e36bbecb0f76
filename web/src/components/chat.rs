//! The conversation.

use std::rc::Rc;

use cdi_node::view::{ModelView, PeerView};
use yew::prelude::*;

use super::{CurrentTurn, Icon, PastTurn, Welcome};
use crate::messages as m;
use crate::save;
use crate::state::{Action, AnswerState, Chat as Kept, Turn};

/// Properties of [`Chat`].
#[derive(PartialEq, Properties)]
pub struct ChatProps {
    /// Earlier turns, oldest first.
    pub past: Rc<Vec<Rc<Turn>>>,
    /// The current turn.
    pub current: Rc<Turn>,
    /// The model, once known.
    pub model: Option<Rc<ModelView>>,
    /// Every known node.
    pub peers: Rc<Vec<PeerView>>,
    /// Whether a question can be asked now.
    pub can_ask: bool,
    /// The conversation as it is kept, after its first answer.
    pub kept: Option<Rc<Kept>>,
    /// Shows the list of conversations, where there is no room beside the chat.
    pub open_history: Callback<()>,
    /// Where the user's actions go.
    pub act: Callback<Action>,
}

/// All turns, the current one last. The log scrolls from its bottom, see `.log` in the styles.
#[component]
pub fn Chat(props: &ChatProps) -> Html {
    let ChatProps { past, current, model, peers, can_ask, act, .. } = props;
    let fresh = current.state == AnswerState::Idle;
    html! {
        <>
            { bar(props, fresh) }
            // Focusable, so that the keyboard can scroll it.
            <div class={classes!("log", fresh.then_some("fresh"))} tabindex="0" role="region" aria-label={m::CONVERSATION}>
                <div class="log-inner">
                    if fresh {
                        <Welcome {model} {peers} {can_ask} {act} />
                    }
                    { for past.iter().enumerate().map(|(index, turn)| html! {
                        <PastTurn key={index} {turn} {index} {can_ask} {act} />
                    }) }
                    <CurrentTurn turn={current} index={past.len()} {can_ask} {act} />
                </div>
            </div>
        </>
    }
}

fn bar(props: &ChatProps, fresh: bool) -> Html {
    let save = {
        let kept = props.kept.clone();
        Callback::from(move |_: MouseEvent| {
            if let Some(chat) = &kept {
                save::file("conversation.md", "text/markdown", &chat.markdown());
            }
        })
    };
    html! {
        <div class="bar">
            <h2 class="visually-hidden">{ m::CHAT }</h2>
            <button type="button" class="button-quiet bar-history" data-testid="history-show"
                onclick={props.open_history.reform(|_| ())}>
                { Icon::List.view() }<span>{ m::CHATS }</span>
            </button>
            <span class="bar-model">{ props.model.as_ref().map(|model| model.name.clone()) }</span>
            if props.kept.is_some() {
                <button type="button" class="button-quiet" data-testid="export-chat"
                    aria-label={m::EXPORT_CHAT} onclick={save}>
                    { Icon::Save.view() }<span class="wide">{ m::EXPORT_CHAT }</span>
                </button>
            }
            if !fresh {
                <button type="button" class="button-quiet" data-testid="new-chat" onclick={props.act.reform(|_| Action::NewChat)}>
                    { Icon::Plus.view() }<span>{ m::NEW_CHAT }</span>
                </button>
            }
        </div>
    }
}
