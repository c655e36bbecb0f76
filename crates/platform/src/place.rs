//! Where a node keeps its data.

use std::path::{Path, PathBuf};

/// Where a node keeps its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place(Kind);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Gone with the process. With the most bytes that one database may hold, if bounded.
    Memory(Option<u64>),
    /// Natively this directory; in a browser the storage of the page's origin, whatever the path.
    Disk(PathBuf),
}

impl Place {
    /// Natively the directory `path`, created when needed. A browser has one place, the storage of the
    /// page's origin, and ignores the path.
    #[must_use]
    pub fn disk(path: impl AsRef<Path>) -> Self {
        Self(Kind::Disk(path.as_ref().to_owned()))
    }

    /// Memory: every database opened here is empty, and gone when its last handle is dropped.
    #[must_use]
    pub const fn memory() -> Self {
        Self(Kind::Memory(None))
    }

    /// Memory in which a database reports a full disk above `quota_bytes`.
    #[must_use]
    pub const fn memory_of(quota_bytes: u64) -> Self {
        Self(Kind::Memory(Some(quota_bytes)))
    }

    /// Whether data outlives the process or page.
    #[must_use]
    pub const fn is_lasting(&self) -> bool {
        matches!(self.0, Kind::Disk(_))
    }

    pub(crate) const fn kind(&self) -> &Kind {
        &self.0
    }
}
