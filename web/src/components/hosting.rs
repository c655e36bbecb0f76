//! Where hosting stands, and its controls.

use std::rc::Rc;

use cdi_node::view::{HostingState, HostingView, Progress};
use yew::prelude::*;

use crate::format;
use crate::messages as m;
use crate::state::Action;

/// Properties of [`Hosting`].
#[derive(PartialEq, Properties)]
pub struct HostingProps {
    /// What this tab hosts.
    pub hosting: Rc<HostingView>,
    /// Bytes that came over the network in the last load.
    pub fetched_bytes: u64,
    /// Where the user's actions go.
    pub act: Callback<Action>,
}

/// State, layers, progress, and buttons to pause and stop.
#[component]
pub fn Hosting(props: &HostingProps) -> Html {
    let HostingProps { hosting, fetched_bytes, act } = props;
    let layers = hosting.layers.map(|l| l.to_string()).unwrap_or_default();
    let on_layers = hosting.layers.map(|l| format!(" · layers {l}"));
    html! {
        <div class="hosting" data-testid="hosting" data-state={hosting.state.name()} data-layers={layers}
            data-fetched-bytes={fetched_bytes.to_string()}>
            <p class="hosting-state" role="status">
                <span class="dot" aria-hidden="true" />
                { title(hosting.state) }{ on_layers }
            </p>
            if let Some(progress) = hosting.progress.filter(|_| hosting.state == HostingState::Fetching) {
                { download(&progress) }
            }
            if let Some(message) = &hosting.message {
                <p class="hosting-message">{ message }</p>
            }
            { controls(hosting.state, act) }
        </div>
    }
}

const fn title(state: HostingState) -> &'static str {
    m::HOSTING_STATES[match state {
        HostingState::Off => 0,
        HostingState::Fetching => 1,
        HostingState::Testing => 2,
        HostingState::Hosting => 3,
        HostingState::Paused => 4,
        HostingState::Error => 5,
    }]
}

#[allow(clippy::cast_precision_loss, reason = "an estimate in seconds")]
fn download(progress: &Progress) -> Html {
    let Progress { done_bytes, total_bytes, bytes_per_s, .. } = *progress;
    let left = total_bytes.saturating_sub(done_bytes) as f64 / bytes_per_s;
    let mut parts = vec![format!("{} of {}", format::bytes(done_bytes), format::bytes(total_bytes))];
    if let Some(speed) = format::speed(bytes_per_s) {
        parts.push(speed);
        parts.push(format::time_left(left));
    }
    html! {
        <>
            <progress aria-label={m::LAYERS_FETCHED} max={total_bytes.max(1).to_string()} value={done_bytes.to_string()} />
            <p class="fine">{ parts.join(" · ") }</p>
        </>
    }
}

fn controls(state: HostingState, act: &Callback<Action>) -> Html {
    let button = |testid: &'static str, text: &'static str, action: Action| {
        let onclick = act.reform(move |_: MouseEvent| action.clone());
        html! { <button type="button" class="button" data-testid={testid} {onclick}>{ text }</button> }
    };
    let pause = match state {
        HostingState::Off | HostingState::Error => return Html::default(),
        HostingState::Hosting => button("host-pause", m::PAUSE, Action::PauseHosting),
        HostingState::Paused => button("host-resume", m::RESUME, Action::ResumeHosting),
        HostingState::Fetching | HostingState::Testing => Html::default(),
    };
    html! { <div class="host-row">{ pause }{ button("host-stop", m::STOP_HOSTING, Action::StopHosting) }</div> }
}
