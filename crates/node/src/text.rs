//! The text half of a node: chat template and tokenizer live behind a message port, in a worker of the page or on a
//! thread of their own.
//!
//! Only a node that asks needs them, and they are large (regular expressions, Unicode tables, a template engine), so
//! they are a browser module of their own, which is fetched when the first question is begun. A host never fetches it.

pub mod protocol;

mod handle;
mod worker;

pub(crate) use handle::{Reader, Text};
pub use handle::{Start, TextError};
pub use worker::{run, start_thread};
