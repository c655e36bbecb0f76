//! `cargo xtask test`: everything that continuous integration runs, step by step, with the time of each.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::browser::{chromedriver, on_path};
use crate::process::{cargo, run as run_command};
use crate::workspace::Workspace;
use crate::{interop, lint, machine, tidy, up, wasm_test, web};

/// Arguments of `test`.
#[derive(clap::Args)]
pub struct Args {
    /// Run only this step; may be given more than once.
    #[arg(long, value_name = "STEP")]
    only: Vec<String>,
    /// Leave this step out; may be given more than once.
    #[arg(long, value_name = "STEP")]
    skip: Vec<String>,
    /// List the steps and end.
    #[arg(long)]
    list: bool,
}

struct Step {
    name: &'static str,
    what: &'static str,
    run: fn(&Workspace) -> Result<Outcome>,
}

enum Outcome {
    Passed,
    /// The machine lacks what the step needs.
    Skipped(String),
}

const STEPS: &[Step] = &[
    Step { name: "machine", what: "browsers, Vulkan driver, C compiler, Node", run: |w| passed(machine::prepare(w)) },
    Step { name: "fmt", what: "formatting", run: |workspace| passed(lint::formatting(workspace)) },
    Step { name: "tidy", what: "invariants of the source tree", run: |workspace| passed(tidy::run(workspace)) },
    Step { name: "deny", what: "licences and advisories", run: deny },
    Step { name: "clippy", what: "clippy, native", run: |workspace| passed(lint::native(workspace)) },
    Step { name: "clippy-wasm", what: "clippy, browser", run: |workspace| passed(lint::browser(workspace)) },
    Step { name: "native", what: "tests on this machine", run: native_tests },
    Step { name: "nat", what: "nodes behind NATs, in network namespaces", run: nats },
    Step { name: "wasm", what: "unit tests in headless Chromium", run: wasm_tests },
    Step { name: "web", what: "page and its size budgets", run: |workspace| passed(web::build(workspace).map(drop)) },
    Step { name: "relay", what: "relay with the page inside", run: relay },
    Step { name: "e2e", what: "relay and real tabs, end to end", run: end_to_end },
    Step { name: "interop", what: "relay and tabs against js-libp2p", run: interoperation },
    Step { name: "clients", what: "clients of OpenAI and Ollama, answered by tabs", run: clients },
    Step { name: "axe", what: "every screen against axe-core", run: accessibility },
    Step { name: "firefox", what: "tabs of Firefox and Chromium together", run: firefox },
];

/// Runs the chosen steps in their order and ends at the first that fails.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    if args.list {
        for step in STEPS {
            println!("{:<12} {}", step.name, step.what);
        }
        return Ok(());
    }
    for name in args.only.iter().chain(&args.skip) {
        ensure!(STEPS.iter().any(|step| step.name == name), "there is no step `{name}`; `--list` shows them");
    }
    let chosen = STEPS.iter().filter(|step| args.only.is_empty() || args.only.iter().any(|name| name == step.name));
    let chosen = chosen.filter(|step| !args.skip.iter().any(|name| name == step.name));

    let mut summary = Vec::new();
    for step in chosen {
        println!("\n══ {}: {}", step.name, step.what);
        let start = Instant::now();
        let outcome = (step.run)(workspace);
        let row = (step, start.elapsed(), outcome);
        let failed = row.2.is_err();
        if let Ok(Outcome::Skipped(reason)) = &row.2 {
            println!("  SKIPPED {}: {reason}", step.name);
        }
        println!("   {}: {:.1} s", step.name, row.1.as_secs_f64());
        summary.push(row);
        if failed {
            break;
        }
    }
    print_summary(&summary);
    match summary.pop() {
        Some((step, _, Err(error))) => {
            Err(error.context(format!("step `{0}` failed (again alone: `cargo xtask test --only {0}`)", step.name)))
        }
        _ => Ok(()),
    }
}

fn print_summary(rows: &[(&Step, Duration, Result<Outcome>)]) {
    println!("\n   {:<12} {:>8}  result", "step", "seconds");
    for (step, time, outcome) in rows {
        let result = match outcome {
            Ok(Outcome::Passed) => "passed".to_owned(),
            Ok(Outcome::Skipped(reason)) => format!("SKIPPED: {reason}"),
            Err(_) => "FAILED".to_owned(),
        };
        println!("   {:<12} {:>8.1}  {result}", step.name, time.as_secs_f64());
    }
    let total: Duration = rows.iter().map(|(_, time, _)| *time).sum();
    println!("   {:<12} {:>8.1}", "all", total.as_secs_f64());
}

fn passed(result: Result<()>) -> Result<Outcome> {
    result.map(|()| Outcome::Passed)
}

fn deny(workspace: &Workspace) -> Result<Outcome> {
    if on_path("cargo-deny").is_none() {
        return Ok(Outcome::Skipped("cargo-deny is not installed (`cargo install cargo-deny`)".into()));
    }
    let deny = |args: &[&str]| run_command(cargo().current_dir(&workspace.root).arg("deny").args(args));
    deny(&["check", "bans", "licenses", "sources"])?;
    if deny(&["fetch", "db"]).is_err() {
        return Ok(Outcome::Skipped("advisories: their database cannot be reached; all else passed".into()));
    }
    passed(deny(&["check", "advisories"]))
}

fn native_tests(workspace: &Workspace) -> Result<Outcome> {
    passed(run_command(cargo().current_dir(&workspace.root).args(["test", "--workspace"])))
}

fn nats(workspace: &Workspace) -> Result<Outcome> {
    if let Some(reason) = machine::no_namespaces() {
        return Ok(Outcome::Skipped(format!("no network namespaces: {reason}")));
    }
    let mut test = cargo();
    // With the features of the whole workspace, for which everything is built already.
    test.current_dir(&workspace.root).args(["test", "--workspace", "--test", "nat"]);
    passed(run_command(test.args(["--", "--ignored", "--nocapture", "--test-threads", "1"])))
}

fn wasm_tests(workspace: &Workspace) -> Result<Outcome> {
    if !machine::has_browser() {
        return Ok(no_browser());
    }
    passed(wasm_test::run(workspace, &wasm_test::Args::default()))
}

fn relay(workspace: &Workspace) -> Result<Outcome> {
    passed(up::build_relay(workspace, &web::dist_dir(workspace)))
}

fn end_to_end(workspace: &Workspace) -> Result<Outcome> {
    let Some(driver) = chromedriver() else { return Ok(no_browser()) };
    let mut test = with_tabs(workspace, &driver)?;
    passed(run_command(test.args(["--features", "browser", "--", "--test-threads", "1"])))
}

fn interoperation(workspace: &Workspace) -> Result<Outcome> {
    with_foreign_peers(workspace, "interop")
}

fn clients(workspace: &Workspace) -> Result<Outcome> {
    with_foreign_peers(workspace, "clients")
}

fn accessibility(workspace: &Workspace) -> Result<Outcome> {
    with_foreign_peers(workspace, "accessibility")
}

fn firefox(workspace: &Workspace) -> Result<Outcome> {
    if !machine::has_firefox() {
        return Ok(Outcome::Skipped("Firefox is missing".into()));
    }
    with_foreign_peers(workspace, "firefox")
}

/// Runs a test program that needs what npm brings.
fn with_foreign_peers(workspace: &Workspace, program: &str) -> Result<Outcome> {
    let Some(driver) = chromedriver() else { return Ok(no_browser()) };
    if !interop::has_node() {
        return Ok(Outcome::Skipped("Node 18 or newer with npm is missing".into()));
    }
    if let Err(error) = interop::install(workspace) {
        return Ok(Outcome::Skipped(format!("npm packages cannot be installed: {error:#}")));
    }
    let peers = interop::build(workspace, interop::Profile::Dev)?;
    let mut test = with_tabs(workspace, &driver)?;
    test.env("CDI_INTEROP", peers).args(["--features", "interop", "--test", program]);
    passed(run_command(test.args(["--", "--test-threads", "1", "--nocapture"])))
}

/// `cargo test` of the package that drives a relay and a browser.
fn with_tabs(workspace: &Workspace, driver: &Path) -> Result<Command> {
    let relay = up::relay_binary(workspace);
    relay.metadata().with_context(|| format!("{} is missing: run the step `relay` first", relay.display()))?;
    let mut test = cargo();
    test.current_dir(&workspace.root)
        .env("CDI_RELAY_BIN", relay)
        .env("CHROMEDRIVER", driver)
        .env("CDI_SCREENSHOTS", workspace.target_dir().join("screenshots"))
        .args(["test", "--package", "cdi-tests"]);
    Ok(test)
}

fn no_browser() -> Outcome {
    Outcome::Skipped("chromedriver is missing".into())
}
