//! The CPU back end on every type of weights that a GGUF file may hold.

use cdi_compute::cpu::Cpu;
use cdi_model::compute::WeightFormat;
use cdi_model::fixture::gguf::{GGUF, difference};
use cdi_model::fixture::parity::run;
use cdi_model::fixture::reference::Reference;

/// Logits in f32 of weights that are dequantised in f32: nothing but the order of sums differs.
const EXACT: f64 = 1e-5;
/// How much farther than llama.cpp from the dequantised weights rounding to other formats may lead.
const OF_LLAMA_CPP: f64 = 1.25;

#[test]
fn logits_are_those_of_the_dequantised_weights() {
    for case in &GGUF {
        let ids = case.expected().expect("fixture").ids;
        let steps = [&[ids.len() - 4][..], &[1; 4]].concat();
        let reference = &mut Reference::new();
        let stage = case.stage(reference, WeightFormat::F32).expect(case.name);
        let parts = [(&stage, stage.layers())];
        let expected = pollster::block_on(run(reference, &parts, &ids, &steps)).expect("runs");
        let theirs = difference(&case.logits().expect("fixture"), &expected);
        for format in [WeightFormat::F32, WeightFormat::Q8_0] {
            let cpu = &mut Cpu::new();
            let stage = case.stage(cpu, format).expect(case.name);
            let logits = pollster::block_on(run(cpu, &[(&stage, stage.layers())], &ids, &steps)).expect("runs");
            let ours = difference(&logits, &expected);
            println!("{} as {format:?}: largest and root mean square {ours:?}; llama.cpp {theirs:?}", case.name);
            // Eight bits are no more than llama.cpp keeps only where the file has eight or fewer.
            let narrow = matches!(case.name, "q8_0" | "q4_0" | "q4_k_m");
            if format == WeightFormat::F32 {
                assert!(ours.1 <= EXACT, "{}: {ours:?}", case.name);
            } else if narrow {
                let within = ours.0 <= OF_LLAMA_CPP * theirs.0 && ours.1 <= OF_LLAMA_CPP * theirs.1;
                assert!(within, "{} as {format:?}: {ours:?}", case.name);
            }
        }
    }
}
