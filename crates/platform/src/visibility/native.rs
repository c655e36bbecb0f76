//! A native process is always visible.

use futures::StreamExt as _;

use super::Lifecycle;
use crate::task::BoxStream;

/// Whether the page is in the background. Never, natively and in workers.
#[must_use]
pub const fn is_hidden() -> bool {
    false
}

/// Whether the system has a network, as far as it says.
#[must_use]
pub const fn is_online() -> bool {
    true
}

pub(super) fn lifecycle() -> BoxStream<'static, Lifecycle> {
    futures::stream::pending().boxed()
}
