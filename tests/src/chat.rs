//! What a user of the page does, step by step: join, host, ask, read the answer.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use serde_json::json;

use crate::{Browser, Tab, Within};

/// From navigation to a connected node, including the download of the page.
pub const JOIN: Within = Within::seconds(60);
/// From pressing the button to serving; WebGPU on a processor is slow.
pub const HOST: Within = Within::seconds(120);
/// From serving to being seen by others (MOD-10).
pub const SEEN: Within = Within::seconds(30);
/// From a question to the last token, failovers included.
pub const ANSWER: Within = Within::seconds(240);

impl<'a> Tab<'a> {
    /// Opens the page and waits until its node is connected.
    pub async fn join(browser: &'a Browser, url: &str) -> Result<Self> {
        let opened = Instant::now();
        let tab = browser.open(url).await?;
        tab.wait_for_state("connection", &["connected"], JOIN).await?;
        println!("connected {:.1} s after opening", opened.elapsed().as_secs_f64());
        Ok(tab)
    }

    /// Hosts with the settings of the page, and returns the layers.
    pub async fn host(&self) -> Result<String> {
        let ready = "return !document.querySelector('[data-testid=host-shard]').disabled";
        self.wait_until(ready, &json!(null), JOIN).await?;
        self.click("host-shard").await?;
        self.hosted().await
    }

    /// Waits until it hosts, and returns the layers.
    pub async fn hosted(&self) -> Result<String> {
        self.wait_for_state("hosting", &["hosting"], HOST).await?;
        self.attribute("hosting", "data-layers").await?.context("a host shows its layers")
    }

    /// Asks in a chat of its own: earlier turns would be part of the prompt.
    pub async fn send(&self, route: &str, question: &str) -> Result<()> {
        if self.attribute("answer", "data-state").await?.as_deref() != Some("idle") {
            self.click("new-chat").await?;
            self.wait_for_state("answer", &["idle"], JOIN).await?;
        }
        self.choose("route-mode", route).await?;
        self.type_into("prompt", question).await?;
        self.click("send").await
    }

    /// Waits for the end of the answer, and returns its text.
    pub async fn answer(&self) -> Result<String> {
        let state = self.wait_for_state("answer", &["done", "error"], ANSWER).await?;
        ensure!(state == "done", "the page says: {}", self.text("error").await?);
        Ok(self.text("answer").await?.trim().to_owned())
    }

    /// Waits for so many tokens of the answer, and returns how many there are.
    pub async fn tokens(&self, least: u32) -> Result<u32> {
        let condition = "const tokens = Number(document.querySelector('[data-testid=answer]').dataset.tokens); \
            return tokens >= args ? tokens : null;";
        let reached = self.wait_until(condition, &json!(least), ANSWER).await?;
        Ok(u32::try_from(reached.as_u64().unwrap_or(0))?)
    }
}
