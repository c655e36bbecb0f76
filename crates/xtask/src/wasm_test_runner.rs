//! The runner of the browser unit tests: `wasm-bindgen-test-runner` at the exact version of the
//! workspace's `wasm-bindgen`, so that nobody has to install a tool of the matching version.
//! Cargo calls it through `CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER`; see `cargo xtask test-wasm`.

use std::process::ExitCode;

fn main() -> ExitCode {
    env_logger::init();
    match wasm_bindgen_cli::wasm_bindgen_test_runner::run_cli_with_args(std::env::args_os()) {
        Ok(()) => ExitCode::SUCCESS,
        // Display, not Debug: a backtrace of the runner would bury the test's own failure.
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}
