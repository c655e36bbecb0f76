//! What the end-to-end tests share: a [`Relay`] process, a [`Browser`], its [`Tab`]s, and the answers that the model
//! must give. Everything runs on this machine: nothing beyond loopback is spoken to.
//!
//! Waiting is event-driven: a tab reports the moment at which its document reaches a state, and a deadline turns a
//! hang into an error that says what the page showed instead.

#[cfg(feature = "browser")]
mod browser;
#[cfg(feature = "browser")]
pub mod chat;
#[cfg(feature = "browser")]
mod clients;
#[cfg(feature = "browser")]
mod driver;
#[cfg(feature = "browser")]
mod firefox;
#[cfg(feature = "browser")]
mod foreign;
#[cfg(feature = "browser")]
mod reference;
#[cfg(feature = "browser")]
mod relay;
#[cfg(feature = "browser")]
mod renderer;
#[cfg(feature = "browser")]
mod script;
#[cfg(feature = "browser")]
mod site;
#[cfg(feature = "peer")]
pub mod streams;
#[cfg(feature = "browser")]
mod tab;
#[cfg(feature = "peer")]
pub mod worker_path;

#[cfg(feature = "browser")]
pub use self::{
    browser::Browser,
    clients::Clients,
    firefox::{Firefox, FirefoxTab},
    foreign::{NodePeer, Peer, PeerTab},
    reference::{Reference, references},
    relay::Relay,
    site::Site,
    tab::{Tab, Within},
};
