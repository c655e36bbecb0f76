//! Figures as people read them.

use cdi_types::PeerId;

/// Bytes in decimal units, e.g. `3.6 MB`.
#[must_use]
#[allow(clippy::cast_precision_loss, reason = "shown with at most three digits")]
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["kB", "MB", "GB", "TB"];
    if count < 1_000 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1e3;
    let mut unit = 0;
    // 999.95 would round to four digits.
    while value >= 999.95 && unit + 1 < UNITS.len() {
        value /= 1e3;
        unit += 1;
    }
    let digits = usize::from(value < 99.95);
    format!("{value:.digits$} {}", UNITS[unit])
}

/// A speed, e.g. `1.2 MB/s`; nothing while nothing moves or the figure is not one.
#[must_use]
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "finite and positive; casts saturate")]
pub fn speed(bytes_per_s: f64) -> Option<String> {
    (bytes_per_s.is_finite() && bytes_per_s >= 1.0).then(|| format!("{}/s", bytes(bytes_per_s as u64)))
}

/// Arithmetic operations a second, from 10⁹ of them: `4.2 GFLOPS`, `1.31 TFLOPS`.
#[must_use]
pub fn flops(gflops: f64) -> String {
    if gflops < 1_000.0 { format!("{gflops:.1} GFLOPS") } else { format!("{:.2} TFLOPS", gflops / 1e3) }
}

/// Seconds in words for a wait, e.g. `4 min left`.
#[must_use]
pub fn time_left(seconds: f64) -> String {
    match seconds {
        s if s < 1.0 => "almost done".to_owned(),
        s if s < 90.0 => format!("{s:.0} s left"),
        s if s < 90.0 * 60.0 => format!("{:.0} min left", s / 60.0),
        s => format!("{:.0} h left", s / 3_600.0),
    }
}

/// A time that goes on, e.g. `42 s`, `3:07 min` or `2:15 h`.
#[must_use]
pub fn duration(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{}:{:02} min", seconds / 60, seconds % 60),
        _ => format!("{}:{:02} h", seconds / 3_600, seconds / 60 % 60),
    }
}

/// Milliseconds, e.g. `34 ms` or `1.20 s`.
#[must_use]
pub fn milliseconds(ms: f64) -> String {
    match ms {
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms => format!("{:.2} s", ms / 1e3),
    }
}

/// The end of a peer id, which is the part that differs: all Ed25519 ids begin with `12D3KooW`.
#[must_use]
pub fn short_peer(peer: &PeerId) -> String {
    const SHOWN: usize = 6;
    let id = peer.to_base58();
    format!("…{}", &id[id.len().saturating_sub(SHOWN)..])
}

/// `1 peer`, `2 peers`.
#[must_use]
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_have_at_most_three_digits_before_the_unit() {
        for (count, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1.0 kB"),
            (99_940, "99.9 kB"),
            (99_960, "100 kB"),
            (999_960, "1.0 MB"),
            (3_640_000, "3.6 MB"),
            (u64::MAX, "18446744 TB"),
        ] {
            assert_eq!(bytes(count), text);
        }
    }

    #[test]
    fn absurd_speeds_are_not_shown() {
        assert_eq!(speed(1_250_000.0).as_deref(), Some("1.2 MB/s"));
        for absurd in [0.0, -3.0, f64::NAN, f64::INFINITY] {
            assert_eq!(speed(absurd), None);
        }
    }

    #[test]
    fn waits_grow_in_units() {
        let texts = [0.2, 12.4, 90.0, 4_000.0, 90_000.0].map(time_left);
        assert_eq!(texts, ["almost done", "12 s left", "2 min left", "67 min left", "25 h left"]);
    }

    #[test]
    fn time_that_goes_on_has_two_units() {
        assert_eq!(
            [0, 59, 60, 187, 3_600, 8_100].map(duration),
            ["0 s", "59 s", "1:00 min", "3:07 min", "1:00 h", "2:15 h"]
        );
    }

    #[test]
    fn milliseconds_turn_into_seconds() {
        assert_eq!([3.21, 34.4, 1_204.0].map(milliseconds), ["3.2 ms", "34 ms", "1.20 s"]);
    }

    #[test]
    fn peers_are_told_apart_by_their_end() {
        let peer: PeerId = "12D3KooWD3eckifWpRn9wQpMG9R9hX3sD158z7EqHWmweQAJU5SA".parse().expect("a peer id");
        assert_eq!(short_peer(&peer), "…AJU5SA");
    }
}
