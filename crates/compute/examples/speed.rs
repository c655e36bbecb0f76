//! Tokens a second of the genesis model on the CPU back end: `cargo run --release -p cdi-compute --example speed`.

use std::time::Instant;

use cdi_compute::cpu::Cpu;
use cdi_model::compute::{Compute, WeightFormat};
use cdi_model::fixture::{FixtureError, GENESIS};
use cdi_model::llama::{LogitRows, StageError, StageInput, StageOutput};
use pollster::block_on;

const PROMPT: u32 = 128;
const DECODED: u32 = 128;
const REPETITIONS: usize = 5;

fn main() -> Result<(), FixtureError> {
    println!("genesis, {PROMPT} tokens of prompt, {DECODED} decoded, best of {REPETITIONS}, one thread");
    for format in [WeightFormat::F32, WeightFormat::Q8_0] {
        let mut cpu = Cpu::new();
        let stage = GENESIS.stage(&mut cpu, GENESIS.whole()?, format)?;
        let vocab = stage.llama().vocab_size;
        let ids: Vec<u32> = (0..PROMPT + DECODED).map(|i| (i * 7_919 + 1) % vocab).collect();
        let (mut prefill, mut decode) = (f64::MAX, f64::MAX);
        for _ in 0..REPETITIONS {
            let mut cache = stage.new_cache(&mut cpu, PROMPT + DECODED)?;
            let mut step = |start: u32, count: u32| -> Result<f64, FixtureError> {
                let input = StageInput::Tokens(&ids[start as usize..][..count as usize]);
                let began = Instant::now();
                if let StageOutput::Logits(x) = stage.forward(&mut cpu, input, start, &mut cache, LogitRows::Last)? {
                    block_on(cpu.read(&x)).map_err(StageError::from)?;
                }
                Ok(began.elapsed().as_secs_f64())
            };
            prefill = prefill.min(step(0, PROMPT)?);
            let each = (PROMPT..PROMPT + DECODED).map(|position| step(position, 1)).collect::<Result<Vec<_>, _>>()?;
            decode = decode.min(each.iter().sum());
        }
        let (prefill, decode) = (f64::from(PROMPT) / prefill, f64::from(DECODED) / decode);
        println!("{format:?}: prefill {prefill:.0} tokens/s, decode {decode:.0} tokens/s");
    }
    Ok(())
}
