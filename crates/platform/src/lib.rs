//! The split between native processes and browser tabs.
//!
//! Everything else in the house is written once, against this crate, without `cfg`. A module holds what
//! is common; its `native` and `browser` files are twins with the same signatures. In the browser
//! everything works in a window and in a dedicated worker, unless the item says otherwise.
//!
//! Natively, whatever spawns, sleeps or does I/O needs a tokio runtime around it.

pub mod channel;
pub mod db;
pub mod http;
pub mod kv;
pub mod lock;
pub mod log;
pub mod place;
pub mod port;
pub mod random;
pub mod secret;
pub mod storage;
pub mod tab;
pub mod task;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;
pub mod visibility;

#[cfg(target_arch = "wasm32")]
mod js;

pub use place::Place;
