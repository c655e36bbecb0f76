//! The platform in a dedicated worker: the same tests as in a window.
#![cfg(target_arch = "wasm32")]
#![allow(missing_docs, reason = "tests")]

mod everywhere;

cdi_platform::in_worker!();
