//! Four tabs: three host a third of the layers each, the fourth asks. Whatever happens to a host, the text stays that
//! of one process.

use std::time::Instant;

use anyhow::{Context, Result};
use cdi_tests::chat::{ANSWER, JOIN, SEEN};
use cdi_tests::{Browser, Relay, Tab};
use serde_json::json;

const STORY: &str = "Write a short story about a girl called Mira.";
/// The greedy answer of Hugging Face `transformers` to [`STORY`], 101 tokens and the end of text.
const TEXT: &str = "Once upon a time there was a quiet girl named Toby, who lived in a warm desert. The sand shone like \
    gold in the evening. One morning Toby found a big stone in the middle of the road. He pushed with all his strength, \
    but the stone did not move. Maya the bat fetched a long branch and put it under the stone. With a loud crack the \
    stone moved, and the road was free. And if you listen on a quiet evening, you can still hear them laugh.";

/// A stage as the page shows it.
#[derive(Debug, Clone, PartialEq)]
struct Stage {
    peer: String,
    layers: String,
    link: String,
}

/// Waits until every layer has as many replicas as `least`.
async fn covered(tab: &Tab<'_>, least: u32) -> Result<()> {
    let condition = "const cells = [...document.querySelectorAll('[data-testid=coverage] [data-replicas]')]; \
        return cells.length === 8 && cells.every((cell) => Number(cell.dataset.replicas) >= args);";
    tab.wait_until(condition, &json!(least), SEEN).await?;
    Ok(())
}

async fn pipeline(tab: &Tab<'_>) -> Result<Vec<Stage>> {
    let script = "return [...document.querySelectorAll('[data-testid=pipeline] [data-peer]')] \
        .map((stage) => [stage.dataset.peer, stage.dataset.layers, stage.dataset.link]);";
    let rows: Vec<[String; 3]> = serde_json::from_value(tab.eval(script, vec![]).await?)?;
    Ok(rows.into_iter().map(|[peer, layers, link]| Stage { peer, layers, link }).collect())
}

/// The first and last layer of `0-3`.
fn range(layers: &str) -> Result<(u32, u32)> {
    let (first, last) = layers.split_once('-').context("not a range")?;
    Ok((first.parse()?, last.parse()?))
}

/// Three hosts, the layers that each holds, and an asking tab that sees them.
async fn swarm<'a>(browser: &'a Browser, url: &str) -> Result<(Vec<(Tab<'a>, String)>, Tab<'a>)> {
    let mut hosts = Vec::new();
    for _ in 0..3 {
        let tab = Tab::join(browser, url).await?;
        let layers = tab.host().await?;
        hosts.push((tab, layers));
    }
    let held: Vec<&str> = hosts.iter().map(|(_, layers)| layers.as_str()).collect();
    assert_eq!(held, ["0-2", "3-5", "5-7"]);
    let asking = Tab::join(browser, url).await?;
    covered(&asking, 1).await?;
    Ok((hosts, asking))
}

/// The whole story, once for each thing that can happen to a host.
async fn four_tabs(compute: &str) -> Result<()> {
    let relay = Relay::start()?;
    let browser = Browser::start().await?;
    let url = format!("{}?compute={compute}", relay.url());
    let (mut hosts, asking) = swarm(&browser, &url).await?;
    hosts[0].0.screenshot(&format!("{compute}-hosting")).await?;

    // Nothing happens: three peers compute, over direct links, and the text is that of one process.
    asking.send("swarm", STORY).await?;
    assert_eq!(asking.answer().await?, TEXT);
    let calm = pipeline(&asking).await?;
    asking.screenshot(&format!("{compute}-answered")).await?;
    // Only who asks fetches what turns text into tokens.
    assert!(reads_text(&asking).await?);
    for (tab, _) in &hosts {
        assert!(!reads_text(tab).await?, "a host fetched the text module");
    }
    assert_eq!(calm.len(), 3, "{calm:?}");
    assert!(calm.iter().all(|stage| stage.link == "direct"), "{calm:?}");
    println!("{compute}: {}", asking.text("answer-stats").await?.replace('\n', " "));
    // Rows went past the pages: every host heard or sent some over a channel of its worker's own.
    for (tab, _) in &hosts {
        let path =
            "return [...document.querySelectorAll('[data-path=worker]')].map((cell) => cell.title).join() || null";
        println!("{compute}: worker path: {}", tab.wait_until(path, &json!(null), SEEN).await?);
    }
    // The direct links were made with the relay's STUN service.
    let answered = asking.eval("return fetch('/healthz').then((answer) => answer.json())", vec![]).await?;
    println!("{compute}: {} STUN requests answered", answered["stun_answered"]);
    assert!(answered["stun_answered"].as_u64() > Some(0), "{answered}");

    // The same, alone.
    asking.send("tab", STORY).await?;
    assert_eq!(asking.answer().await?, TEXT, "alone");
    println!("{compute}, this tab: {}", asking.text("answer-stats").await?.replace('\n', " "));

    // A host's process is killed while it computes.
    let victim = calm[1].clone();
    let at = hosts.iter().position(|(_, layers)| *layers == "3-5").context("a host of the middle")?;
    let (tab, _) = hosts.remove(at);
    asking.send("swarm", STORY).await?;
    asking.tokens(10).await?;
    tab.kill()?;
    let killed = Instant::now();
    let before = asking.tokens(10).await?;
    let changed = "return Number(document.querySelector('[data-testid=pipeline]').dataset.changes) > 0";
    asking.wait_until(changed, &json!(null), ANSWER).await?;
    let at_change = asking.tokens(1).await?;
    asking.tokens(at_change + 1).await?;
    println!("{compute}: next token {:.1} s after the kill", killed.elapsed().as_secs_f64());
    assert_eq!(asking.answer().await?, TEXT, "after a kill");
    let total = asking.tokens(1).await?;
    assert!(total >= 100 && total - before >= 60, "{before} of {total} tokens before the kill");
    let after = pipeline(&asking).await?;
    asking.screenshot(&format!("{compute}-after-kill")).await?;
    assert!(after.iter().all(|stage| stage.peer != victim.peer), "{after:?}");
    let gap = range(&victim.layers)?.0;
    let taken =
        after.iter().find(|stage| range(&stage.layers).is_ok_and(|(first, last)| (first..=last).contains(&gap)));
    let taken = taken.with_context(|| format!("the gap of {victim:?} is filled in {after:?}"))?;
    println!("{compute}: {} took over layers {} ({})", taken.peer, taken.layers, taken.link);
    println!("{compute}: {}", asking.text("answer-stats").await?.replace('\n', " "));
    // Whoever took over shows what it holds now.
    let mut shown = Vec::new();
    for (tab, _) in &hosts {
        shown.push(tab.attribute("hosting", "data-layers").await?.unwrap_or_default());
    }
    assert!(shown.iter().any(|layers| layers == "0-4" || layers == "0-5" || layers == "3-7"), "{shown:?}");

    // With a spare present, the first host of the route is closed as a user closes a tab.
    let spare = Tab::join(&browser, &url).await?;
    let layers = spare.host().await?;
    hosts.push((spare, layers));
    covered(&asking, 1).await?;
    asking.send("swarm", STORY).await?;
    asking.tokens(10).await?;
    let first = pipeline(&asking).await?.first().context("a route")?.peer.clone();
    for (tab, _) in hosts {
        if own_peer(&tab).await? == first {
            tab.close().await?;
            break;
        }
    }
    assert_eq!(asking.answer().await?, TEXT, "after a close");
    let after = pipeline(&asking).await?;
    assert!(after.iter().all(|stage| stage.peer != first), "{after:?}");
    println!("{compute}: {}", asking.text("answer-stats").await?.replace('\n', " "));
    Ok(())
}

/// Whether the tab started its text worker.
async fn reads_text(tab: &Tab<'_>) -> Result<bool> {
    let script =
        "return performance.getEntriesByType('resource').some((entry) => entry.name.endsWith('/text-boot.js'))";
    Ok(tab.eval(script, vec![]).await? == json!(true))
}

/// The tab's own peer id, as its list of nodes shows it.
async fn own_peer(tab: &Tab<'_>) -> Result<String> {
    let peer = tab.eval("return document.querySelector('.peer-own').dataset.peer", vec![]).await?;
    Ok(peer.as_str().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn four_tabs_on_the_cpu() -> Result<()> {
    four_tabs("cpu").await
}

#[tokio::test]
async fn four_tabs_on_the_gpu() -> Result<()> {
    four_tabs("gpu").await
}

#[tokio::test]
async fn two_tabs_of_one_profile_are_two_nodes_and_a_reload_hosts_from_storage() -> Result<()> {
    let relay = Relay::start()?;
    let browser = Browser::start().await?;
    let url = format!("{}?compute=cpu", relay.url());
    let first = Tab::join(&browser, &url).await?;
    let layers = first.host().await?;
    let fetched = first.attribute("hosting", "data-fetched-bytes").await?.context("bytes")?;
    assert!(fetched.parse::<u64>()? > 100_000, "{fetched} bytes the first time");
    let second = Tab::join(&browser, &url).await?;
    let other = "return document.querySelector('[data-testid=peers]').dataset.count === '1'";
    second.wait_until(other, &json!(null), SEEN).await?;
    first.wait_until(other, &json!(null), SEEN).await?;

    first.reload().await?;
    assert_eq!(first.hosted().await?, layers);
    assert_eq!(first.attribute("hosting", "data-fetched-bytes").await?.as_deref(), Some("0"));
    first.screenshot("reloaded-host").await?;

    // Each tab finds its own store again, whichever comes first.
    let layers = second.host().await?;
    first.reload().await?;
    second.reload().await?;
    for (tab, layers) in [(&second, layers), (&first, first.hosted().await?)] {
        assert_eq!(tab.hosted().await?, layers);
        assert_eq!(tab.attribute("hosting", "data-fetched-bytes").await?.as_deref(), Some("0"));
    }
    Ok(())
}

/// The relay goes and comes back: direct links carry answers meanwhile, and the tabs dial it again by themselves.
#[tokio::test]
async fn answers_go_on_without_the_relay() -> Result<()> {
    let mut relay = Relay::start()?;
    let browser = Browser::start().await?;
    let url = format!("{}?compute=cpu", relay.url());
    let (_hosts, asking) = swarm(&browser, &url).await?;
    asking.send("swarm", STORY).await?;
    assert_eq!(asking.answer().await?, TEXT);
    relay.stop();
    asking.wait_for_state("connection", &["offline"], JOIN).await?;
    asking.send("swarm", STORY).await?;
    assert_eq!(asking.answer().await?, TEXT);
    assert!(pipeline(&asking).await?.iter().all(|stage| stage.link == "direct"));
    asking.screenshot("without-relay").await?;
    relay.start_again()?;
    asking.wait_for_state("connection", &["connected"], JOIN).await?;
    Ok(())
}
