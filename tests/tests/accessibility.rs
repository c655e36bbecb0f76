//! axe-core over every screen, in both themes and at both widths, of a page that hosts and has answered.

use std::fs;

use anyhow::{Context, Result, ensure};
use cdi_tests::{Browser, Relay, Site, Tab, references};
use serde_json::{Value, json};

/// Impacts that fail the test; the others are printed.
const GRAVE: [&str; 2] = ["serious", "critical"];

#[tokio::test]
async fn axe_finds_nothing_serious_on_any_screen() -> Result<()> {
    let axe = Site::dir().join("axe.min.js");
    let axe = fs::read_to_string(&axe).with_context(|| format!("cannot read {}", axe.display()))?;
    let relay = Relay::start()?;
    let browser = Browser::start().await?;
    let tab = Tab::join(&browser, &format!("{}?compute=cpu", relay.url())).await?;
    tab.eval(&axe, vec![]).await?;
    let mut grave = Vec::new();
    // The landing first, then with an answer, a kept chat, open settings and hosted layers.
    grave.extend(findings(&tab, "landing").await?);
    tab.click("settings").await?;
    let question = &references()?.first().context("a reference")?.question.clone();
    tab.send("tab", question).await?;
    tab.answer().await?;
    tab.host().await?;
    tab.click("erase").await?;
    for (width, height) in [(1280, 900), (360, 740)] {
        tab.resize(width, height).await?;
        for theme in ["dark", "light"] {
            tab.eval("document.documentElement.dataset.theme = arguments[0]", vec![json!(theme)]).await?;
            for screen in ["chat", "host", "swarm", "models", "identity"] {
                tab.go(screen).await?;
                grave.extend(findings(&tab, &format!("{screen}, {width}, {theme}")).await?);
            }
        }
    }
    ensure!(grave.is_empty(), "{grave:#?}");
    Ok(())
}

/// What axe finds on what is shown, printed; the grave part of it.
async fn findings(tab: &Tab<'_>, shown: &str) -> Result<Vec<String>> {
    let script = "const done = arguments[arguments.length - 1]; \
        axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) => done(violations.map((found) => \
        [found.impact, found.id, found.nodes.map((node) => node.target.join(' ')).join(', ')])));";
    let found: Vec<(Value, String, String)> = serde_json::from_value(tab.eval_async(script, vec![]).await?)?;
    let mut grave = Vec::new();
    for (impact, rule, nodes) in found {
        let line = format!("{shown}: {impact} {rule}: {nodes}");
        println!("{line}");
        if GRAVE.iter().any(|grave| impact == *grave) {
            grave.push(line);
        }
    }
    Ok(grave)
}
