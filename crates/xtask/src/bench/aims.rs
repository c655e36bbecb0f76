//! What is aimed at, and what of it a run shows. Machines differ, so every aim is a ratio within one run.

use super::measurement::Measurement;

/// Speeds of a shape in parts of a peer's.
struct Aim {
    shape: &'static str,
    /// Decode, of candle's best on the shape.
    decode_of_candle: f64,
    /// Decode, of native llama.cpp's on the same file.
    decode_of_llama_cpp: f64,
    /// Prefill, of candle's best on the shape.
    prefill_of_candle: f64,
}

/// What our worker may take above the weights, in 10^6 bytes.
const MEMORY_ABOVE_WEIGHTS: f64 = 150.0;

const AIMS: &[Aim] = &[
    Aim { shape: "smol135", decode_of_candle: 2.4, decode_of_llama_cpp: 0.9, prefill_of_candle: 4.0 },
    Aim { shape: "tinyllama", decode_of_candle: 2.4, decode_of_llama_cpp: 0.68, prefill_of_candle: 3.7 },
];
/// The type of weights that the aims are stated for.
const TYPE: &str = "q4_0";
/// In a browser, of the best peer at the same bits a weight.
const OF_BEST_PEER: f64 = 1.3;
/// Natively, decode of llama.cpp's.
const NATIVE_OF_LLAMA_CPP: f64 = 0.6;

/// An aim and how it stands.
#[derive(Debug, PartialEq)]
pub struct Verdict {
    /// What is compared.
    pub what: String,
    /// The ratio aimed at.
    pub aim: f64,
    /// The ratio found; nothing where one side was not measured.
    pub found: Option<f64>,
}

impl Verdict {
    /// Whether it was measured and reached.
    pub fn is_reached(&self) -> bool {
        self.found.is_some_and(|found| found >= self.aim)
    }
}

type Speed = fn(&Measurement) -> f64;
const DECODE: Speed = |m| m.decode;
const PREFILL: Speed = |m| m.prefill;

/// Judges the aims for every shape and file that was measured with our engine.
pub fn judge(all: &[Measurement]) -> Vec<Verdict> {
    let best = |speed: Speed, keep: &dyn Fn(&Measurement) -> bool| {
        all.iter().filter(|m| keep(m)).map(speed).max_by(f64::total_cmp)
    };
    let ours_on = |speed: Speed, model: &str| {
        best(speed, &|m| m.peer == "cdi" && m.place == "chromium" && m.threads == 1 && m.model == model)
    };
    let mut verdicts = Vec::new();
    let mut add = |what: String, aim: f64, ours: Option<f64>, theirs: Option<f64>| {
        verdicts.push(Verdict { what, aim, found: ours.zip(theirs).map(|(ours, theirs)| ours / theirs) });
    };
    for Aim { shape, decode_of_candle, decode_of_llama_cpp, prefill_of_candle } in AIMS {
        let model = format!("{shape}-{TYPE}");
        if !all.iter().any(|m| m.model == model && m.peer == "cdi") {
            continue;
        }
        let candle = |speed| best(speed, &|m| m.peer == "candle wasm" && m.model.starts_with(shape));
        let llama_cpp = best(DECODE, &|m| m.peer == "llama.cpp native" && m.threads == 1 && m.model == model);
        let what = |speed: &str, peer: &str| format!("{model}: {speed} of {peer}, one thread");
        add(what("decode", "candle wasm"), *decode_of_candle, ours_on(DECODE, &model), candle(DECODE));
        add(what("prefill", "candle wasm"), *prefill_of_candle, ours_on(PREFILL, &model), candle(PREFILL));
        add(what("decode", "llama.cpp native"), *decode_of_llama_cpp, ours_on(DECODE, &model), llama_cpp);
        let taken = |m: &Measurement| Some(m.peak_mb? - m.empty_mb.filter(|_| m.peer == "cdi" && m.model == model)?);
        let most = all.iter().filter_map(|m| Some((m.file_mb + MEMORY_ABOVE_WEIGHTS, taken(m)?)));
        let (allowed, most) = most.max_by(|a, b| a.1.total_cmp(&b.1)).unzip();
        add(format!("{model}: the weights and 150 MB of memory"), 1.0, allowed, most);
    }
    let mut models: Vec<&str> = all.iter().filter(|m| m.peer == "cdi").map(|m| m.model.as_str()).collect();
    models.dedup();
    models.sort_unstable();
    models.dedup();
    for model in models {
        for (name, speed) in [("decode", DECODE), ("prefill", PREFILL)] {
            let in_browser = |m: &Measurement| m.place != "native" && m.model == model;
            let ours = best(speed, &|m| m.peer == "cdi" && in_browser(m));
            let theirs = best(speed, &|m| m.peer != "cdi" && in_browser(m));
            add(format!("{model}: {name} of the best other engine in a browser"), OF_BEST_PEER, ours, theirs);
        }
        let native = |peer: &'static str| best(DECODE, &|m| m.peer == peer && m.place == "native" && m.model == model);
        add(
            format!("{model}: native decode of llama.cpp"),
            NATIVE_OF_LLAMA_CPP,
            native("cdi"),
            native("llama.cpp native"),
        );
    }
    verdicts
}

/// Prints one line an aim.
pub fn print(verdicts: &[Verdict]) {
    if verdicts.is_empty() {
        return;
    }
    println!("\n   aims (ours in parts of theirs)");
    for verdict in verdicts {
        let found = verdict.found.map_or_else(|| "not measured".to_owned(), |found| format!("{found:.2}"));
        let word = if verdict.is_reached() { "reached" } else { "MISSED" };
        println!("   {word:<8} {:<68} {:>5.2}  {found}", verdict.what, verdict.aim);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(peer: &str, place: &str, model: &str, prefill: f64, decode: f64) -> Measurement {
        Measurement {
            peer: peer.to_owned(),
            place: place.to_owned(),
            variant: String::new(),
            model: model.to_owned(),
            threads: 1,
            prompt: 64,
            prefill,
            prefill_spread: [prefill; 2],
            decode,
            decode_spread: [decode; 2],
            peak_mb: Some(500.0),
            empty_mb: Some(200.0),
            file_mb: 200.0,
            load_ms: None,
            repetitions: 5,
            kernel: None,
        }
    }

    #[test]
    fn ratios_within_the_run_are_judged() {
        let all = [
            measured("cdi", "chromium", "smol135-q4_0", 400.0, 150.0),
            measured("candle wasm", "chromium", "smol135-q8_0", 80.0, 60.0),
            measured("candle wasm", "chromium", "smol135-q4_0", 76.0, 57.0),
            measured("llama.cpp native", "native", "smol135-q4_0", 800.0, 160.0),
        ];
        let verdicts = judge(&all);
        let found = |part: &str| verdicts.iter().find(|v| v.what.contains(part)).expect(part);
        assert_eq!(found("decode of candle").found, Some(2.5));
        assert!(found("decode of candle").is_reached() && found("prefill of candle").is_reached());
        assert!(found("decode of llama.cpp native, one thread").is_reached());
        assert_eq!(found("decode of the best other").found, Some(150.0 / 57.0));
        let native = found("native decode of llama.cpp");
        assert!(native.found.is_none() && !native.is_reached());
        assert_eq!(found("of memory").found, Some(350.0 / 300.0));
        assert_eq!(verdicts.len(), 7);
    }

    #[test]
    fn other_files_have_no_aims_of_their_own() {
        let verdicts = judge(&[measured("cdi", "chromium", "mine", 1.0, 1.0)]);
        assert!(verdicts.iter().all(|v| v.what.starts_with("mine") && !v.is_reached()));
        assert_eq!(verdicts.len(), 3);
    }
}
