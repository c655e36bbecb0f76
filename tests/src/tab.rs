//! One tab: find by `data-testid`, act as a user does, wait for states, take pictures, and kill.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use fantoccini::Locator;
use fantoccini::elements::Element;
use fantoccini::wd::WindowHandle;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::browser::Browser;

/// Waits for a condition over the document.
pub(crate) const WAIT: &str = include_str!("wait.js");

/// A deadline.
#[derive(Clone, Copy, Debug)]
pub struct Within(pub Duration);

impl Within {
    /// That many seconds.
    #[must_use]
    pub const fn seconds(seconds: u64) -> Self {
        Self(Duration::from_secs(seconds))
    }
}

/// A tab of a [`Browser`].
pub struct Tab<'a> {
    browser: &'a Browser,
    window: WindowHandle,
    renderer: Option<u32>,
}

/// How such a wait ended.
#[derive(Deserialize)]
pub(crate) enum Waited {
    /// With what the condition returned.
    #[serde(rename = "met")]
    Met(Value),
    /// With what the page showed instead.
    #[serde(rename = "late")]
    Late(Value),
}

impl<'a> Tab<'a> {
    pub(crate) fn new(browser: &'a Browser, window: WindowHandle, renderer: Option<u32>) -> Self {
        Self { browser, window, renderer }
    }

    /// Waits until the element's attribute is one of `values`, and says which.
    pub async fn wait_for(&self, testid: &str, attribute: &str, values: &[&str], within: Within) -> Result<String> {
        let condition = "const [testid, attribute, values] = args; \
             const value = document.querySelector(`[data-testid=\"${testid}\"]`)?.getAttribute(attribute); \
             return values.includes(value) ? value : null;";
        let met = self.wait_until(condition, &json!([testid, attribute, values]), within).await;
        let met = met.with_context(|| format!("`{testid}` should get {attribute} {}", values.join(" or ")))?;
        Ok(met.as_str().unwrap_or_default().to_owned())
    }

    /// Waits until the element's `data-state` is one of `values`, and says which.
    pub async fn wait_for_state(&self, testid: &str, values: &[&str], within: Within) -> Result<String> {
        self.wait_for(testid, "data-state", values, within).await
    }

    /// Waits until a JavaScript function body, tried at every change of the document with `args`, returns something
    /// true, and returns that. Late: an error with every `data-testid` of the page, and a picture of it.
    pub async fn wait_until(&self, condition: &str, args: &Value, within: Within) -> Result<Value> {
        let script =
            format!("{WAIT}\nconst args = arguments[0];\nuntil(() => {{ {condition} }}, arguments[1], arguments[2]);");
        let timeout_ms = u64::try_from(within.0.as_millis())?;
        let waited = {
            let client = self.browser.focus(&self.window).await?;
            client.execute_async(&script, vec![args.clone(), json!(timeout_ms)]).await?
        };
        match serde_json::from_value(waited)? {
            Waited::Met(value) => Ok(value),
            Waited::Late(shown) => {
                let picture = self.screenshot("late").await?;
                bail!("not within {:?}. The page shows {shown:#}, see {}", within.0, picture.display())
            }
        }
    }

    /// The element's text as a user sees it.
    pub async fn text(&self, testid: &str) -> Result<String> {
        Ok(self.seen(testid).await?.text().await?)
    }

    /// The value of one of the element's attributes.
    pub async fn attribute(&self, testid: &str, name: &str) -> Result<Option<String>> {
        Ok(self.find(testid).await?.attr(name).await?)
    }

    /// Clicks the element; an error when a user could not.
    pub async fn click(&self, testid: &str) -> Result<()> {
        self.seen(testid).await?.click().await.with_context(|| format!("cannot click `{testid}`"))
    }

    /// Types into the element, key by key.
    pub async fn type_into(&self, testid: &str, text: &str) -> Result<()> {
        self.seen(testid).await?.send_keys(text).await.with_context(|| format!("cannot type into `{testid}`"))
    }

    /// Chooses the option with that value in a select element.
    pub async fn choose(&self, testid: &str, value: &str) -> Result<()> {
        let choice = self.seen(testid).await?.select_by_value(value).await;
        choice.with_context(|| format!("`{testid}` has no option {value}"))
    }

    /// Runs a JavaScript function body with `arguments` and returns its result.
    pub async fn eval(&self, script: &str, arguments: Vec<Value>) -> Result<Value> {
        Ok(self.browser.focus(&self.window).await?.execute(script, arguments).await?)
    }

    /// As [`Tab::eval`], of a body that calls the last of `arguments` with its result.
    pub async fn eval_async(&self, script: &str, arguments: Vec<Value>) -> Result<Value> {
        Ok(self.browser.focus(&self.window).await?.execute_async(script, arguments).await?)
    }

    /// Loads the page again.
    pub async fn reload(&self) -> Result<()> {
        Ok(self.browser.focus(&self.window).await?.refresh().await?)
    }

    /// Closes the tab as a user does.
    pub async fn close(self) -> Result<()> {
        Ok(self.browser.focus(&self.window).await?.close_window().await?)
    }

    /// The process that the page runs in, where that is known.
    #[must_use]
    pub const fn process(&self) -> Option<u32> {
        self.renderer
    }

    /// Ends the tab's process at once, as a crash or the system's memory killer does: no event handler runs.
    pub fn kill(&self) -> Result<()> {
        let renderer = self.renderer.context("the tab's process is not known: that takes /proc, which Linux has")?;
        let process = Pid::from_raw(i32::try_from(renderer)?);
        kill(process, Signal::SIGKILL).with_context(|| format!("the tab's process {process} is gone"))
    }

    /// Saves a picture of the tab as `<name>.png` in `CDI_SCREENSHOTS`, or else target/screenshots.
    pub async fn screenshot(&self, name: &str) -> Result<PathBuf> {
        let png = self.browser.focus(&self.window).await?.screenshot().await?;
        let dir = env::var_os("CDI_SCREENSHOTS")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/screenshots"), PathBuf::from);
        fs::create_dir_all(&dir)?;
        let path = dir.join(name).with_extension("png");
        fs::write(&path, png)?;
        Ok(path)
    }

    /// Goes to a screen of the page by its navigation.
    pub async fn go(&self, screen: &str) -> Result<()> {
        let script = "document.querySelector(`[data-nav=\"${arguments[0]}\"]`).click()";
        self.eval(script, vec![json!(screen)]).await?;
        let shown = "return !document.querySelector(`[data-screen=\"${args}\"]`).hidden";
        self.wait_until(shown, &json!(screen), Within::seconds(30)).await.map(drop)
    }

    /// Gives the page that many CSS pixels.
    pub async fn resize(&self, width: u32, height: u32) -> Result<()> {
        let params = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.debug("Emulation.setDeviceMetricsOverride", params).await.map(drop)
    }

    /// Sends a command of the browser's own debugging protocol to this tab.
    pub async fn debug(&self, command: &str, params: Value) -> Result<Value> {
        drop(self.browser.focus(&self.window).await?);
        self.browser.debug(command, params).await
    }

    /// The element, after going to the screen that it is on, as a user does.
    async fn seen(&self, testid: &str) -> Result<Element> {
        let script = "const element = document.querySelector(`[data-testid=\"${arguments[0]}\"]`); \
            return element?.closest('[data-screen][hidden]')?.dataset.screen ?? null;";
        if let Some(screen) = self.eval(script, vec![json!(testid)]).await?.as_str() {
            self.go(screen).await?;
        }
        self.find(testid).await
    }

    async fn find(&self, testid: &str) -> Result<Element> {
        let selector = format!("[data-testid=\"{testid}\"]");
        let client = self.browser.focus(&self.window).await?;
        client.find(Locator::Css(&selector)).await.with_context(|| format!("the page has no `{testid}`"))
    }
}
