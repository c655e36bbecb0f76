//! The engine of a node.
//!
//! Whoever drives a node (the page, a command line, a gateway) sends [`view::Command`]s and renders
//! [`view::Event`]s; nothing else crosses. Inside, the network ([`cdi_net`]), the pure decisions
//! ([`cdi_swarm`]), the compute half ([`compute`]) and, once there is a question, the text half ([`text`]) are wired
//! together by a few tasks:
//!
//! | task | file | does |
//! |---|---|---|
//! | engine | `engine.rs` | commands, network events, heartbeat |
//! | answer | `answer.rs` | one question: plans, opens stages, feeds tokens, replaces what is lost |
//! | stage | `serve.rs` | the links of one stage of a session, for anybody |
//! | worker path | `worker_path.rs` | channels on which rows go from compute half to compute half |
//! | host | `host.rs` | fetching, testing and offering layers |
//! | move | `relocate.rs` | giving up layers that others hold for ones that nobody holds |

pub mod compute;
pub mod text;
pub mod view;

mod announce;
mod answer;
mod call;
mod coverage;
mod engine;
mod guests;
mod handle;
mod host;
mod lane;
mod network;
mod planner;
mod relocate;
mod serve;
mod shared;
mod uplink;
mod wire;
mod worker_path;

pub use engine::{NodeArgs, start};
pub use handle::{Answering, Handle};
pub use network::network_of;
