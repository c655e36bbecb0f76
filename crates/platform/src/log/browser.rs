//! Browser logs: the console.

use tracing::Level;
use web_sys::console;

pub(super) const fn environment_filter() -> Option<String> {
    None
}

pub(super) fn write(level: Level, line: &str) {
    let line = line.into();
    match level {
        Level::ERROR => console::error_1(&line),
        Level::WARN => console::warn_1(&line),
        Level::INFO => console::info_1(&line),
        _ => console::debug_1(&line),
    }
}

/// Without this a panic says only `unreachable`.
pub(super) fn report_panics() {
    let previous = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        console::error_1(&panic.to_string().into());
        previous(panic);
    }));
}
