//! What a model is, independent of what computes it: files, tokenizer, chat template, sampler, and the
//! architectures as graphs over the [`Compute`](compute::Compute) trait.
//!
//! This crate reads no clock, draws no randomness and touches no file or network: bytes come in
//! through traits, so that the same code runs in a tab, in a native node and in a test.

pub mod compute;
