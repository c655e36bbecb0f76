//! `cargo xtask test-wasm`: the unit tests marked `wasm_bindgen_test`, compiled to wasm and run in headless
//! Chromium, in a window or in a dedicated worker as each test binary's `wasm_bindgen_test_configure!` says.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};

use crate::browser;
use crate::process::{cargo, run as run_command};
use crate::toolchain::{RELAXED_SIMD, WASM_TARGET, ensure_wasm_target};
use crate::workspace::{Package, Workspace};

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
    let all = workspace.packages()?;
    let packages = match args.packages.as_slice() {
        [] => with_browser_tests(&all),
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
        .args(["test", "--target", WASM_TARGET]);
    // A set: cargo takes `--lib` once, for all packages.
    // Stops when it is dropped.
    let is_wanted = packages.iter().any(|name| name == DirectServer::PACKAGE);
    let server = is_wanted.then(|| DirectServer::start(workspace)).transpose()?;
    if let Some(server) = &server {
        test.env("CDI_WEBRTC_DIRECT", &server.relay).env("CDI_WEBRTC_NATIVE", &server.node);
    }
    let mut chosen = BTreeSet::new();
    for name in &packages {
        let package = all.iter().find(|package| package.name == *name);
        let package = package.with_context(|| format!("the workspace has no package {name}"))?;
        test.args(["--package", name]);
        chosen.extend(programs(&workspace.root.join(&package.dir))?);
    }
    if packages.iter().any(|name| name == "cdi-compute") {
        test.args(["--features", RELAXED_SIMD]);
    }
    run_command(test.args(chosen).args(&args.cargo_args))
}

/// A native relay that the browser tests of its package dial over WebRTC-direct, and a native node behind it that they
/// reach over WebRTC.
struct DirectServer {
    child: Child,
    relay: String,
    node: String,
}

impl DirectServer {
    const PACKAGE: &str = "cdi-webrtc";
    const EXAMPLE: &str = "direct_server";

    fn start(workspace: &Workspace) -> Result<Self> {
        let chosen = ["--quiet", "--package", Self::PACKAGE, "--example", Self::EXAMPLE];
        run_command(cargo().current_dir(&workspace.root).arg("build").args(chosen))?;
        let program = workspace.target_dir().join("debug/examples").join(Self::EXAMPLE);
        let program = program.with_extension(std::env::consts::EXE_EXTENSION);
        let mut child = Command::new(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let output = child.stdout.take().context("the server has no output")?;
        let mut lines = BufReader::new(output).lines();
        let mut address = || lines.next().transpose()?.context("the server of the WebRTC tests ended at once");
        let (relay, node) = (address()?, address()?);
        Ok(Self { child, relay, node })
    }
}

impl Drop for DirectServer {
    fn drop(&mut self) {
        // Its input ends with it, and then it ends.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The words that mark a test of the browser; the second is `cdi_platform`'s attribute for tests of both sides.
const MARKS: [&str; 2] = ["wasm_bindgen_test", "async_test"];

/// Cargo's arguments for the test programs of one package that hold browser tests. The others may need a native
/// machine to compile at all.
fn programs(dir: &Path) -> Result<Vec<String>> {
    let mut chosen = Vec::new();
    if any_file_is_marked(&dir.join("src"))? {
        chosen.push("--lib".to_owned());
    }
    let tests = dir.join("tests");
    for root in rust_files(&tests)? {
        let text = fs::read_to_string(&root).with_context(|| format!("cannot read {}", root.display()))?;
        let modules = text.lines().filter_map(|line| line.trim().strip_prefix("mod ")?.strip_suffix(';'));
        let mut marked = is_marked(&text);
        for module in modules {
            marked |= any_file_is_marked(&tests.join(module))?;
        }
        if let (true, Some(name)) = (marked, root.file_stem()) {
            chosen.push(format!("--test={}", name.to_string_lossy()));
        }
    }
    Ok(chosen)
}

fn is_marked(text: &str) -> bool {
    MARKS.iter().any(|mark| text.contains(mark))
}

/// Whether a Rust file below `dir` holds browser tests; a directory that does not exist has none.
fn any_file_is_marked(dir: &Path) -> Result<bool> {
    for file in rust_files(dir)? {
        if is_marked(&fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?) {
            return Ok(true);
        }
    }
    let below =
        fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).filter(|path| path.is_dir());
    for dir in below {
        if any_file_is_marked(&dir)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The Rust files directly in `dir`, in the order of their names.
fn rust_files(dir: &Path) -> Result<Vec<PathBuf>> {
    if !dir.is_dir() {
        return Ok(Vec::new());
    }
    let entries = fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))?;
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "rs"));
    files.sort();
    Ok(files)
}

/// Packages that declare browser tests by depending on `wasm-bindgen-test`.
fn with_browser_tests(packages: &[Package]) -> Vec<String> {
    let with_tests =
        packages.iter().filter(|package| package.dependencies("dev-dependencies").contains(&"wasm-bindgen-test"));
    with_tests.map(|package| package.name.clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_programs_with_browser_tests_are_built_for_it() {
        let temp = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = temp.path().join(name);
            fs::create_dir_all(path.parent().expect("a file has a directory")).unwrap();
            fs::write(path, text).unwrap();
        };
        write("src/lib.rs", "mod a;");
        write("tests/native.rs", "#[test] fn f() {}");
        write("tests/window.rs", "mod everywhere;");
        write("tests/everywhere/mod.rs", "use wasm_bindgen_test::wasm_bindgen_test;");
        assert_eq!(programs(temp.path()).unwrap(), ["--test=window"]);
        write("src/deep/a.rs", "#[async_test] async fn f() {}");
        assert_eq!(programs(temp.path()).unwrap(), ["--lib", "--test=window"]);
    }
}
