//! One Chromium with a fresh profile and any number of tabs.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result};
use fantoccini::wd::{TimeoutConfiguration, WebDriverCompatibleCommand, WindowHandle};
use fantoccini::{Client, ClientBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use crate::driver::Driver;
use crate::renderer;
use crate::tab::Tab;

/// The flags and log settings that the browser unit tests use too.
const CAPABILITIES: &str = include_str!("../../crates/xtask/webdriver.json");
/// The longest that a script may run; every wait has its own, shorter deadline.
const SCRIPT_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a new tab works to be told from others: twenty ticks of the kernel's clock.
const WORK_MS: u32 = 200;

/// A headless Chromium. Tabs of one browser share its storage, as a user's do; commands to them run one at a time.
/// Dropping it ends all its processes.
pub struct Browser {
    client: Mutex<Client>,
    // Dropped in this order: the browser ends, then its files go.
    _driver: Driver,
    profile: TempDir,
}

impl Browser {
    /// Starts a browser that has never run before.
    pub async fn start() -> Result<Self> {
        Self::start_without("").await
    }

    /// As [`Browser::start`], without one of the flags.
    pub async fn start_without(flag: &str) -> Result<Self> {
        let profile = tempfile::Builder::new().prefix("cdi-profile-").tempdir()?;
        let driver = Driver::start()?;
        let client = ClientBuilder::new(HttpConnector::new())
            .capabilities(capabilities(&profile, flag)?)
            .connect(&driver.url())
            .await
            .context("chromedriver cannot start Chromium")?;
        let timeouts = TimeoutConfiguration::new(Some(SCRIPT_TIMEOUT), Some(Duration::from_secs(60)), None);
        client.update_timeouts(timeouts).await?;
        Ok(Self { client: Mutex::new(client), _driver: driver, profile })
    }

    /// Opens an address in a new tab and returns once the document is loaded.
    pub async fn open(&self, url: &str) -> Result<Tab<'_>> {
        let client = self.client.lock().await;
        let before = self.renderers();
        let window = client.new_window(true).await?.handle;
        client.switch_to_window(window.clone()).await?;
        client.goto(url).await.with_context(|| format!("cannot open {url}"))?;
        let renderer = self.new_renderer(&before, &client).await?;
        Ok(Tab::new(self, window, renderer))
    }

    /// Every error since the last call: exceptions, `console.error`, failed loads; of pages and workers alike.
    pub async fn console_errors(&self) -> Result<Vec<String>> {
        let entries = self.client.lock().await.issue_cmd(BrowserLog).await?;
        let entries: Vec<LogEntry> = serde_json::from_value(entries)?;
        Ok(entries.into_iter().filter(|entry| entry.level == "SEVERE").map(|entry| entry.message).collect())
    }

    /// Sends a command of the browser's own debugging protocol, to the tab with the focus.
    pub async fn debug(&self, command: &str, params: Value) -> Result<Value> {
        let client = self.client.lock().await;
        let command = DebugCommand { command: command.to_owned(), params };
        Ok(client.issue_cmd(command).await?)
    }

    /// Ends the process that drives the GPU, as a driver's crash does; the browser starts another one.
    pub fn kill_gpu(&self) -> Result<()> {
        let process = renderer::gpu_process(self.profile.path()).context("no GPU process: that takes /proc")?;
        let process = Pid::from_raw(i32::try_from(process)?);
        kill(process, Signal::SIGKILL).with_context(|| format!("the GPU process {process} is gone"))
    }

    /// The session, with the next commands going to `window`.
    pub(crate) async fn focus(&self, window: &WindowHandle) -> Result<MutexGuard<'_, Client>> {
        let client = self.client.lock().await;
        client.switch_to_window(window.clone()).await?;
        Ok(client)
    }

    fn renderers(&self) -> BTreeSet<u32> {
        renderer::processes(self.profile.path())
    }

    /// The process of the tab with the focus, opened since `before`. There may be others that new: the empty page had
    /// one before the loaded page got its own (cross-origin isolation does that), and the browser's first tab starts
    /// late on a busy machine. All of those idle, so the one that works when this tab is told to is the tab's.
    async fn new_renderer(&self, before: &BTreeSet<u32>, client: &Client) -> Result<Option<u32>> {
        let ticks_before: Vec<(u32, u64)> =
            self.renderers().difference(before).map(|id| (*id, renderer::cpu_ticks(*id))).collect();
        let work = format!("const end = performance.now() + {WORK_MS}; while (performance.now() < end);");
        client.execute(&work, vec![]).await?;
        let worked = ticks_before.iter().map(|(id, ticks)| (renderer::cpu_ticks(*id).saturating_sub(*ticks), *id));
        Ok(worked.max().map(|(_, id)| id))
    }
}

fn capabilities(profile: &TempDir, without: &str) -> Result<Map<String, Value>> {
    let mut capabilities: Map<String, Value> = serde_json::from_str(CAPABILITIES)?;
    let args = capabilities
        .get_mut("goog:chromeOptions")
        .and_then(|options| options.get_mut("args")?.as_array_mut())
        .context("webdriver.json has no goog:chromeOptions.args")?;
    args.retain(|arg| arg != without);
    args.extend([
        json!("--headless=new"),
        json!("--window-size=1280,900"),
        json!(format!("--user-data-dir={}", profile.path().display())),
        // A process kept in reserve would be taken for a tab's.
        json!("--disable-features=SpareRendererForSitePerProcess"),
    ]);
    if nix::unistd::geteuid().is_root() {
        args.push(json!("--no-sandbox"));
    }
    Ok(capabilities)
}

/// chromedriver's own command that passes one on to the browser.
#[derive(Debug)]
struct DebugCommand {
    command: String,
    params: Value,
}

impl WebDriverCompatibleCommand for DebugCommand {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/goog/cdp/execute", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(json!({ "cmd": self.command, "params": self.params }).to_string()))
    }
}

#[derive(Deserialize)]
struct LogEntry {
    level: String,
    message: String,
}

/// chromedriver's own command for what the console has shown since it was last asked.
#[derive(Debug)]
struct BrowserLog;

impl WebDriverCompatibleCommand for BrowserLog {
    fn endpoint(&self, base: &url::Url, session: Option<&str>) -> Result<url::Url, url::ParseError> {
        base.join(&format!("session/{}/se/log", session.unwrap_or_default()))
    }

    fn method_and_body(&self, _: &url::Url) -> (http::Method, Option<String>) {
        (http::Method::POST, Some(json!({ "type": "browser" }).to_string()))
    }
}
