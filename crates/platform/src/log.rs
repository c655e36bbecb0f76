//! Logs: one line an event, the same natively (standard error) and in a browser (the console):
//!
//! ```text
//! 2026-11-21T09:43:57.123Z [net] info: relay connected peer=12D3KooW… rtt_ms=12
//! timestamp                [label] level: message meta
//! ```
//!
//! The label is the crate of the event without `cdi_`. `meta` are the fields of the event, then those of
//! the spans around it, so that a span with the id of a request correlates all its lines. Values of fields
//! named in [`SECRET_FIELDS`] are never written.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Context, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;

use crate::time::unix_ms;

#[cfg(target_arch = "wasm32")]
#[path = "log/browser.rs"]
mod imp;
#[cfg(not(target_arch = "wasm32"))]
#[path = "log/native.rs"]
mod imp;

/// Names of fields whose values are replaced by `[redacted]`.
pub const SECRET_FIELDS: [&str; 7] = ["authorization", "key", "password", "prompt", "secret", "seed", "text"];

/// Longest line, in bytes; peers choose what some messages say.
const MAX_LINE_BYTES: usize = 4096;

static STARTED: AtomicBool = AtomicBool::new(false);

/// Starts logging, and reporting panics in a browser. Only the first call of a process or page counts.
///
/// `filter` is a level (`info`) or levels a target (`info,cdi_net=debug`). Natively the environment variable
/// `CDI_LOG` goes before it. What cannot be parsed counts as `info`.
pub fn init(filter: &str) {
    if STARTED.swap(true, Ordering::Relaxed) {
        return;
    }
    let wanted = imp::environment_filter().unwrap_or_else(|| filter.to_owned());
    let targets = wanted.parse().unwrap_or_else(|_| Targets::new().with_default(LevelFilter::INFO));
    let subscriber = tracing_subscriber::registry().with(Lines.with_filter(targets));
    // Fails only when a test harness has set a subscriber of its own, which then is the wanted one.
    let _already_set = tracing::subscriber::set_global_default(subscriber);
    imp::report_panics();
}

/// The layer that turns events into lines.
struct Lines;

/// The fields of a span, ready to be appended to a line.
struct SpanFields(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Lines {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(SpanFields(fields.meta));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        values.record(&mut fields);
        if let Some(span) = context.span(id)
            && let Some(SpanFields(meta)) = span.extensions_mut().get_mut()
        {
            meta.push_str(&fields.meta);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        for span in context.event_scope(event).into_iter().flatten() {
            if let Some(SpanFields(meta)) = span.extensions().get() {
                fields.meta.push_str(meta);
            }
        }
        let level = *event.metadata().level();
        imp::write(level, &line(unix_ms(), event.metadata().target(), level, &fields));
    }
}

/// Message and fields of an event or span.
#[derive(Default)]
struct Fields {
    message: String,
    /// ` name=value` for each field.
    meta: String,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field.name(), &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(field.name(), &format_args!("{value:?}"));
    }
}

impl Fields {
    fn add(&mut self, name: &str, value: &dyn std::fmt::Display) {
        // Writing to a string cannot fail.
        let _infallible = if name == "message" {
            write!(self.message, "{value}")
        } else if SECRET_FIELDS.contains(&name) {
            write!(self.meta, " {name}=[redacted]")
        } else {
            write!(self.meta, " {name}={value}")
        };
    }
}

fn line(unix_ms: u64, target: &str, level: Level, fields: &Fields) -> String {
    let krate = target.split("::").next().unwrap_or(target);
    let label = krate.strip_prefix("cdi_").unwrap_or(krate);
    let level = match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        _ => "debug",
    };
    let mut line = format!("{} [{label}] {level}: {}{}", timestamp(unix_ms), fields.message, fields.meta);
    // One event, one line, and no control character that would move a terminal's cursor.
    if line.contains(char::is_control) {
        line = line.replace(char::is_control, " ");
    }
    if line.len() > MAX_LINE_BYTES {
        line.truncate(line.floor_char_boundary(MAX_LINE_BYTES));
        line.push('…');
    }
    line
}

/// ISO 8601 in UTC with milliseconds.
///
/// The date is the "civil from days" algorithm, <https://howardhinnant.github.io/date_algorithms.html>.
fn timestamp(unix_ms: u64) -> String {
    let (days, ms) = (unix_ms / 86_400_000, unix_ms % 86_400_000);
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second, milli) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60, ms % 1_000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `date -u -d @951827696 +%FT%TZ` and so on.
    #[test]
    fn timestamps_are_iso_8601() {
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000Z");
        assert_eq!(timestamp(951_827_696_007), "2000-02-29T12:34:56.007Z");
        assert_eq!(timestamp(1_795_254_237_123), "2026-11-21T09:43:57.123Z");
        assert_eq!(timestamp(4_107_542_399_999), "2100-02-28T23:59:59.999Z");
        assert_eq!(timestamp(4_107_542_400_000), "2100-03-01T00:00:00.000Z");
    }

    #[test]
    fn a_line_has_the_documented_form_and_no_secrets() {
        let mut fields = Fields::default();
        fields.add("message", &"relay connected");
        fields.add("rtt_ms", &12);
        fields.add("seed", &"do not print");
        fields.add("agent", &"two\nlines\u{1b}[2J");
        assert_eq!(
            line(0, "cdi_net::swarm", Level::INFO, &fields),
            "1970-01-01T00:00:00.000Z [net] info: relay connected rtt_ms=12 seed=[redacted] agent=two lines [2J"
        );
    }

    #[test]
    fn long_lines_are_cut_at_a_character() {
        let fields = Fields { message: "ä".repeat(MAX_LINE_BYTES), meta: String::new() };
        let line = line(0, "x", Level::TRACE, &fields);
        assert!(line.len() <= MAX_LINE_BYTES + '…'.len_utf8() && line.ends_with("ä…"), "{}", line.len());
    }
}
