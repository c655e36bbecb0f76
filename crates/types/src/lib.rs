//! The vocabulary of the swarm: everything two nodes, or the two halves of one node, must agree on.
//!
//! This crate does no I/O, reads no clock and draws no randomness, so that every test of it is
//! deterministic and every consumer (page, worker, relay, command line) sees the same bytes.

pub mod advert;
pub mod block;
pub mod cbor;
pub mod channel;
pub mod envelope;
pub mod ice;
pub mod identity;
pub mod layers;
pub mod manifest;
pub mod network;
pub mod relay;
pub mod sampling;
pub mod session;

pub use block::Cid;
pub use identity::{Keypair, PeerId, PublicKey};
pub use layers::LayerRange;
pub use network::Network;
