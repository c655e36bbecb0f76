//! Dark or light. Dark is the default; the choice is kept in the browser and `boot.js` applies it.

use wasm_bindgen::JsCast as _;
use web_sys::HtmlElement;

/// Where the choice is kept.
const KEY: &str = "cdi-theme";

/// Changes to the other theme and keeps the choice where storage is allowed.
pub fn switch() {
    let Some(window) = web_sys::window() else { return };
    let root = window.document().and_then(|d| d.document_element()).and_then(|e| e.dyn_into::<HtmlElement>().ok());
    let Some(themes) = root.map(|r| r.dataset()) else { return };
    let next = if themes.get("theme").as_deref() == Some("light") { "dark" } else { "light" };
    // Both fail only where the browser forbids them; then the theme lasts as long as the page.
    let _ = themes.set("theme", next);
    if let Ok(Some(storage)) = window.local_storage() {
        let _ = storage.set_item(KEY, next);
    }
}
