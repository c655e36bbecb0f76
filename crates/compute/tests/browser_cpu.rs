//! The CPU back end in a dedicated worker of a browser.
#![cfg(target_arch = "wasm32")]

use cdi_compute::conformance;
use cdi_compute::cpu::{Cpu, Variant};
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

/// The same constant is checked natively: equal kernel ids give equal bits, whatever the instructions. With the feature
/// `relaxed-simd` the variants for it are among them.
#[wasm_bindgen_test]
async fn bits_are_those_of_the_kernel_id() {
    for variant in Variant::available() {
        let mut cpu = Cpu::with(variant).expect("available");
        assert_eq!(conformance::fingerprint(&mut cpu).await, conformance::CPU_V2_FINGERPRINT, "{variant:?}");
    }
}

#[wasm_bindgen_test]
async fn every_variant_computes_integer_products_exactly() {
    for variant in Variant::available() {
        let mut cpu = Cpu::with(variant).expect("available");
        conformance::integer_products_are_exact(&mut cpu).await;
        conformance::quantised_products_match_their_own_values(&mut cpu).await;
        conformance::rows_are_batch_invariant(&mut cpu).await;
        conformance::what_is_not_finite_stays_in_its_row(&mut cpu).await;
    }
}

/// Logits and greedy tokens of Hugging Face transformers, and the same bits however the model or a prompt is cut.
#[wasm_bindgen_test]
async fn models_match_transformers() {
    for case in TINY.iter().chain([&GENESIS]) {
        check(&mut Cpu::new(), case, TOLERANCE).await.expect(case.name);
    }
}
