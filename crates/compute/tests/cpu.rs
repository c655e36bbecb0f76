//! The CPU back end natively, and through the switch.

use cdi_compute::backend::Backend;
use cdi_compute::conformance;
use cdi_compute::cpu::{Cpu, KERNEL_ID, Variant};
use cdi_model::compute::{Compute, WeightFormat};
use cdi_model::fixture::parity::{TOLERANCE, check, check_same_bits};
use cdi_model::fixture::{GENESIS, TINY};
use pollster::block_on;

macro_rules! cases {
    ($($case:ident,)*) => {$(
        #[test]
        fn $case() {
            block_on(conformance::$case(&mut Cpu::new()));
        }
    )*};
}
cdi_compute::conformance_cases!(cases);

mod through_the_switch {
    use super::*;

    macro_rules! cases {
        ($($case:ident,)*) => {$(
            #[test]
            fn $case() {
                block_on(conformance::$case(&mut Backend::cpu()));
            }
        )*};
    }
    cdi_compute::conformance_cases!(cases);
}

/// The same constant is checked in a browser: equal kernel ids give equal bits, whatever the instructions.
#[test]
fn bits_are_those_of_the_kernel_id() {
    for variant in Variant::available() {
        let mut cpu = Cpu::with(variant).expect("available");
        assert_eq!(cpu.kernel_id(), KERNEL_ID);
        assert_eq!(block_on(conformance::fingerprint(&mut cpu)), conformance::CPU_V2_FINGERPRINT, "{variant:?}");
    }
}

#[test]
fn every_variant_computes_integer_products_exactly() {
    for variant in Variant::available() {
        let mut cpu = Cpu::with(variant).expect("available");
        block_on(conformance::integer_products_are_exact(&mut cpu));
        block_on(conformance::quantised_products_match_their_own_values(&mut cpu));
        block_on(conformance::rows_are_batch_invariant(&mut cpu));
        block_on(conformance::what_is_not_finite_stays_in_its_row(&mut cpu));
    }
}

/// Logits and greedy tokens of Hugging Face transformers, and the same bits however the model or a prompt is cut.
#[test]
fn models_match_transformers() {
    for case in TINY.iter().chain([&GENESIS]) {
        let drift = block_on(check(&mut Cpu::new(), case, TOLERANCE)).expect(case.name);
        println!("{}: {drift:?}", case.name);
    }
    for case in &TINY {
        for format in [WeightFormat::Q8_0, WeightFormat::Q4_0] {
            block_on(check_same_bits(&mut Cpu::new(), case, format)).expect(case.name);
        }
    }
}
