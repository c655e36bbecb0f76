//! `cargo xtask test-wasm`: the unit tests marked `wasm_bindgen_test`, compiled to wasm and run in headless
//! Chromium, in a window or in a dedicated worker as each test binary's `wasm_bindgen_test_configure!` says.

use anyhow::{Context, Result, ensure};

use crate::browser;
use crate::process::{cargo, run as run_command};
use crate::toolchain::{WASM_TARGET, ensure_wasm_target};
use crate::workspace::Workspace;

/// The default of 20 s is too short for kernel suites on a software GPU and a shared machine.
const TEST_BINARY_TIMEOUT_SECONDS: &str = "300";

/// Arguments of `test-wasm`.
#[derive(Default, clap::Args)]
pub struct Args {
    /// Test only this package; may be given more than once. Default: every package with browser tests.
    #[arg(short, long = "package", value_name = "PACKAGE")]
    packages: Vec<String>,
    /// Arguments for cargo test; those of the test binary follow a second `--`.
    #[arg(last = true)]
    cargo_args: Vec<String>,
}

/// Builds the runner and runs the browser tests of the chosen packages.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    let packages = match args.packages.as_slice() {
        [] => packages_with_browser_tests(workspace)?,
        chosen => chosen.to_vec(),
    };
    ensure!(!packages.is_empty(), "no package has wasm-bindgen-test among its dev-dependencies");
    let driver = browser::chromedriver()
        .context("chromedriver is missing: install chromium and chromium-driver, or set CHROMEDRIVER to its path")?;

    ensure_wasm_target()?;
    let runner = "cdi-wasm-test-runner";
    run_command(cargo().current_dir(&workspace.root).args([
        "build",
        "--quiet",
        "--package",
        "cdi-xtask",
        "--features",
        "wasm-test",
        "--bin",
        runner,
    ]))?;
    let runner = workspace.target_dir().join("debug").join(runner).with_extension(std::env::consts::EXE_EXTENSION);

    let mut test = cargo();
    test.current_dir(&workspace.root)
        .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", runner)
        .env("CHROMEDRIVER", driver)
        .env("WASM_BINDGEN_TEST_WEBDRIVER_JSON", workspace.root.join("crates/xtask/webdriver.json"))
        .env("WASM_BINDGEN_TEST_TIMEOUT", TEST_BINARY_TIMEOUT_SECONDS)
        // chromedriver is allowed this long to bind its port on a loaded machine (default 5 s).
        .env("WASM_BINDGEN_TEST_DRIVER_TIMEOUT", "30")
        // Where a test binary does not say, it runs in a window rather than in Node.
        .env("WASM_BINDGEN_USE_BROWSER", "1")
        .args(["test", "--target", WASM_TARGET, "--tests"]);
    for package in &packages {
        test.args(["--package", package]);
    }
    run_command(test.args(&args.cargo_args))
}

/// Packages that declare browser tests by depending on `wasm-bindgen-test`.
fn packages_with_browser_tests(workspace: &Workspace) -> Result<Vec<String>> {
    let packages = workspace.packages()?;
    let with_tests =
        packages.into_iter().filter(|package| package.dependencies("dev-dependencies").contains(&"wasm-bindgen-test"));
    Ok(with_tests.map(|package| package.name).collect())
}
