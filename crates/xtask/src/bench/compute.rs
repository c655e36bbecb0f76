//! `cargo xtask bench compute`: every engine on every model, one after the other.

use std::fs::File;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::measurement::{Measurement, Subject};
use super::models::{self, Model};
use super::{aims, table, tools};
use crate::process::{output, timed};
use crate::workspace::Workspace;

/// Engines by the names that `--only` takes.
const ENGINES: [&str; 6] = ["cdi", "candle", "wllama", "wllama2", "transformers.js", "llama.cpp"];
/// Another engine that a user of a browser could pick, and why it is not run.
const NOT_RUN: &str = "web-llm: its package holds no model library, and none can be had from public registries";

/// Arguments of `bench compute`.
#[derive(clap::Args)]
pub struct Args {
    /// Measure this Llama file instead of the models that are made.
    #[arg(long, value_name = "FILE")]
    gguf: Option<PathBuf>,
    /// Make and measure this model; may be given more than once.
    #[arg(long, value_name = "MODEL", default_values = ["smol135-q4_0", "smol135-q8_0", "smol135-f16", "tinyllama-q4_0"])]
    model: Vec<String>,
    /// Measure only this engine (cdi, candle, wllama, wllama2, transformers.js, llama.cpp); may be given more than once.
    #[arg(long, value_name = "ENGINE")]
    only: Vec<String>,
    /// Write one line of JSON a measurement to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail when an aim is missed or could not be judged.
    #[arg(long)]
    check: bool,
    /// Thread counts of the engines that have threads.
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<u32>,
    /// Tokens of the prompt.
    #[arg(long, default_value_t = 64)]
    prompt: u32,
    /// Tokens after it.
    #[arg(long, default_value_t = 64)]
    decode: u32,
    /// Repetitions after one that warms up; the median counts.
    #[arg(long, default_value_t = 5)]
    reps: u32,
}

/// Measures, prints the table, and judges it.
pub fn run(workspace: &Workspace, args: &Args) -> Result<()> {
    for name in &args.only {
        ensure!(ENGINES.contains(&name.as_str()), "there is no engine `{name}`; there are {}", ENGINES.join(", "));
    }
    ensure!(args.prompt > 0 && args.decode > 0 && args.reps > 0, "nothing to measure");
    let models = match &args.gguf {
        Some(file) => vec![models::of_user(file)?],
        None => timed("models", || args.model.iter().map(|name| models::made(workspace, name)).collect())?,
    };
    let json = args.json.as_ref();
    let mut json =
        json.map(|path| File::create(path).with_context(|| format!("cannot write {}", path.display()))).transpose()?;

    let mut drivers = Drivers { args, workspace, models: &models, jobs: Vec::new(), left_out: Vec::new() };
    for engine in ENGINES.into_iter().filter(|engine| args.wants(engine)) {
        println!("\n── {engine}: prepare");
        if let Err(error) = drivers.prepare(engine) {
            drivers.leave_out(engine, &error);
        }
    }
    let Drivers { mut jobs, mut left_out, .. } = drivers;
    // One model after the other: what is compared is measured within minutes.
    jobs.sort_by_key(|job| models.iter().position(|model| model.name == job.subject.model));
    let mut measured = Vec::new();
    for Job { subject, mut driver } in jobs {
        let what = format!("{}, {}, {}", subject.peer, subject.place, subject.model);
        match output(&mut driver).and_then(|text| Measurement::read(subject, &text)) {
            Ok(one) => {
                println!("   {what}, {} threads: {:.1} / {:.1} tokens/s", one.threads, one.prefill, one.decode);
                if let Some(file) = &mut json {
                    writeln!(file, "{}", serde_json::to_string(&one)?)?;
                }
                measured.push(one);
            }
            Err(error) => leave_out(&mut left_out, &what, &error),
        }
    }

    table::print(&measured);
    if args.only.is_empty() {
        left_out.push(NOT_RUN.to_owned());
    }
    for line in &left_out {
        println!("   NOT MEASURED {line}");
    }
    let verdicts = aims::judge(&measured);
    aims::print(&verdicts);
    let missed: Vec<&str> = verdicts.iter().filter(|v| !v.is_reached()).map(|v| v.what.as_str()).collect();
    ensure!(!args.check || missed.is_empty(), "aims missed:\n  {}", missed.join("\n  "));
    ensure!(!measured.is_empty(), "nothing was measured");
    Ok(())
}

impl Args {
    fn wants(&self, engine: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == engine)
    }
}

/// A program to run, and what it measures.
struct Job {
    subject: Subject,
    driver: Command,
}

/// Gets the engines ready and lists what is to be run.
struct Drivers<'a> {
    args: &'a Args,
    workspace: &'a Workspace,
    models: &'a [Model],
    jobs: Vec<Job>,
    left_out: Vec<String>,
}

impl<'a> Drivers<'a> {
    fn prepare(&mut self, engine: &str) -> Result<()> {
        match engine {
            "cdi" => self.cdi(),
            "candle" => self.candle(),
            "wllama" => self.wllama("wllama", "3"),
            "wllama2" => self.wllama("wllama 2", "2"),
            "transformers.js" => self.transformers(),
            "llama.cpp" => self.llama_cpp(),
            _ => bail!("nothing runs it"),
        }
    }

    /// Our compute half natively and each of the page's worker modules in Chromium, by the same messages.
    fn cdi(&mut self) -> Result<()> {
        let program = tools::our_program(self.workspace)?;
        let mut imported = Vec::new();
        for model in self.models {
            match models::blocks(self.workspace, &program, model) {
                Ok(dir) => imported.push((model, dir)),
                Err(error) => self.leave_out(&format!("cdi on {}", model.name), &error),
            }
        }
        for (model, dir) in &imported {
            let mut driver = Command::new(&program);
            driver.arg("measure").arg(dir);
            self.add("cdi", "native", Some("native"), model, driver)?;
        }
        let scripts = tools::scripts(self.workspace)?;
        let (dist, modules) = tools::our_modules(self.workspace)?;
        for (model, dir) in &imported {
            for module in &modules {
                let variant = module.trim_start_matches("worker").trim_start_matches(['-', '_']);
                let variant = if variant.is_empty() { "simd128" } else { variant };
                let mut driver = Command::new("node");
                driver.arg(scripts.join("cdi.mjs")).arg(&dist).arg(dir).args([module, "1"]);
                self.add("cdi", "chromium", Some(variant), model, driver)?;
            }
        }
        Ok(())
    }

    fn candle(&mut self) -> Result<()> {
        let scripts = tools::scripts(self.workspace)?;
        let bindings = tools::candle(self.workspace)?;
        for model in self.models {
            let mut driver = Command::new("node");
            driver.arg(scripts.join("candle.mjs")).arg(&bindings).arg(&model.path);
            self.add("candle wasm", "chromium", None, model, driver)?;
        }
        Ok(())
    }

    fn wllama(&mut self, peer: &'static str, version: &str) -> Result<()> {
        let scripts = tools::scripts(self.workspace)?;
        for (model, threads) in self.with_threads() {
            let mut driver = Command::new("node");
            driver.arg(scripts.join("wllama.mjs")).arg(&model.path).args([version, &threads]);
            self.add(peer, "chromium", None, model, driver)?;
        }
        Ok(())
    }

    /// On files in Q4_0: of the types here that is the one which its usual models have too.
    fn transformers(&mut self) -> Result<()> {
        let scripts = tools::scripts(self.workspace)?;
        let python = tools::python(self.workspace)?;
        for (model, threads) in self.with_threads() {
            if model.name.ends_with("q4_0") {
                let dir = models::onnx(self.workspace, &python, model)?;
                let mut driver = Command::new("node");
                driver.arg(scripts.join("transformers.mjs")).arg(dir).args(["wasm", &threads]);
                self.add("transformers.js wasm", "chromium", None, model, driver)?;
            }
        }
        Ok(())
    }

    fn llama_cpp(&mut self) -> Result<()> {
        let python = tools::python(self.workspace)?;
        let script = self.workspace.root.join("tests/peers/llama_cpp_native.py");
        for (model, threads) in self.with_threads() {
            let mut driver = Command::new(&python);
            driver.arg(&script).arg(&model.path).arg(&threads);
            self.add("llama.cpp native", "native", None, model, driver)?;
        }
        Ok(())
    }

    fn with_threads(&self) -> Vec<(&'a Model, String)> {
        let each = |model| self.args.threads.iter().map(move |threads| (model, threads.to_string()));
        self.models.iter().flat_map(each).collect()
    }

    /// Adds a driver, which takes prompt, decode and repetitions as its last arguments.
    fn add(
        &mut self,
        peer: &'static str,
        place: &'static str,
        variant: Option<&str>,
        model: &Model,
        mut driver: Command,
    ) -> Result<()> {
        let Args { prompt, decode, reps, .. } = *self.args;
        driver.args([prompt, decode, reps].map(|n| n.to_string()));
        let (variant, bytes) = (variant.map(str::to_owned), model.path.metadata()?.len());
        let subject = Subject { peer, place, variant, model: model.name.clone(), bytes, prompt };
        self.jobs.push(Job { subject, driver });
        Ok(())
    }

    fn leave_out(&mut self, what: &str, error: &anyhow::Error) {
        leave_out(&mut self.left_out, what, error);
    }
}

/// Shows why something is not measured, and keeps one line of it for the end: the one that says what went wrong.
fn leave_out(left_out: &mut Vec<String>, what: &str, error: &anyhow::Error) {
    let reason = format!("{error:#}");
    println!("   {what}: {reason}");
    let says = reason.lines().find(|line| line.contains("Error:")).or_else(|| reason.lines().next());
    let short: String = says.unwrap_or_default().chars().take(200).collect();
    left_out.push(format!("{what}: {short}"));
}
