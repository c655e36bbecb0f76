//! Erasing everything, asked twice.

use yew::prelude::*;

use crate::messages as m;
use crate::profile;

/// A button, then what it would do, then the button that does it.
#[component]
pub fn Erase() -> Html {
    let asked = use_state_eq(|| false);
    let set = |to: bool| {
        let asked = asked.clone();
        Callback::from(move |_: MouseEvent| asked.set(to))
    };
    if !*asked {
        return html! {
            <div class="host-row">
                <button type="button" class="button button-danger" data-testid="erase" onclick={set(true)}>{ m::ERASE }</button>
            </div>
        };
    }
    html! {
        <div class="alert alert-error confirm" role="alertdialog" aria-label={m::ERASE} aria-describedby="erase-text">
            <p id="erase-text">{ m::ERASE_CONFIRM }</p>
            <button type="button" class="button button-danger" data-testid="erase-now"
                onclick={Callback::from(|_: MouseEvent| profile::erase())}>
                { m::ERASE_NOW }
            </button>
            <button type="button" class="button" data-testid="erase-keep" onclick={set(false)}>{ m::ERASE_KEEP }</button>
        </div>
    }
}
