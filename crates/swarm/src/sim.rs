//! A whole swarm in virtual time, from a seed: the production state machines of this crate, driven by a simulated network
//! and simulated tabs that join, leave, crash, are cut off, are slow, refuse and lie.
//!
//! Only what surrounds the machines is simulated: links ([`network`]), membership ([`members`]), stages and clients as
//! `cdi-node` wires them ([`serving`], [`asking`]), and a model of a few arithmetic steps ([`toy`]) whose text shows any
//! lost, doubled or wrong row. [`run`] checks, of the properties of the product:
//!
//! - **P4** nodes that heard the same adverts, in whatever order, know the same;
//! - **P6** once links are whole and nobody leaves, every question is answered;
//! - **P7** the text is the one that a single process computes, greedy or sampled, whoever was lost and whenever;
//! - **P8** what is over leaves nothing behind.
//!
//! Above 64 nodes, nodes share four registries instead of each having its own; that is the one thing that a large
//! simulation does not show.

mod asking;
mod members;
mod network;
mod report;
mod rng;
mod scenario;
mod serving;
mod toy;
mod world;

pub use report::{Report, Spread};
pub use scenario::{LogNormal, Scenario};
pub use world::run;
