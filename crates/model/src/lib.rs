//! What a model is, independent of what computes it: files, tokenizer, chat template, sampler, and the
//! architectures as graphs over the [`Compute`](compute::Compute) trait.
//!
//! This crate reads no clock, draws no randomness and touches no file or network: bytes come in
//! through traits, so that the same code runs in a tab, in a native node and in a test.
//!
//! From file to answer: [`import`] turns a Hugging Face folder or a GGUF file into a manifest and its blocks;
//! [`plan`] lists the blocks that a range of layers needs; [`builder`] loads them into a back end;
//! [`llama`] runs them; [`tokenizer`], [`chat`] and [`sampler`] stand on either side.

pub mod builder;
pub mod chat;
pub mod compute;
pub mod config;
#[cfg(feature = "fixtures")]
pub mod fixture;
pub mod gguf;
pub mod import;
pub mod links;
pub mod llama;
pub mod plan;
pub mod quant;
pub mod range_read;
pub mod safetensors;
pub mod sampler;
pub mod tensor_info;
pub mod tensors;
pub mod tokenizer;
