//! One attribute that runs an asynchronous test natively and in a browser.
//!
//! A crate that uses it has `tokio` (features `macros`, `rt`) among its native and `wasm-bindgen-test` among
//! its browser development dependencies, as the attributes name them.

#[cfg(not(target_arch = "wasm32"))]
pub use tokio::test as async_test;
#[cfg(target_arch = "wasm32")]
pub use wasm_bindgen_test::wasm_bindgen_test as async_test;

use crate::Place;

/// A lasting place that is empty: a new directory natively; in a browser, whose place is one, use names
/// that no other test uses.
#[must_use]
pub fn lasting_place() -> Place {
    let id = crate::random::id16().iter().fold(String::new(), |id, byte| id + &format!("{byte:02x}"));
    Place::disk(std::env::temp_dir().join(format!("cdi-test-{id}")))
}
