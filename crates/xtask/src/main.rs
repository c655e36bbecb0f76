//! The project's own build tool: `cargo xtask up` starts everything, `cargo xtask test` checks everything.
//!
//! It calls cargo and other tools in the order a person would, prints every command before it runs, and says
//! what to do next when one fails.

mod browser;
mod process;
mod wasm_test;
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
    /// Run the browser unit tests (`wasm_bindgen_test`) in headless Chromium.
    TestWasm(wasm_test::Args),
}

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    let outcome = Workspace::locate().and_then(|workspace| match cli.command {
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
