//! The table that a run prints.

use crate::measure::{Echo, Figures};

/// One row a link and code. Ratios are ours in parts of the row's: above 1 is better than the row for throughput.
pub fn print(all: &[Figures]) {
    println!("\n   echo: milliseconds, p50 (p99); throughput: MiB/s in each direction");
    println!(
        "   {:<8} {:<11} {:>10}  {:>15} {:>15} {:>15}  {:>8} {:>9}  {:>7}",
        "link", "by", "connect ms", "echo 32 B", "echo 4 KiB", "echo 64 KiB", "one way", "both ways", "ours x"
    );
    for row in all {
        let ours = all.iter().find(|other| other.link == row.link && other.by == "cdi");
        let ratio = ours.map_or_else(|| "-".to_owned(), |ours| format!("{:.2}", ours.one_way / row.one_way));
        let echo = |Echo { p50, p99 }: Echo| format!("{p50:.2} ({p99:.2})");
        let [small, middle, large] = row.echo.map(echo);
        println!(
            "   {:<8} {:<11} {:>10.0}  {small:>15} {middle:>15} {large:>15}  {:>8.1} {:>9.1}  {ratio:>7}",
            row.link, row.by, row.connect_ms, row.one_way, row.both_ways,
        );
    }
}
