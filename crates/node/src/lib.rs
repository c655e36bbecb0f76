//! The engine of a node.
//!
//! Whoever drives a node (the page, a command line, a gateway) sends [`view::Command`]s and renders
//! [`view::Event`]s; nothing else crosses.

pub mod view;
