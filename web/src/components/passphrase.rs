//! Export and import of the account.

use std::future::Future;

use cdi_store::account::{AccountError, MAX_EXPORT_BYTES, MIN_PASSPHRASE_CHARS};
use wasm_bindgen::JsCast as _;
use wasm_bindgen_futures::{JsFuture, spawn_local};
use web_sys::{File, HtmlInputElement};
use yew::prelude::*;

use crate::messages as m;
use crate::profile::{AccountView, Profile};
use crate::save;

/// Properties of [`Export`].
#[derive(PartialEq, Properties)]
pub struct ExportProps {
    /// Where the account is.
    pub profile: Profile,
}

/// Properties of [`Import`].
#[derive(PartialEq, Properties)]
pub struct ImportProps {
    /// Where the account will be.
    pub profile: Profile,
    /// Told of it.
    pub imported: Callback<AccountView>,
}

/// What a form says below its button: what it did, or why not.
type Said = UseStateHandle<Option<Result<&'static str, String>>>;

/// Saves a file that holds the account, sealed with a passphrase that is asked twice.
#[component]
pub fn Export(props: &ExportProps) -> Html {
    let (first, second) = (use_node_ref(), use_node_ref());
    let said: Said = use_state_eq(|| None);
    let onsubmit = {
        let (profile, first, second, said) = (props.profile.clone(), first.clone(), second.clone(), said.clone());
        Callback::from(move |event: SubmitEvent| {
            event.prevent_default();
            let (passphrase, again) = (value(&first), value(&second));
            if passphrase.chars().count() < MIN_PASSPHRASE_CHARS {
                return said.set(Some(Err(m::PASSPHRASE_SHORT.to_owned())));
            }
            if passphrase != again {
                return said.set(Some(Err(m::PASSPHRASE_DIFFERS.to_owned())));
            }
            let (profile, first, second) = (profile.clone(), first.clone(), second.clone());
            work(&said, async move {
                let text = profile.export(&passphrase).await?;
                save::file("cdi-account.json", "application/json", &text);
                clear(&first);
                clear(&second);
                Ok(m::EXPORTED)
            });
        })
    };
    html! {
        <form class="passphrase" {onsubmit}>
            <h4>{ m::EXPORT }</h4>
            <p class="fine">{ m::EXPORT_HELP }</p>
            { password(m::PASSPHRASE, "export-passphrase", "new-password", &first) }
            { password(m::PASSPHRASE_AGAIN, "export-again", "new-password", &second) }
            <button type="submit" class="button" data-testid="export">{ m::SAVE_FILE }</button>
            { answer(&said) }
        </form>
    }
}

/// Replaces the account by that of a file.
#[component]
pub fn Import(props: &ImportProps) -> Html {
    let (file, passphrase) = (use_node_ref(), use_node_ref());
    let said: Said = use_state_eq(|| None);
    let onsubmit = {
        let (profile, imported) = (props.profile.clone(), props.imported.clone());
        let (file, passphrase, said) = (file.clone(), passphrase.clone(), said.clone());
        Callback::from(move |event: SubmitEvent| {
            event.prevent_default();
            let chosen = file.cast::<HtmlInputElement>().and_then(|field| field.files()?.get(0));
            let Some(chosen) = chosen else { return said.set(Some(Err(m::CHOOSE_FILE.to_owned()))) };
            let (profile, imported, passphrase) = (profile.clone(), imported.clone(), passphrase.clone());
            work(&said, async move {
                let text = read(&chosen).await.ok_or(AccountError::NotAnExport)?;
                imported.emit(profile.import(&text, &value(&passphrase)).await?);
                clear(&passphrase);
                Ok(m::IMPORTED)
            });
        })
    };
    html! {
        <form class="passphrase" {onsubmit}>
            <h4>{ m::IMPORT }</h4>
            <p class="fine">{ m::IMPORT_HELP }</p>
            <label class="field">
                <span>{ m::FILE }</span>
                <input ref={file} type="file" accept="application/json,.json" data-testid="import-file" />
            </label>
            { password(m::PASSPHRASE, "import-passphrase", "current-password", &passphrase) }
            <button type="submit" class="button" data-testid="import">{ m::IMPORT }</button>
            { answer(&said) }
        </form>
    }
}

/// Does it after the next drawing: deriving a key keeps the page busy for a moment, and it should say so first.
fn work(said: &Said, job: impl Future<Output = Result<&'static str, AccountError>> + 'static) {
    said.set(Some(Ok(m::WORKING)));
    let said = said.clone();
    spawn_local(async move {
        cdi_platform::time::sleep(std::time::Duration::from_millis(30)).await;
        said.set(Some(job.await.map_err(|error| error.to_string())));
    });
}

/// The file's text, unless it is too long for an account.
async fn read(file: &File) -> Option<String> {
    #[allow(clippy::cast_precision_loss, reason = "a small limit")]
    if file.size() > MAX_EXPORT_BYTES as f64 {
        return None;
    }
    let text = JsFuture::from(file.unchecked_ref::<web_sys::Blob>().text()).await;
    text.ok()?.as_string()
}

fn value(field: &NodeRef) -> String {
    field.cast::<HtmlInputElement>().map(|field| field.value()).unwrap_or_default()
}

fn clear(field: &NodeRef) {
    if let Some(field) = field.cast::<HtmlInputElement>() {
        field.set_value("");
    }
}

fn password(label: &'static str, testid: &'static str, autocomplete: &'static str, node: &NodeRef) -> Html {
    html! {
        <label class="field">
            <span>{ label }</span>
            <input ref={node.clone()} type="password" data-testid={testid} {autocomplete} />
        </label>
    }
}

fn answer(said: &Said) -> Html {
    let (state, text) = match &**said {
        None => ("", ""),
        Some(Ok(text)) => ("done", *text),
        Some(Err(text)) => ("failed", text.as_str()),
    };
    html! { <p class="fine said" role="status" data-state={state}>{ text.to_owned() }</p> }
}
