//! The API of a real relay, computed by a node that hosts the genesis model beside it.

#[path = "../../../node/tests/support/mod.rs"]
mod support;

mod answers;
mod client;
mod hostile;
mod keys;
mod observed;
mod refusals;
