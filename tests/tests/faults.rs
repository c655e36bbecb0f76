//! What a machine can refuse or take away: the GPU while it computes, WebGPU altogether, and storage. The tab goes on
//! with what is left, and says so.

use anyhow::{Context, Result};
use cdi_tests::chat::{ANSWER, HOST, JOIN, SEEN};
use cdi_tests::{Browser, Reference, Relay, Tab, references};
use serde_json::{Value, json};

/// Room for the tokenizer and some of the layers.
const QUOTA_BYTES: u64 = 3_000_000;
/// Layers of the model.
const LAYERS: &str = "8";

/// Hosts the whole model.
async fn host_all(tab: &Tab<'_>) -> Result<()> {
    tab.choose("host-layers", LAYERS).await?;
    assert_eq!(tab.host().await?, "0-7");
    Ok(())
}

/// The longest of the reference answers.
fn longest() -> Result<Reference> {
    references()?.into_iter().max_by_key(|reference| reference.answer.len()).context("no reference answers")
}

/// Waits until the page shows `text` in any element with this `testid`.
async fn says(tab: &Tab<'_>, testid: &str, text: &str) -> Result<()> {
    let condition = "return [...document.querySelectorAll(`[data-testid=\"${args[0]}\"]`)] \
        .some((element) => element.textContent.includes(args[1]));";
    tab.wait_until(condition, &json!([testid, text]), HOST).await.with_context(|| format!("`{testid}`: {text}"))?;
    Ok(())
}

#[tokio::test]
async fn a_host_that_loses_its_gpu_goes_on_with_the_cpu() -> Result<()> {
    let relay = Relay::start()?;
    let browser = Browser::start().await?;
    let story = longest()?;
    let host = Tab::join(&browser, &format!("{}?compute=gpu", relay.url())).await?;
    host.wait_for("compute-tier", "data-tier", &["gpu"], JOIN).await?;
    host_all(&host).await?;
    let asking = Tab::join(&browser, &format!("{}?compute=cpu", relay.url())).await?;
    let seen = "const cells = [...document.querySelectorAll('[data-testid=coverage] [data-replicas]')]; \
        return cells.length === 8 && cells.every((cell) => Number(cell.dataset.replicas) === 1);";
    asking.wait_until(seen, &Value::Null, SEEN).await?;

    // One that only stands by: nothing that it computes can tell it.
    let idle = Tab::join(&browser, &format!("{}?compute=gpu", relay.url())).await?;
    idle.wait_for("compute-tier", "data-tier", &["gpu"], JOIN).await?;

    asking.send("swarm", &story.question).await?;
    let tokens = "return Number(document.querySelector('[data-testid=answer]').dataset.tokens) >= 5";
    asking.wait_until(tokens, &Value::Null, ANSWER).await?;
    browser.kill_gpu()?;
    // The answer is continued by another node, here the asking one.
    assert_eq!(asking.answer().await?, story.answer, "after the loss");
    let changes = asking.attribute("pipeline", "data-changes").await?.unwrap_or_default();
    assert!(changes.parse::<u32>()? > 0, "the route changed: {changes}");

    // The host says what happened, loads its layers again and serves.
    host.wait_for("compute-tier", "data-tier", &["cpu"], HOST).await?;
    says(&host, "notice", "The GPU was lost").await?;
    idle.wait_for("compute-tier", "data-tier", &["cpu"], HOST).await?;
    host.wait_for_state("hosting", &["hosting"], HOST).await?;
    assert_eq!(host.attribute("hosting", "data-layers").await?.as_deref(), Some("0-7"));
    host.screenshot("gpu-lost").await?;
    asking.wait_until(seen, &Value::Null, SEEN).await?;
    asking.send("swarm", &story.question).await?;
    assert_eq!(asking.answer().await?, story.answer, "computed by the host again");
    let link = "return [...document.querySelectorAll('[data-testid=pipeline] [data-peer]')].map((s) => s.dataset.link)";
    assert_eq!(asking.eval(link, vec![]).await?, json!(["direct"]));
    Ok(())
}

/// A browser whose WebGPU gives no adapter: the processor computes, and the page says why.
#[tokio::test]
async fn where_webgpu_is_refused_the_cpu_computes_and_the_page_says_why() -> Result<()> {
    let relay = Relay::start()?;
    let reference = references()?.into_iter().next().context("no reference answers")?;
    // Without the flag this Chromium has WebGPU, and no adapter that it lets pages use.
    let browser = Browser::start_without("--enable-unsafe-webgpu").await?;
    for (query, reason) in [("?compute=gpu", "The GPU that you chose cannot be used"), ("", "No usable GPU")] {
        let tab = Tab::join(&browser, &format!("{}{query}", relay.url())).await?;
        tab.wait_for("compute-tier", "data-tier", &["cpu"], JOIN).await?;
        says(&tab, "compute-reason", reason).await?;
        says(&tab, "compute-reason", "no GPU adapter").await?;
        tab.screenshot("webgpu-refused").await?;
        tab.send("tab", &reference.question).await?;
        assert_eq!(tab.answer().await?, reference.answer);
    }
    Ok(())
}

#[tokio::test]
async fn a_host_whose_storage_is_full_goes_on_in_memory_and_says_so() -> Result<()> {
    let relay = Relay::start()?;
    let browser = Browser::start().await?;
    let reference = references()?.into_iter().next().context("no reference answers")?;
    let url = relay.url();
    // Before anything is stored: the browser keeps in mind for a while how much room there is. It holds for as long as
    // the tab that asked for it is open.
    let _first = browser.open(&format!("{url}icon.svg")).await?;
    let params = json!({ "origin": url.trim_end_matches('/'), "quotaSize": QUOTA_BYTES });
    browser.debug("Storage.overrideQuotaForOrigin", params).await?;
    let tab = Tab::join(&browser, &format!("{url}?compute=cpu")).await?;
    host_all(&tab).await?;
    let message = tab.eval("return document.querySelector('.hosting-message')?.textContent ?? ''", vec![]).await?;
    let message = message.as_str().unwrap_or_default();
    assert!(message.contains("storage is full") && message.contains("kept in memory"), "{message}");
    tab.screenshot("storage-full").await?;
    tab.send("tab", &reference.question).await?;
    assert_eq!(tab.answer().await?, reference.answer);
    // What it computed was measured.
    let measured = "return Number(document.querySelector('[data-testid=compute-speed]')?.dataset.gflops) > 0";
    tab.wait_until(measured, &Value::Null, SEEN).await?;
    Ok(())
}
