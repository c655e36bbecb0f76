//! Firefox, driven over WebDriver BiDi by `tests/interop/src/firefox.js`: chromedriver's counterpart is not in Debian.

use std::env;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::Within;
use crate::script::Script;
use crate::tab::{WAIT, Waited};

/// A headless Firefox with a fresh profile. Dropping it ends it.
pub struct Firefox {
    script: Script,
    version: String,
}

impl Firefox {
    /// Starts `FIREFOX`, or else Debian's `firefox-esr`.
    pub fn start() -> Result<Self> {
        let program = env::var("FIREFOX").unwrap_or_else(|_| "firefox-esr".to_owned());
        let script = Script::start("firefox")?;
        let version = script.call("start", &json!([{ "program": program }]))?;
        Ok(Self { script, version: version.as_str().context("no version")?.to_owned() })
    }

    /// Name and version.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Opens an address in a new tab and returns once the document is loaded.
    pub fn open(&self, url: &str) -> Result<FirefoxTab<'_>> {
        Ok(FirefoxTab { firefox: self, context: self.script.call("open", &json!([url]))? })
    }
}

impl Drop for Firefox {
    fn drop(&mut self) {
        // An error says that it has ended; its files are in the system's directory for such.
        let _ = self.script.call("stop", &json!([]));
    }
}

/// A tab of a [`Firefox`].
pub struct FirefoxTab<'a> {
    firefox: &'a Firefox,
    context: Value,
}

impl FirefoxTab<'_> {
    /// Waits until a JavaScript function body, tried at every change of the document with `args`, returns something
    /// true, and returns that.
    pub fn wait_until(&self, condition: &str, args: &Value, within: Within) -> Result<Value> {
        let body = format!(
            "{WAIT}\nreturn new Promise((done) => {{ const outer = args; {{ const args = outer; \
             until(() => {{ {condition} }}, {}, done); }} }});",
            within.0.as_millis()
        );
        match serde_json::from_value(self.run(&body, args)?)? {
            Waited::Met(value) => Ok(value),
            Waited::Late(shown) => bail!("not within {:?}. The page shows {shown:#}", within.0),
        }
    }

    /// Waits until the element's `data-state` is one of `values`, and says which.
    pub fn wait_for_state(&self, testid: &str, values: &[&str], within: Within) -> Result<String> {
        let condition = "const [testid, values] = args; \
             const value = document.querySelector(`[data-testid=\"${testid}\"]`)?.dataset.state; \
             return values.includes(value) ? value : null;";
        let met = self.wait_until(condition, &json!([testid, values]), within);
        let met = met.with_context(|| format!("Firefox: `{testid}` should be {}", values.join(" or ")))?;
        Ok(met.as_str().unwrap_or_default().to_owned())
    }

    /// Clicks the element.
    pub fn click(&self, testid: &str) -> Result<()> {
        self.run("document.querySelector(`[data-testid=\"${args}\"]`).click();", &json!(testid)).map(drop)
    }

    /// Gives an input or a select element a value, as a user's input does.
    pub fn fill(&self, testid: &str, value: &str) -> Result<()> {
        let body = "const [testid, value] = args; \
            const element = document.querySelector(`[data-testid=\"${testid}\"]`); \
            element.value = value; \
            for (const kind of ['input', 'change']) element.dispatchEvent(new Event(kind, { bubbles: true }));";
        self.run(body, &json!([testid, value])).map(drop)
    }

    /// The element's text.
    pub fn text(&self, testid: &str) -> Result<String> {
        let text =
            self.run("return document.querySelector(`[data-testid=\"${args}\"]`)?.textContent;", &json!(testid))?;
        Ok(text.as_str().with_context(|| format!("the page has no `{testid}`"))?.trim().to_owned())
    }

    /// Runs a JavaScript function body with `args` and returns what it returns.
    pub fn run(&self, body: &str, args: &Value) -> Result<Value> {
        self.firefox.script.call("run", &json!([self.context, body, args]))
    }
}
