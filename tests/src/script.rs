//! A program in Node that takes commands, see `tests/interop/src/commanded.js`.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::Site;

/// A running program. Dropping it ends the process.
pub(crate) struct Script {
    name: &'static str,
    child: Child,
    pipes: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
}

impl Script {
    /// Starts `<name>.mjs` of the prepared files.
    pub(crate) fn start(name: &'static str) -> Result<Self> {
        let mut child = Command::new("node")
            .arg(Site::dir().join(name).with_extension("mjs"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start node")?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let pipes = Mutex::new((stdin.context("no input")?, BufReader::new(stdout.context("no output")?)));
        Ok(Self { name, child, pipes })
    }

    /// Runs a command and blocks the thread until it is answered: a test has nothing else to do. The programs give up
    /// by themselves.
    pub(crate) fn call(&self, name: &str, args: &Value) -> Result<Value> {
        let mut pipes = self.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        let (stdin, stdout) = &mut *pipes;
        writeln!(stdin, "{}", json!({ "call": name, "args": args }))?;
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let mut answer: Value =
            serde_json::from_str(&line).with_context(|| format!("{}: `{name}`: {line:?}", self.name))?;
        if let Some(error) = answer["error"].as_str() {
            bail!("{}: `{name}`: {error}", self.name);
        }
        Ok(answer["ok"].take())
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // Errors say that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
