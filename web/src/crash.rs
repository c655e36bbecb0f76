//! After a panic the program is dead. The loader (`boot.js`) says so in the user's words; this tells it.

use std::panic::PanicHookInfo;

use wasm_bindgen::JsValue;
use web_sys::{CustomEvent, CustomEventInit};

/// DOM event on the window; its `detail` is the panic's text.
const EVENT: &str = "cdi-crash";

/// Makes panics visible to the user. Call it before anything else.
pub fn install_hook() {
    yew::set_custom_panic_hook(Box::new(report));
}

fn report(info: &PanicHookInfo<'_>) {
    let init = CustomEventInit::new();
    init.set_detail(&JsValue::from_str(&info.to_string()));
    // Nothing can be done about an error in here: the program has already failed.
    if let (Some(window), Ok(event)) = (web_sys::window(), CustomEvent::new_with_event_init_dict(EVENT, &init)) {
        let _ = window.dispatch_event(&event);
    }
}
