//! The WebGPU back end in a dedicated worker of a browser.
#![cfg(target_arch = "wasm32")]

use std::cell::RefCell;

use cdi_compute::choice::Choice;
use cdi_compute::conformance;
use cdi_compute::gpu::{Gpu, GpuError, GpuOptions};
use cdi_model::compute::{Compute, ComputeError};
use wasm_bindgen::JsCast as _;
use wasm_bindgen_test::{console_log, wasm_bindgen_test, wasm_bindgen_test_configure};

wasm_bindgen_test_configure!(run_in_dedicated_worker);

/// The back end, or `None` after a visible line where the browser has no adapter.
async fn open(options: GpuOptions) -> Option<Gpu> {
    let opened = Gpu::with_options(options).await;
    if let Err(GpuError::AdapterRefused(_) | GpuError::Unavailable) = opened {
        console_log!("SKIPPED gpu conformance: no adapter");
        return None;
    }
    Some(opened.expect("a working adapter"))
}

thread_local! {
    /// One device for all cases: opening one takes a second where the processor plays it.
    static SHARED: RefCell<Option<Gpu>> = const { RefCell::new(None) };
}

macro_rules! cases {
    ($($case:ident,)*) => {$(
        #[wasm_bindgen_test]
        async fn $case() {
            let gpu = match SHARED.take() {
                Some(gpu) => Some(gpu),
                None => open(GpuOptions::default()).await,
            };
            let Some(mut gpu) = gpu else { return };
            gpu.trim();
            conformance::$case(&mut gpu).await;
            SHARED.set(Some(gpu));
        }
    )*};
}
cdi_compute::conformance_cases!(cases);

#[wasm_bindgen_test]
async fn a_software_adapter_ranks_below_the_processor() {
    let now_ms = || js_sys::Date::now();
    let choice = Choice::fastest(now_ms).await.expect("a back end");
    console_log!("{choice:?}");
    if let Ok((report, probe)) = choice.gpu {
        assert_eq!(report.backend, "webgpu");
        assert!(!report.is_software || probe.matvec_gb_s < choice.cpu.matvec_gb_s);
    }
}

#[wasm_bindgen_test]
async fn a_released_device_says_so_for_ever() {
    let Some(mut gpu) = open(GpuOptions::default()).await else { return };
    let x = gpu.upload(4, &[1.0; 4]).expect("upload");
    gpu.release();
    assert!(matches!(gpu.read(&x).await, Err(ComputeError::DeviceLost(_))));
    assert!(gpu.upload(4, &[1.0; 4]).expect_err("lost").is_fatal());
}

/// A browser without WebGPU: `navigator.gpu` is not there at all.
#[wasm_bindgen_test]
async fn without_webgpu_the_processor_is_chosen_and_the_reason_is_told() {
    use js_sys::{Object, Reflect, global};

    let navigator = Reflect::get(&global(), &"navigator".into()).expect("a worker has one");
    let prototype = Object::get_prototype_of(&navigator);
    let gpu = Object::get_own_property_descriptor(&prototype, &"gpu".into());
    Reflect::delete_property(&prototype, &"gpu".into()).expect("it is configurable");
    let opened = Gpu::new().await.map(drop);
    let choice = Choice::fastest(js_sys::Date::now).await.expect("a back end");
    if !gpu.is_undefined() {
        Reflect::define_property(&prototype, &"gpu".into(), gpu.unchecked_ref()).expect("it comes back");
    }
    assert_eq!(opened, Err(GpuError::Unavailable));
    assert!(choice.backend.adapter().is_none());
    assert_eq!(choice.gpu.map(drop).expect_err("no GPU").to_string(), "this browser has no WebGPU");
}
