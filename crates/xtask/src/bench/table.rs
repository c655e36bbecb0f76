//! The table that a run prints.

use super::measurement::Measurement;

/// One block a model, best decode first. The last column holds ours: its decode in a browser on one thread, in parts of
/// that of the row.
pub fn print(all: &[Measurement]) {
    let mut models: Vec<&str> = Vec::new();
    for measurement in all {
        if !models.contains(&measurement.model.as_str()) {
            models.push(&measurement.model);
        }
    }
    for model in models {
        let mut rows: Vec<&Measurement> = all.iter().filter(|m| m.model == model).collect();
        rows.sort_by(|a, b| b.decode.total_cmp(&a.decode));
        println!("\n   {model}, tokens a second: median (least - most)");
        println!(
            "   {:<17} {:<9} {:<12} {:>2}  {:>25}  {:>25}  {:>8}  {:>8}  {:>6}",
            "engine", "where", "variant", "th", "prefill", "decode", "load ms", "peak MB", "ours x"
        );
        let ours = ours(&rows).map(|m| m.decode);
        for row in &rows {
            println!("{}", line(row, ours));
        }
    }
}

/// Our fastest decode in a browser on one thread.
pub fn ours<'a>(rows: &[&'a Measurement]) -> Option<&'a Measurement> {
    let ours = rows.iter().copied().filter(|m| m.peer == "cdi" && m.place == "chromium" && m.threads == 1);
    ours.max_by(|a, b| a.decode.total_cmp(&b.decode))
}

fn line(row: &Measurement, ours: Option<f64>) -> String {
    let speed = |median: f64, [low, high]: [f64; 2]| format!("{median:.1} ({low:.1} - {high:.1})");
    let whole = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.0}"));
    let ratio = ours.map_or_else(|| "-".to_owned(), |ours| format!("{:.2}", ours / row.decode));
    format!(
        "   {:<17} {:<9} {:<12} {:>2}  {:>25}  {:>25}  {:>8}  {:>8}  {:>6}",
        row.peer,
        row.place,
        row.variant,
        row.threads,
        speed(row.prefill, row.prefill_spread),
        speed(row.decode, row.decode_spread),
        whole(row.load_ms),
        whole(row.peak_mb),
        ratio
    )
}
