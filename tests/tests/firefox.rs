//! Firefox and Chromium in one swarm, on the CPU tier: Firefox joins, hosts, and asks; so does Chromium.

use anyhow::{Context, Result, ensure};
use cdi_tests::chat::{ANSWER, HOST, JOIN, SEEN};
use cdi_tests::{Browser, Firefox, FirefoxTab, Relay, Tab};
use serde_json::{Value, json};

const QUESTION: &str = "Write a short story about a girl called Mira.";
/// The greedy answer of Hugging Face `transformers` begins so.
const BEGINNING: &str = "Once upon a time there was a quiet girl named Toby, who lived in a warm desert.";

/// Every layer has a host.
const COVERED: &str = "const cells = [...document.querySelectorAll('[data-testid=coverage] [data-replicas]')]; \
    return cells.length === 8 && cells.every((cell) => Number(cell.dataset.replicas) >= 1);";
/// This tab has links to all hosts. One that has not would route round a host whose first link takes its time.
const CONNECTED: &str = "return document.querySelector('[data-testid=peers]').dataset.connected === '3'";
const MAY_HOST: &str = "return !document.querySelector('[data-testid=host-shard]').disabled";
const OWN: &str = "return document.querySelector('.peer-own')?.dataset.peer";
const PIPELINE: &str = "return [...document.querySelectorAll('[data-testid=pipeline] [data-peer]')] \
    .map((stage) => [stage.dataset.peer, stage.dataset.link]);";

async fn chromium_host<'a>(browser: &'a Browser, url: &str) -> Result<Tab<'a>> {
    let tab = Tab::join(browser, url).await?;
    tab.host().await?;
    Ok(tab)
}

fn join<'a>(firefox: &'a Firefox, url: &str) -> Result<FirefoxTab<'a>> {
    let tab = firefox.open(url)?;
    tab.wait_for_state("connection", &["connected"], JOIN)?;
    Ok(tab)
}

#[tokio::test]
async fn firefox_and_chromium_host_and_ask_together() -> Result<()> {
    let firefox = Firefox::start()?;
    println!("{}", firefox.version());
    let (relay, browser) = (Relay::start()?, Browser::start().await?);
    let url = format!("{}?compute=cpu", relay.url());

    // Three hosts, one of them Firefox, hold a third of the layers each.
    let host = join(&firefox, &url)?;
    host.wait_until(MAY_HOST, &json!(null), JOIN)?;
    host.click("host-shard")?;
    host.wait_for_state("hosting", &["hosting"], HOST)?;
    let host_id = host.wait_until(OWN, &json!(null), SEEN)?;
    let _hosts = [chromium_host(&browser, &url).await?, chromium_host(&browser, &url).await?];

    // Chromium asks.
    let asking = Tab::join(&browser, &url).await?;
    asking.wait_until(COVERED, &json!(null), SEEN).await?;
    asking.wait_until(CONNECTED, &json!(null), SEEN).await?;
    asking.send("swarm", QUESTION).await?;
    let text = asking.answer().await?;
    ensure!(text.starts_with(BEGINNING), "{text}");
    let stages = asking.eval(PIPELINE, vec![]).await?;
    let changes = asking.attribute("pipeline", "data-changes").await?.unwrap_or_default();
    println!("changes of the route: {changes}; {}", asking.text("answer-stats").await?.replace('\n', " "));
    println!("Chromium asked; stages and links: {stages}");
    let link = stages.as_array().into_iter().flatten().find(|stage| stage[0] == host_id);
    let link = link.with_context(|| format!("{host_id} computed nothing: {stages}"))?;
    assert_eq!(link[1], "direct", "the link between Chromium and Firefox");

    // Firefox asks.
    let asking = join(&firefox, &url)?;
    asking.wait_until(COVERED, &json!(null), SEEN)?;
    asking.fill("route-mode", "swarm")?;
    asking.fill("prompt", QUESTION)?;
    asking.click("send")?;
    let state = asking.wait_for_state("answer", &["done", "error"], ANSWER)?;
    ensure!(state == "done", "Firefox says: {}", asking.text("error")?);
    let text = asking.text("answer")?;
    ensure!(text.starts_with(BEGINNING), "{text}");
    let stages: Value = asking.run(PIPELINE, &json!(null))?;
    println!("Firefox asked; stages and links: {stages}");
    Ok(())
}
