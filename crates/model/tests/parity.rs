//! The architecture graphs against Hugging Face transformers, on the plain reference back end, natively and in
//! a browser.

use cdi_model::compute::WeightFormat;
use cdi_model::fixture::parity::{TOLERANCE, check, check_same_bits, drift};
use cdi_model::fixture::reference::Reference;
use cdi_model::fixture::{GENESIS, GENESIS_DRAFT, TINY};
use wasm_bindgen_test::wasm_bindgen_test;

#[wasm_bindgen_test(unsupported = test)]
fn tiny_models_match_transformers() {
    for case in &TINY {
        let drift = pollster::block_on(check(&mut Reference::new(), case, TOLERANCE)).expect(case.name);
        println!("{}: {drift:?}", case.name);
    }
}

#[wasm_bindgen_test(unsupported = test)]
fn genesis_matches_transformers() {
    let drift = pollster::block_on(check(&mut Reference::new(), &GENESIS, TOLERANCE)).expect("parity");
    println!("genesis: {drift:?}");
    assert!(drift.greedy.1 > 50);
}

#[wasm_bindgen_test(unsupported = test)]
fn the_draft_matches_transformers() {
    pollster::block_on(check(&mut Reference::new(), &GENESIS_DRAFT, TOLERANCE)).expect("parity");
}

/// Quantised weights change the logits a little, and nothing else.
#[wasm_bindgen_test(unsupported = test)]
fn quantised_weights_have_the_same_bits_however_cut() {
    for case in &TINY {
        pollster::block_on(check_same_bits(&mut Reference::new(), case, WeightFormat::Q8_0)).expect(case.name);
    }
    let drift = pollster::block_on(drift(&mut Reference::new(), &GENESIS, WeightFormat::Q8_0)).expect("runs");
    println!("genesis in Q8_0: {drift:?}");
    assert!(drift.max_abs < 1.0 && drift.max_abs > TOLERANCE, "{drift:?}");
}
