//! The platform natively, and in a browser's window.
#![allow(missing_docs, reason = "tests")]

mod everywhere;
