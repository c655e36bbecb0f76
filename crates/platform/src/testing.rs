//! One attribute that runs an asynchronous test natively and in a browser.
//!
//! A crate that uses it has `tokio` (features `macros`, `rt`) among its native and `wasm-bindgen-test` among
//! its browser development dependencies, as the attributes name them.

#[cfg(not(target_arch = "wasm32"))]
pub use tokio::test as async_test;
#[cfg(target_arch = "wasm32")]
pub use wasm_bindgen_test::wasm_bindgen_test as async_test;

use std::path::PathBuf;

use crate::Place;

/// A place that lasts: a new directory natively, the one place of a browser. Use a [`fresh_name`] in it.
#[must_use]
pub fn lasting_place() -> Place {
    // `temp_dir` panics where there is no file system.
    let root = if cfg!(target_arch = "wasm32") { PathBuf::new() } else { std::env::temp_dir() };
    Place::disk(root.join(fresh_name()))
}

/// A name that nothing else has.
#[must_use]
pub fn fresh_name() -> String {
    crate::random::id16().iter().fold("test-".to_owned(), |name, byte| name + &format!("{byte:02x}"))
}

/// Makes the browser tests of a test binary run in a dedicated worker instead of a window.
#[macro_export]
macro_rules! in_worker {
    () => {
        #[cfg(target_arch = "wasm32")]
        wasm_bindgen_test::wasm_bindgen_test_configure!(run_in_dedicated_worker);
    };
}
