//! What a node keeps, and how it gets what it lacks.
//!
//! - [`account`]: the key of this user, and its export;
//! - [`blocks`]: content-addressed blocks, verified on the way in and out, bounded, with pins;
//! - [`fetch`]: missing blocks from several sources that need not be trusted;
//! - [`identity`]: the key of this node or tab.
//!
//! All of it stands on [`cdi_platform::db`], whose back ends (memory, files, IndexedDB) behave alike.

pub mod account;
pub mod blocks;
pub mod fetch;
pub mod identity;

pub use blocks::{BlockStore, StoreError};
