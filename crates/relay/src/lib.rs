//! The relay: introduces tabs to each other, serves them the page and the blocks of the genesis model.
//!
//! One port does all of it. A browser loads the page from `/`, asks `/relay.json` whom to dial, and opens a
//! libp2p connection as a WebSocket at `/` again. [`Relay::start`] runs a relay inside any tokio program;
//! the `cdi-relay` binary adds a command line.

mod accept;
mod address;
mod admission;
mod api;
mod certificate;
mod config;
mod connections;
mod dht;
mod genesis;
mod health;
mod http;
mod ice;
mod identity;
mod ipfs;
pub mod limits;
mod line;
mod metrics;
mod origin;
mod pace;
mod page;
mod policy;
mod relay;
mod stop;
mod stun;
mod swarm;
mod tls;
mod webrtc;
mod websocket;

pub use api::ApiAccess;
pub use config::{Config, StunListen, WebRtcListen};
pub use ice::Turn;
pub use relay::{Relay, RelayError, RelayHandle};
pub use tls::{TlsError, TlsSource};
