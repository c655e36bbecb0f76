//! The CPU back end in a dedicated worker of a browser.
#![cfg(target_arch = "wasm32")]

use cdi_compute::conformance;
use cdi_compute::cpu::Cpu;
use cdi_model::fixture::parity::{TOLERANCE, check};
use cdi_model::fixture::{GENESIS, TINY};
use wasm_bindgen_test::{wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

macro_rules! cases {
    ($($case:ident,)*) => {$(
        #[wasm_bindgen_test]
        async fn $case() {
            conformance::$case(&mut Cpu::new()).await;
        }
    )*};
}
cdi_compute::conformance_cases!(cases);

/// The same constant is checked natively: equal kernel ids give equal bits.
#[wasm_bindgen_test]
async fn bits_are_those_of_the_kernel_id() {
    let fingerprint = conformance::fingerprint(&mut Cpu::new()).await;
    assert_eq!(fingerprint, conformance::CPU_F32_V1_FINGERPRINT);
}

/// Logits and greedy tokens of Hugging Face transformers, and the same bits however the model or a prompt is cut.
#[wasm_bindgen_test]
async fn models_match_transformers() {
    for case in TINY.iter().chain([&GENESIS]) {
        check(&mut Cpu::new(), case, TOLERANCE).await.expect(case.name);
    }
}
