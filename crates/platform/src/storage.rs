//! How much room there is, and asking the browser to keep what is stored.

#[cfg(target_arch = "wasm32")]
#[path = "storage/browser.rs"]
mod imp;
#[cfg(not(target_arch = "wasm32"))]
#[path = "storage/native.rs"]
mod imp;

pub use imp::{estimate, persist};

/// Room for the data of this origin, in bytes. Browsers blur both figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Estimate {
    /// Used now.
    pub usage_bytes: u64,
    /// Most that may be used.
    pub quota_bytes: u64,
}
