//! What tells two tabs of one browser profile apart.

#[cfg(target_arch = "wasm32")]
#[path = "tab/browser.rs"]
mod imp;
#[cfg(not(target_arch = "wasm32"))]
#[path = "tab/native.rs"]
mod imp;

pub use imp::{recall, remember, renew, slot};
