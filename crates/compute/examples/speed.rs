//! Tokens a second of a model with random weights on every variant of the CPU kernels, one thread:
//! `cargo run --release -p cdi-compute --example speed -- smol135 q4_0`. In a browser: `tests/browser_speed.rs`.

use std::time::Instant;

use cdi_compute::cpu::{Cpu, Variant};
use cdi_compute::speed::{Plan, Speed, measure, smol135, tinyllama};
use cdi_model::llama::StageError;
use cdi_types::manifest::DType;
use pollster::block_on;

fn main() -> Result<(), StageError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let argument = |i: usize, default: &'static str| arguments.get(i).map_or(default, String::as_str);
    let llama = if argument(0, "smol135") == "tinyllama" { tinyllama() } else { smol135() };
    let dtype = match argument(1, "q4_0") {
        "f32" => DType::F32,
        "q8_0" => DType::Q8_0,
        _ => DType::Q4_0,
    };
    let plan = Plan { dtype, prompt: 64, decoded: 32, repetitions: 4 };
    println!("{} {dtype:?}, {} tokens of prompt, best of {}", argument(0, "smol135"), plan.prompt, plan.repetitions);
    println!("{:<28} {:>12} {:>9} {:>12} {:>9} {:>9}", "", "prefill t/s", "GOP/s", "decode t/s", "GB/s", "of GB/s");
    let started = Instant::now();
    for variant in Variant::available() {
        let Some(mut cpu) = Cpu::with(variant) else { continue };
        let Speed { prefill, prefill_gop_s, decode, decode_gb_s, roof_gb_s, .. } =
            block_on(measure(&mut cpu, &llama, plan, || started.elapsed().as_secs_f64() * 1e3))?;
        let name = variant.name();
        println!("{name:<28} {prefill:>12.0} {prefill_gop_s:>9.1} {decode:>12.1} {decode_gb_s:>9.1} {roof_gb_s:>9.1}");
    }
    Ok(())
}
