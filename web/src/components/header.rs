//! Brand, network, connection and compute tier.

use std::rc::Rc;

use cdi_node::view::{ComputeView, Connection};
use cdi_types::advert::Tier;
use yew::prelude::*;

use crate::theme;

/// Properties of [`Header`].
#[derive(PartialEq, Properties)]
pub struct HeaderProps {
    /// The link to the relay.
    pub connection: Connection,
    /// What computes, once measured.
    pub compute: Option<Rc<ComputeView>>,
}

/// The top line of the page.
#[component]
pub fn Header(props: &HeaderProps) -> Html {
    let (state, link, text, reason) = match &props.connection {
        Connection::Connecting => ("connecting", "", "Connecting…", None),
        Connection::Connected { link } => ("connected", link.as_str(), "Connected", None),
        Connection::Offline { reason } => ("offline", "", "Offline", Some(reason)),
    };
    let (tier, tier_text) = match props.compute.as_deref() {
        Some(ComputeView { tier: Tier::Gpu, .. }) => ("gpu", "GPU"),
        Some(ComputeView { tier: Tier::Cpu, .. }) => ("cpu", "CPU"),
        Some(ComputeView { tier: Tier::None, .. }) => ("none", "No compute"),
        None => ("none", "Measuring…"),
    };
    let measured = props.compute.as_ref().map(|c| c.reason.clone());
    html! {
        <header class="top">
            <h1 class="brand">
                <img src="icon.svg" alt="" width="28" height="28" />
                { "CDI" }
            </h1>
            <span class="badge badge-testnet" title="A test network: nothing on it is worth money">{ "TESTNET" }</span>
            <a class="pill jump" href="#swarm">{ "Host & swarm" }</a>
            <div class="top-status">
                <span class="pill" data-testid="connection" data-state={state} data-link={link.to_owned()} role="status">
                    <span class="dot" aria-hidden="true" />
                    <span>
                        { text }
                        if !link.is_empty() {
                            <span class="pill-detail">{ " · " }{ link }</span>
                        }
                    </span>
                </span>
                <span class="pill" data-testid="compute-tier" data-tier={tier} title={measured}>
                    <span class="visually-hidden">{ "Computes with: " }</span>
                    { tier_text }
                </span>
                <button type="button" class="pill" data-testid="theme" aria-label="Switch between dark and light"
                    onclick={Callback::from(|_: MouseEvent| theme::switch())}>
                    <span class="half" aria-hidden="true" />
                </button>
            </div>
            if let Some(reason) = reason {
                <p class="top-reason fine">{ "Offline: " }{ reason }</p>
            }
        </header>
    }
}
