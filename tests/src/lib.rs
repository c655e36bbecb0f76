//! What the end-to-end tests share: a [`Relay`] process, a [`Browser`], its [`Tab`]s, and the answers that the model
//! must give. Everything runs on this machine: nothing beyond loopback is spoken to.
//!
//! Waiting is event-driven: a tab reports the moment at which its document reaches a state, and a deadline turns a
//! hang into an error that says what the page showed instead.
#![cfg(feature = "browser")]

mod browser;
mod driver;
mod reference;
mod relay;
mod renderer;
mod tab;

pub use browser::Browser;
pub use reference::{Reference, references};
pub use relay::Relay;
pub use tab::{Tab, Within};
