//! What became of what arrived, counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one transport, shared by its listeners.
#[derive(Debug, Clone, Default)]
pub struct Counters(Arc<Cells>);

macro_rules! figures {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        #[derive(Debug, Default)]
        struct Cells { $($name: AtomicU64,)* }

        /// The counters at one moment; each only grows.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
        pub struct Figures { $($(#[$doc])* pub $name: u64,)* }

        impl Counters {
            /// All counters at present.
            #[must_use]
            pub fn figures(&self) -> Figures {
                Figures { $($name: self.0.$name.load(Ordering::Relaxed),)* }
            }

            $(pub(super) fn $name(&self) { self.0.$name.fetch_add(1, Ordering::Relaxed); })*
        }
    };
}

figures! {
    /// Datagrams that belong to no connection and ask for none.
    stray,
    /// Datagrams that came faster than their connection took them. Their sender repeats what was in them.
    overrun,
    /// Connections refused because their address asked for too many at once.
    refused_rate,
    /// Connections refused because there were too many, in all or from their address.
    refused_busy,
    /// Handshakes that failed or took too long.
    failed,
    /// Connections authenticated.
    accepted,
    /// Streams that a peer opened above its limit.
    refused_streams,
    /// Times that a connection was held up because its streams were not read.
    paused,
}
