//! Errors and notices above the question box.

use std::rc::Rc;

use yew::prelude::*;

use crate::messages as m;
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
    html! { <div class="alerts">{ for props.alerts.shown().iter().map(|alert| view(alert, &props.act)) }</div> }
}

fn view(alert: &Alert, act: &Callback<Action>) -> Html {
    let (testid, role, title) = match alert.kind {
        AlertKind::Error => ("error", "alert", m::ERROR),
        AlertKind::Notice => ("notice", "status", m::NOTICE),
    };
    let id = alert.id;
    html! {
        <div class={classes!("alert", format!("alert-{testid}"))} key={id} {role}>
            <p><span class="visually-hidden">{ title }{ ": " }</span><span data-testid={testid}>{ &alert.text }</span></p>
            <button type="button" class="button-quiet" aria-label={format!("{}: {}", m::DISMISS, alert.text)}
                onclick={act.reform(move |_| Action::Dismiss(id))}>
                { "×" }
            </button>
        </div>
    }
}
