//! A button that copies.

use yew::prelude::*;

use super::Icon;
use crate::messages as m;
use crate::save;

/// Properties of [`Copy`].
#[derive(PartialEq, Properties)]
pub struct CopyProps {
    /// What is copied.
    pub text: AttrValue,
    /// What it is, for assistive tools.
    pub of: AttrValue,
}

/// Says that it has copied until something else is to be copied.
#[component]
pub fn Copy(props: &CopyProps) -> Html {
    let copied = use_state_eq(|| None::<AttrValue>);
    let done = copied.as_ref() == Some(&props.text);
    let onclick = {
        let (copied, text) = (copied.clone(), props.text.clone());
        Callback::from(move |_: MouseEvent| {
            save::copy(&text);
            copied.set(Some(text.clone()));
        })
    };
    let text = if done { m::COPIED } else { m::COPY };
    html! {
        <button type="button" class="button-quiet" aria-label={format!("{text}: {}", props.of)} {onclick}>
            { Icon::Copy.view() }<span aria-hidden="true">{ text }</span>
        </button>
    }
}
