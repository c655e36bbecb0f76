//! The conversations kept in this browser.

use std::rc::Rc;

use yew::prelude::*;

use super::Icon;
use crate::messages as m;
use crate::state::{Action, Chat};

/// Properties of [`History`].
#[derive(PartialEq, Properties)]
pub struct HistoryProps {
    /// The conversations, newest first.
    pub chats: Rc<Vec<Rc<Chat>>>,
    /// The shown one.
    pub shown: Option<String>,
    /// Whether it lies over the page, where there is no room beside it.
    pub open: bool,
    /// Closes it there.
    pub close: Callback<()>,
    /// Where the user's actions go.
    pub act: Callback<Action>,
}

/// A list, with a button that deletes each.
#[component]
pub fn History(props: &HistoryProps) -> Html {
    let HistoryProps { chats, shown, open, close, act } = props;
    let onkeydown = {
        let close = close.clone();
        Callback::from(move |event: KeyboardEvent| {
            if event.key() == "Escape" {
                close.emit(());
            }
        })
    };
    html! {
        <aside class={classes!("history", open.then_some("open"))} aria-labelledby="history-title" data-testid="history" {onkeydown}>
            <div class="history-head">
                <h2 id="history-title">{ m::CHATS }</h2>
                <button type="button" class="button-quiet history-close" aria-label={m::CLOSE} onclick={close.reform(|_| ())}>
                    { Icon::Close.view() }
                </button>
            </div>
            if chats.is_empty() {
                <p class="fine">{ m::NO_CHATS }</p>
            }
            <ul>{ for chats.iter().map(|chat| item(chat, shown.as_deref() == Some(&chat.id), close, act)) }</ul>
        </aside>
    }
}

fn item(chat: &Rc<Chat>, shown: bool, close: &Callback<()>, act: &Callback<Action>) -> Html {
    let open = {
        let (id, close, act) = (chat.id.clone(), close.clone(), act.clone());
        Callback::from(move |_: MouseEvent| {
            act.emit(Action::OpenChat(id.clone()));
            close.emit(());
        })
    };
    let delete = {
        let id = chat.id.clone();
        act.reform(move |_: MouseEvent| Action::DeleteChat(id.clone()))
    };
    let title = chat.title();
    html! {
        <li key={chat.id.clone()} class={classes!("history-item", shown.then_some("shown"))}>
            <button type="button" class="history-open" data-testid="history-open" aria-current={shown.then_some("true")}
                onclick={open} dir="auto">
                { title.clone() }
            </button>
            <button type="button" class="button-quiet" aria-label={format!("{}: {title}", m::DELETE_CHAT)} onclick={delete}>
                { Icon::Close.view() }
            </button>
        </li>
    }
}
