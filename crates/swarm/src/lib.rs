//! The decisions of the swarm as pure state machines: who is there, who hosts what, which way a session
//! goes, and what happens when a node of it disappears.
//!
//! Nothing here reads a clock, draws a random number, spawns a task or waits: time comes in as `now_ms`
//! (monotonic milliseconds of the caller), messages come in as values, and what should happen next goes
//! out as values. The same machines run in a tab, in a native node and, thousands at a time, in tests.

pub mod client;
pub mod draft;
pub mod placement;
pub mod registry;
pub mod relocation;
pub mod route;
#[cfg(feature = "sim")]
pub mod sim;
pub mod stage;
