//! Brand, network, connection and compute tier.

use std::rc::Rc;

use cdi_node::view::{ComputeView, Connection};
use cdi_types::advert::Tier;
use yew::prelude::*;

use crate::messages as m;
use crate::theme;

/// Properties of [`Header`].
#[derive(PartialEq, Properties)]
pub struct HeaderProps {
    /// The link to the relay.
    pub connection: Connection,
    /// What computes, once measured.
    pub compute: Option<Rc<ComputeView>>,
}

/// The top of the page.
#[component]
pub fn Header(props: &HeaderProps) -> Html {
    let (state, link, text, reason) = match &props.connection {
        Connection::Connecting => ("connecting", "", m::CONNECTING, None),
        Connection::Connected { link } => ("connected", link.as_str(), m::CONNECTED, None),
        Connection::Offline { reason } => ("offline", "", m::OFFLINE, Some(reason)),
    };
    let (tier, tier_text) = match props.compute.as_deref() {
        Some(ComputeView { tier: Tier::Gpu, .. }) => ("gpu", m::TIER_GPU),
        Some(ComputeView { tier: Tier::Cpu, .. }) => ("cpu", m::TIER_CPU),
        Some(ComputeView { tier: Tier::None, .. }) => ("none", m::TIER_NONE),
        None => ("none", m::TIER_MEASURING),
    };
    let measured = props.compute.as_ref().map(|c| c.reason.clone());
    html! {
        <header class="top">
            <div class="top-brand">
                <h1 class="brand"><img src="icon.svg" alt="" width="28" height="28" />{ m::BRAND }</h1>
                <span class="badge badge-testnet" title={m::TESTNET_TITLE}>{ m::TESTNET }</span>
            </div>
            <div class="top-status">
                <span class="pill" data-testid="connection" data-state={state} data-link={link.to_owned()} role="status"
                    title={reason.cloned()}>
                    <span class="dot" aria-hidden="true" />
                    <span class="pill-text">
                        { text }
                        if !link.is_empty() {
                            <span class="pill-detail">{ " · " }{ link }</span>
                        }
                    </span>
                </span>
                <span class="pill" data-testid="compute-tier" data-tier={tier} title={measured}>
                    <span class="visually-hidden">{ m::COMPUTES_WITH }</span>
                    { tier_text }
                </span>
                <button type="button" class="pill" data-testid="theme" aria-label={m::SWITCH_THEME}
                    onclick={Callback::from(|_: MouseEvent| theme::switch())}>
                    <span class="half" aria-hidden="true" />
                </button>
            </div>
            if let Some(reason) = reason {
                <p class="top-reason fine">{ reason }</p>
            }
        </header>
    }
}
