//! One measurement: what a driver printed, and the line that is kept of it.

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

/// What a driver prints as its last line: one speed a repetition, in tokens a second.
#[derive(Debug, Deserialize)]
struct Printed {
    #[serde(default)]
    variant: String,
    threads: u32,
    /// Tokens of the prompt, where the engine counted otherwise than it was told.
    prompt: Option<u32>,
    load_ms: Option<f64>,
    prefill: Vec<f64>,
    decode: Vec<f64>,
    peak_mb: Option<f64>,
    /// Memory before the engine was loaded, where that is a browser's.
    empty_mb: Option<f64>,
}

/// What was run.
#[derive(Debug, Clone)]
pub struct Subject {
    /// The engine.
    pub peer: &'static str,
    /// `chromium`, `webgpu` or `native`.
    pub place: &'static str,
    /// Build of the engine, where it does not say so itself.
    pub variant: Option<String>,
    /// Name of the model's file, without its extension.
    pub model: String,
    /// Length of the file.
    pub bytes: u64,
    /// Tokens of the prompt.
    pub prompt: u32,
}

/// A measurement, as it stands in the JSON file.
#[derive(Debug, Clone, Serialize)]
pub struct Measurement {
    /// The engine.
    pub peer: String,
    /// `chromium`, `webgpu` or `native`.
    #[serde(rename = "where")]
    pub place: String,
    /// Build of the engine, or its version.
    pub variant: String,
    /// Name of the model's file, without its extension.
    pub model: String,
    /// Threads that computed.
    pub threads: u32,
    /// Tokens of the prompt.
    pub prompt: u32,
    /// Median tokens a second of the prompt.
    pub prefill: f64,
    /// Least and most of them.
    pub prefill_spread: [f64; 2],
    /// Median tokens a second after the prompt.
    pub decode: f64,
    /// Least and most of them.
    pub decode_spread: [f64; 2],
    /// Largest memory of the process, or of all processes of the browser, in 10^6 bytes.
    pub peak_mb: Option<f64>,
    /// Of it, what was there before the engine was loaded: an empty page.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub empty_mb: Option<f64>,
    /// Length of the model's file in 10^6 bytes.
    pub file_mb: f64,
    /// Milliseconds from the file, or from blocks on a server, to a network ready to compute.
    pub load_ms: Option<f64>,
    /// Repetitions.
    pub repetitions: usize,
    /// What the engine calls its kernels, where it is ours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
}

impl Measurement {
    /// Reads the last line that a driver printed.
    pub fn read(subject: Subject, output: &str) -> Result<Self> {
        let line = output.lines().next_back().context("the driver printed nothing")?;
        let printed: Printed = serde_json::from_str(line).with_context(|| format!("not a measurement: {line}"))?;
        ensure!(!printed.prefill.is_empty() && !printed.decode.is_empty(), "the driver measured nothing");
        let (kernel, variant) = match subject.variant {
            Some(variant) => (Some(printed.variant), variant),
            None => (None, printed.variant),
        };
        let (prefill, prefill_spread) = median(printed.prefill);
        let repetitions = printed.decode.len();
        let (decode, decode_spread) = median(printed.decode);
        Ok(Self {
            peer: subject.peer.to_owned(),
            place: subject.place.to_owned(),
            variant,
            model: subject.model,
            threads: printed.threads,
            prompt: printed.prompt.unwrap_or(subject.prompt),
            prefill,
            prefill_spread,
            decode,
            decode_spread,
            peak_mb: printed.peak_mb.map(round),
            empty_mb: printed.empty_mb.map(round),
            #[allow(clippy::cast_precision_loss, reason = "files are far shorter than 2^52 bytes")]
            file_mb: round(subject.bytes as f64 / 1e6),
            load_ms: printed.load_ms.map(round),
            repetitions,
            kernel,
        })
    }
}

/// Median, and least and most, of values that are not empty.
fn median(mut values: Vec<f64>) -> (f64, [f64; 2]) {
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[(values.len() - 1) / 2], values[values.len() / 2]);
    (round(f64::midpoint(low, high)), [values[0], values[values.len() - 1]].map(round))
}

/// Two decimals: more would be noise.
fn round(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(variant: Option<&str>) -> Subject {
        let variant = variant.map(str::to_owned);
        Subject { peer: "cdi", place: "chromium", variant, model: "tiny-q4_0".to_owned(), bytes: 0, prompt: 64 }
    }

    const LINE: &str = r#"{"variant":"k","threads":1,"prefill":[5,1,3],"decode":[4,1,2,3],"peak_mb":10.126,"more":1}"#;

    #[test]
    fn the_last_line_counts_and_its_median() {
        let all = format!("noise\n{LINE}");
        let measured = Measurement::read(subject(Some("simd128")), &all).expect("reads");
        assert_eq!((measured.prefill, measured.prefill_spread), (3.0, [1.0, 5.0]));
        assert_eq!((measured.decode, measured.repetitions, measured.peak_mb), (2.5, 4, Some(10.13)));
        assert_eq!((measured.variant.as_str(), measured.kernel.as_deref()), ("simd128", Some("k")));
        let json = serde_json::to_string(&measured).expect("encodes");
        assert!(json.starts_with(
            r#"{"peer":"cdi","where":"chromium","variant":"simd128","model":"tiny-q4_0","threads":1,"prompt":64,"prefill":3.0,"#
        ));
        let peer = Measurement::read(subject(None), LINE).expect("reads");
        assert_eq!((peer.variant.as_str(), peer.kernel), ("k", None));
    }

    #[test]
    fn nothing_measured_is_an_error() {
        for output in ["", "text", r#"{"threads":1,"prefill":[],"decode":[]}"#] {
            assert!(Measurement::read(subject(None), output).is_err(), "{output}");
        }
    }
}
