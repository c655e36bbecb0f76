//! A process and its data directory have one slot.

/// Name of the slot that this tab keeps its own data under. It survives reloads of the tab. Natively always
/// the same: use different directories for different nodes.
///
/// A duplicated tab starts with the slot of its original: take a [`crate::lock`] on it, and [`renew`] if it
/// is taken.
#[must_use]
pub fn slot() -> String {
    "node".to_owned()
}

/// What [`remember`] kept under `name`, across reloads of this tab; nothing natively.
#[must_use]
pub const fn recall(_name: &str) -> Option<String> {
    None
}

/// Keeps `value` for as long as this tab lives; not natively.
pub const fn remember(_name: &str, _value: &str) {}

/// Gives this tab a fresh slot; nothing natively.
#[must_use]
pub const fn renew() -> Option<String> {
    None
}
