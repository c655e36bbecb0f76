//! The page of a node.
//!
//! [`state::State`] is a pure reduction of the node's [`Event`](cdi_node::view::Event)s and of what the
//! user did ([`state::Action`]); [`app::App`] feeds it and renders it with the [`components`]. The page
//! polls nothing and knows nothing of networks, models or GPUs.

pub mod app;
pub mod components;
pub mod crash;
pub mod format;
pub mod link;
pub mod markdown;
mod messages;
pub mod profile;
pub mod save;
pub mod start;
pub mod state;
pub mod theme;
