//! What the Rust toolchain must bring: the standard library for the browser.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process::{output, run};

/// The feature with kernels that a browser may lack; the one that tests run in has what they need.
pub const RELAXED_SIMD: &str = "cdi-compute/relaxed-simd";

/// The target that a browser runs.
pub const WASM_TARGET: &str = "wasm32-unknown-unknown";

/// Adds the browser target to the toolchain when it is missing.
pub fn ensure_wasm_target() -> Result<()> {
    if installed()? {
        return Ok(());
    }
    println!("  the toolchain lacks {WASM_TARGET}: adding it");
    run(Command::new("rustup").args(["target", "add", WASM_TARGET])).with_context(|| {
        format!(
            "the Rust toolchain has no {WASM_TARGET} standard library and rustup could not add it.\n\
             With rustup: connect to the network and run `rustup target add {WASM_TARGET}`.\n\
             Without it: install your distribution's package with that target for this rustc"
        )
    })
}

fn installed() -> Result<bool> {
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let sysroot = PathBuf::from(output(Command::new(rustc).args(["--print", "sysroot"]))?.trim_end());
    Ok(sysroot.join(Path::new("lib/rustlib")).join(WASM_TARGET).join("lib").is_dir())
}
