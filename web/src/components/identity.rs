//! Keys, and what this page stored.

use cdi_platform::secret::Protection;
use cdi_platform::storage;
use cdi_types::PeerId;
use wasm_bindgen_futures::spawn_local;
use yew::prelude::*;

use super::{Copy, Erase, Export, Import};
use crate::format;
use crate::messages as m;
use crate::profile::{AccountView, Profile};

/// Properties of [`Identity`].
#[derive(PartialEq, Properties)]
pub struct IdentityProps {
    /// Where the account is.
    pub profile: Profile,
    /// This node, once it has its identity.
    pub peer: Option<PeerId>,
    /// Whether the screen is shown: how much is stored is asked then.
    pub shown: bool,
}

/// The account of this browser, the node of this tab, the wallet's place, and erasing everything.
#[component]
pub fn Identity(props: &IdentityProps) -> Html {
    let account = use_state_eq(|| None::<Result<AccountView, String>>);
    let stored = use_state_eq(|| None::<storage::Estimate>);
    {
        let (account, profile) = (account.clone(), props.profile.clone());
        use_effect_with((), move |()| {
            spawn_local(async move {
                account.set(Some(profile.account().await.map_err(|error| error.to_string())));
            });
        });
        let stored = stored.clone();
        use_effect_with(props.shown, move |shown| {
            if *shown {
                spawn_local(async move { stored.set(storage::estimate().await) });
            }
        });
    }
    let imported = {
        let account = account.clone();
        Callback::from(move |view| account.set(Some(Ok(view))))
    };
    html! {
        <>
            <div class="screen-head">
                <h2>{ m::IDENTITY }</h2>
                <p class="lead">{ m::IDENTITY_LEAD }</p>
            </div>
            <div class="grid">
                <section class="card card-wide" aria-labelledby="account-title">
                    <h3 id="account-title">{ m::ACCOUNT }</h3>
                    <p>{ m::ACCOUNT_LEAD }</p>
                    { account_id(account.as_ref()) }
                    <div class="grid passphrases">
                        <Export profile={props.profile.clone()} />
                        <Import profile={props.profile.clone()} {imported} />
                    </div>
                </section>
                <section class="card" aria-labelledby="node-title">
                    <h3 id="node-title">{ m::NODE_OF_TAB }</h3>
                    <p>{ m::NODE_LEAD }</p>
                    { id(m::NODE_ID, "node-id", props.peer.map(PeerId::to_base58)) }
                </section>
                <section class="card" aria-labelledby="wallet-title">
                    <h3 id="wallet-title">{ m::WALLET }</h3>
                    <p>{ m::WALLET_NOT_YET }</p>
                </section>
                <section class="card card-wide" aria-labelledby="stored-title">
                    <h3 id="stored-title">{ m::STORED }</h3>
                    <p>
                        { m::STORED_LEAD }
                        if let Some(stored) = *stored {
                            { format!(" {} of {} in use.", format::bytes(stored.usage_bytes), format::bytes(stored.quota_bytes)) }
                        }
                    </p>
                    <Erase />
                </section>
            </div>
        </>
    }
}

fn account_id(account: Option<&Result<AccountView, String>>) -> Html {
    match account {
        Some(Err(error)) => html! { <p class="alert alert-error" role="alert">{ error }</p> },
        Some(Ok(account)) => {
            let kept = match account.protection {
                Protection::SealedByBrowser => m::SEALED,
                Protection::MemoryOnly => m::MEMORY_ONLY,
                Protection::OwnerOnlyFile => m::OWNER_ONLY,
            };
            html! {
                <>
                    { id(m::ACCOUNT_DID, "account", Some(account.did.clone())) }
                    <p class="fine">{ kept }</p>
                </>
            }
        }
        None => id(m::ACCOUNT_DID, "account", None),
    }
}

/// A long identifier with a button that copies it.
fn id(name: &'static str, testid: &'static str, value: Option<String>) -> Html {
    html! {
        <div class="id-row">
            <div class="id-text">
                <span class="fine">{ name }</span>
                <code dir="ltr" data-testid={testid}>{ value.clone().unwrap_or_else(|| m::DASH.to_owned()) }</code>
            </div>
            if let Some(value) = value {
                <Copy text={value} of={name} />
            }
        </div>
    }
}
