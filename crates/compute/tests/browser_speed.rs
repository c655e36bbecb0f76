//! Tokens a second in a dedicated worker of a browser, one thread, on every variant of the CPU kernels. Ignored, because
//! it measures and checks nothing:
//! `cargo xtask test-wasm -p cdi-compute -- --test browser_speed -- --include-ignored --nocapture`.
#![cfg(target_arch = "wasm32")]

use cdi_compute::cpu::{Cpu, Variant};
use cdi_compute::speed::{Plan, Speed, measure, smol135};
use cdi_types::manifest::DType;
use wasm_bindgen_test::{console_log, wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

#[wasm_bindgen_test]
#[ignore = "a measurement"]
async fn smol135_in_4_and_8_bits() {
    for dtype in [DType::Q4_0, DType::Q8_0] {
        let plan = Plan { dtype, prompt: 64, decoded: 32, repetitions: 4 };
        for variant in Variant::available() {
            let mut cpu = Cpu::with(variant).expect("available");
            let Speed { prefill, prefill_gop_s, decode, decode_gb_s, roof_gb_s, .. } =
                measure(&mut cpu, &smol135(), plan, now_ms).await.expect("a measurement");
            let name = variant.name();
            console_log!(
                "{dtype:?}, {name}: prefill {prefill:.0} tokens/s ({prefill_gop_s:.1} GOP/s), \
                 decode {decode:.1} ({decode_gb_s:.1} of {roof_gb_s:.1} GB/s)"
            );
        }
    }
}

fn now_ms() -> f64 {
    let performance = js_sys::Reflect::get(&js_sys::global(), &"performance".into()).expect("performance");
    let now = js_sys::Reflect::get(&performance, &"now".into()).expect("now");
    let now: js_sys::Function = now.into();
    now.call0(&performance).expect("a time").as_f64().expect("a number")
}
