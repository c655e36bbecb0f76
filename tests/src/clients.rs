//! Programs of users: OpenAI's and Ollama's own clients, in Node.

use anyhow::Result;
use serde_json::Value;

use crate::script::Script;

/// Takes the commands of `tests/interop/src/clients.js`.
pub struct Clients(Script);

impl Clients {
    /// Starts the process.
    pub fn start() -> Result<Self> {
        Ok(Self(Script::start("clients")?))
    }

    /// Runs a command.
    pub fn call(&self, name: &str, args: &Value) -> Result<Value> {
        self.0.call(name, args)
    }
}
