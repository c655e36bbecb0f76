//! Errors and notices above the question box.

use std::rc::Rc;

use yew::prelude::*;

use crate::state::Action;
use crate::state::alerts::{Alert, AlertKind};

/// Properties of [`Alerts`].
#[derive(PartialEq, Properties)]
pub struct AlertsProps {
    /// What to show.
    pub alerts: Rc<crate::state::alerts::Alerts>,
    /// Where dismissals go.
    pub act: Callback<Action>,
}

/// The alerts, each with a button that dismisses it.
#[component]
pub fn Alerts(props: &AlertsProps) -> Html {
    html! { <>{ for props.alerts.shown().iter().map(|alert| view(alert, &props.act)) }</> }
}

fn view(alert: &Alert, act: &Callback<Action>) -> Html {
    let (testid, role, title) = match alert.kind {
        AlertKind::Error => ("error", "alert", "Error"),
        AlertKind::Notice => ("notice", "status", "Notice"),
    };
    let id = alert.id;
    html! {
        <div class={classes!("alert", format!("alert-{testid}"))} key={id} {role}>
            <p><span class="visually-hidden">{ title }{ ": " }</span><span data-testid={testid}>{ &alert.text }</span></p>
            <button type="button" class="button-quiet" aria-label={format!("Dismiss: {}", alert.text)}
                onclick={act.reform(move |_| Action::Dismiss(id))}>
                { "×" }
            </button>
        </div>
    }
}
