//! The project's own build tool: `cargo xtask up` starts everything, `cargo xtask test` checks everything.
//!
//! It calls cargo and other tools in the order a person would, prints every command before it runs, and says
//! what to do next when one fails.

mod bench;
mod browser;
mod check;
mod interop;
mod lint;
mod machine;
mod process;
mod settings;
mod sim;
mod tidy;
mod toolchain;
mod up;
mod wasm_test;
mod web;
mod workspace;

use clap::{Parser, Subcommand};

use workspace::Workspace;

/// Build, run and check CDI.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Build page and relay and run them: the whole product on this machine.
    Up(up::Args),
    /// Build the page and its modules, and hold them against their size budgets.
    Web,
    /// Check everything: what continuous integration runs.
    Test(check::Args),
    /// Check formatting and both clippy walls, native and browser.
    Lint,
    /// Check the invariants of the source tree that the compiler does not.
    Tidy,
    /// Measure beside others, which are fetched from the public registries.
    #[command(subcommand)]
    Bench(bench::Area),
    /// Simulate a swarm of many nodes in virtual time; `cargo xtask sim -- --help` lists the settings.
    Sim(sim::Args),
    /// Run the browser unit tests (`wasm_bindgen_test`) in headless Chromium.
    TestWasm(wasm_test::Args),
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let outcome = Workspace::locate().and_then(|workspace| match cli.command {
        Command::Up(args) => up::run(&workspace, &args),
        Command::Web => web::build(&workspace).map(drop),
        Command::Test(args) => check::run(&workspace, &args),
        Command::Lint => lint::all(&workspace),
        Command::Tidy => tidy::run(&workspace),
        Command::Bench(area) => bench::run(&workspace, &area),
        Command::Sim(args) => sim::run(&workspace, &args),
        Command::TestWasm(args) => wasm_test::run(&workspace, &args),
    });
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}
