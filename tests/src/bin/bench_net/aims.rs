//! What is aimed at. Machines differ, so every aim is a ratio within one run.

use std::fmt;

use serde::Serialize;

use crate::measure::Figures;

/// An aim and how it stands.
#[derive(Debug, Serialize)]
pub struct Verdict {
    what: &'static str,
    /// The least that is aimed at.
    aim: f64,
    /// Nothing where one side was not measured.
    found: Option<f64>,
}

impl Verdict {
    /// Whether it was measured and reached.
    pub fn is_reached(&self) -> bool {
        self.found.is_some_and(|found| found >= self.aim)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, aim, found } = self;
        match found {
            Some(found) if self.is_reached() => write!(f, "reached: {what}: {found:.2}, aim {aim:.2}"),
            Some(found) => write!(f, "MISSED: {what}: {found:.2}, aim {aim:.2}"),
            None => write!(f, "MISSED: {what}: not measured"),
        }
    }
}

/// Judges the aims for direct links.
pub fn judge(all: &[Figures]) -> Vec<Verdict> {
    let of =
        |by: &str, figure: fn(&Figures) -> f64| all.iter().find(|row| row.link == "direct" && row.by == by).map(figure);
    let speed = |by| Some(of("cdi", |row| row.one_way)? / of(by, |row| row.one_way)?);
    let worker = || Some(of("cdi worker", |row| row.one_way)? / of("raw 64 KiB", |row| row.one_way)?);
    // The other way round, so that more is better here too.
    let quickness = || Some(of("raw 16 KiB", |row| row.echo[1].p50)? / of("cdi", |row| row.echo[1].p50)?);
    vec![
        Verdict { what: "throughput of a bare channel with 16 KiB messages", aim: 0.9, found: speed("raw 16 KiB") },
        Verdict { what: "throughput of a bare channel at its best", aim: 0.8, found: speed("raw 64 KiB") },
        Verdict { what: "worker path: throughput of a bare channel with such messages", aim: 0.9, found: worker() },
        Verdict { what: "throughput of js-libp2p", aim: 2.0, found: speed("js-libp2p") },
        Verdict { what: "quickness of a bare channel's echo of 4 KiB", aim: 1.0 / 1.3, found: quickness() },
    ]
}
