//! A tab has a slot in its session storage.

use std::cell::RefCell;
use std::fmt::Write as _;

use wasm_bindgen::JsValue;

use crate::js;

const ITEM: &str = "cdi-slot";
/// Characters of a slot: 16 bytes in hexadecimal.
const SLOT_LENGTH: usize = 32;

thread_local! {
    /// The slot where there is no session storage: in a worker, or when it is forbidden.
    static SLOT: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Name of the slot that this tab keeps its own data under. It survives reloads of the tab. Natively always
/// the same: use different directories for different nodes.
///
/// A duplicated tab starts with the slot of its original: take a [`crate::lock`] on it, and [`renew`] if it
/// is taken.
#[must_use]
pub fn slot() -> String {
    let valid = |slot: &String| slot.len() == SLOT_LENGTH && slot.bytes().all(|byte| byte.is_ascii_hexdigit());
    SLOT.with_borrow(Clone::clone).or_else(stored).filter(valid).unwrap_or_else(fresh)
}

/// Gives this tab a fresh slot; nothing natively.
#[must_use]
pub fn renew() -> Option<String> {
    Some(fresh())
}

fn stored() -> Option<String> {
    recall(ITEM)
}

/// What [`remember`] kept under `name`, across reloads of this tab; nothing natively.
#[must_use]
pub fn recall(name: &str) -> Option<String> {
    js::call(&js::global("sessionStorage")?, "getItem", &[name.into()]).ok()?.as_string()
}

/// Keeps `value` for as long as this tab lives; not natively. A duplicated tab starts with a copy.
pub fn remember(name: &str, value: &str) {
    let storage = js::global("sessionStorage").unwrap_or(JsValue::UNDEFINED);
    // Where it is forbidden the next page starts without it.
    let _forbidden = js::call(&storage, "setItem", &[name.into(), value.into()]);
}

fn fresh() -> String {
    let slot = crate::random::id16().iter().fold(String::new(), |mut slot, byte| {
        // Writing to a string cannot fail.
        let _infallible = write!(slot, "{byte:02x}");
        slot
    });
    remember(ITEM, &slot);
    SLOT.set(Some(slot.clone()));
    slot
}
