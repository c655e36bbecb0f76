//! Native logs: standard error.

use std::io::Write as _;

use tracing::Level;

pub(super) fn environment_filter() -> Option<String> {
    std::env::var("CDI_LOG").ok()
}

pub(super) fn write(_level: Level, line: &str) {
    // Nobody is left to be told when standard error is closed.
    let _closed = writeln!(std::io::stderr().lock(), "{line}");
}

/// A panic is written to standard error by the standard library.
pub(super) const fn report_panics() {}
