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

/// Gives this tab a fresh slot; nothing natively.
#[must_use]
pub const fn renew() -> Option<String> {
    None
}
