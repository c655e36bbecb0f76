//! GGUF files on the CPU back end, their quantised weights kept as they are: as close to the dequantised weights in f64
//! as llama.cpp comes, which rounds activations to 8 bits as well.

use cdi_compute::cpu::Cpu;
use cdi_model::compute::{Compute, WeightFormat};
use cdi_model::fixture::gguf::{GGUF, GgufCase, difference};
use cdi_model::fixture::parity::run;
use cdi_model::fixture::reference::Reference;

/// How much further from the reference than llama.cpp a result may be.
const ALLOWED: f64 = 1.25;

fn logits<C: Compute>(case: &GgufCase, mut compute: C, format: WeightFormat) -> Vec<f32> {
    let stage = case.stage(&mut compute, format).expect(case.name);
    let ids = case.expected().expect("fixture").ids;
    let steps = [&[ids.len() - 4][..], &[1; 4]].concat();
    pollster::block_on(run(&mut compute, &[(&stage, stage.layers())], &ids, &steps)).expect("runs")
}

/// Kept as 32-bit floats, weights of any type give what the reference does: nothing but the order of sums differs.
#[test]
fn dequantised_weights_are_exact() {
    for case in &GGUF {
        let reference = logits(case, Reference::new(), WeightFormat::F32);
        let (_, rms) = difference(&logits(case, Cpu::new(), WeightFormat::F32), &reference);
        assert!(rms <= 1e-5, "{}: {rms:e}", case.name);
    }
}

#[test]
fn quantised_files_lose_no_more_than_in_llama_cpp() {
    for case in GGUF.iter().filter(|case| case.name.starts_with('q')) {
        let reference = logits(case, Reference::new(), WeightFormat::F32);
        let ours = difference(&logits(case, Cpu::new(), WeightFormat::Q8_0), &reference);
        let theirs = difference(&case.logits().expect("fixture"), &reference);
        println!("{}: largest and root mean square difference {ours:.2e?}, of llama.cpp {theirs:.2e?}", case.name);
        assert!(ours.0 <= ALLOWED * theirs.0 && ours.1 <= ALLOWED * theirs.1, "{}: {ours:?}", case.name);
    }
}
