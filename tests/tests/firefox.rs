//! Firefox and Chromium in one swarm, on the CPU tier: Firefox joins, hosts, and asks; so does Chromium.

use anyhow::{Context, Result, ensure};
use cdi_tests::{Browser, Firefox, FirefoxTab, Relay, Tab, Within};
use serde_json::{Value, json};

const JOIN: Within = Within::seconds(60);
const HOST: Within = Within::seconds(90);
const SEEN: Within = Within::seconds(30);
const ANSWER: Within = Within::seconds(240);

const QUESTION: &str = "Write a short story about a girl called Mira.";
/// The greedy answer of Hugging Face `transformers` begins so.
const BEGINNING: &str = "Once upon a time there was a quiet girl named Toby, who lived in a warm desert.";

/// Every layer has a host.
const COVERED: &str = "const cells = [...document.querySelectorAll('[data-testid=coverage] [data-replicas]')]; \
    return cells.length === 8 && cells.every((cell) => Number(cell.dataset.replicas) >= 1);";
const MAY_HOST: &str = "return !document.querySelector('[data-testid=host-shard]').disabled";
const OWN: &str = "return document.querySelector('.peer-own')?.dataset.peer";
const PIPELINE: &str = "return [...document.querySelectorAll('[data-testid=pipeline] [data-peer]')] \
    .map((stage) => [stage.dataset.peer, stage.dataset.link]);";

async fn chromium_host<'a>(browser: &'a Browser, url: &str) -> Result<Tab<'a>> {
    let tab = browser.open(url).await?;
    tab.wait_for_state("connection", &["connected"], JOIN).await?;
    tab.wait_until(MAY_HOST, &json!(null), JOIN).await?;
    tab.click("host-shard").await?;
    tab.wait_for_state("hosting", &["hosting"], HOST).await?;
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
    let asking = browser.open(&url).await?;
    asking.wait_for_state("connection", &["connected"], JOIN).await?;
    asking.wait_until(COVERED, &json!(null), SEEN).await?;
    asking.choose("route-mode", "swarm").await?;
    asking.type_into("prompt", QUESTION).await?;
    asking.click("send").await?;
    let state = asking.wait_for_state("answer", &["done", "error"], ANSWER).await?;
    ensure!(state == "done", "Chromium says: {}", asking.text("error").await?);
    let text = asking.text("answer").await?;
    ensure!(text.trim().starts_with(BEGINNING), "{text}");
    let stages = asking.eval(PIPELINE, vec![]).await?;
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
