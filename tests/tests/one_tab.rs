//! One tab and a relay: the page opens, joins, and answers a question by itself.

use anyhow::{Context, Result};
use cdi_tests::chat::JOIN;
use cdi_tests::{Browser, Reference, Relay, Tab, references};

#[tokio::test]
async fn a_tab_answers_by_itself_and_again_after_a_reload() -> Result<()> {
    let relay = Relay::start()?;
    let browser = Browser::start().await?;
    let references = references()?;
    let [first, second, ..] = &references[..] else { anyhow::bail!("fewer than two reference answers") };

    let tab = Tab::join(&browser, &relay.url()).await?;
    tab.screenshot("one-tab-connected").await?;
    ask(&tab, first).await?;
    tab.screenshot("one-tab-answered").await?;

    tab.reload().await?;
    tab.wait_for_state("connection", &["connected"], JOIN).await?;
    ask(&tab, second).await?;
    tab.screenshot("one-tab-reloaded").await?;

    assert_eq!(browser.console_errors().await?, [""; 0]);
    Ok(())
}

/// Asks this tab alone and compares the answer with the reference, letter for letter.
async fn ask(tab: &Tab<'_>, reference: &Reference) -> Result<()> {
    tab.send("tab", &reference.question).await?;
    assert_eq!(tab.answer().await?, reference.answer, "{}", reference.question);
    let tokens = tab.attribute("answer", "data-tokens").await?.context("the answer has no data-tokens")?;
    assert!(tokens.parse::<u32>()? > 0, "an answer has tokens, not {tokens}");
    Ok(())
}
