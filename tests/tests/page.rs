//! The page as a product: its screens in both themes, at phone and desktop width; what it refuses to do; what it keeps,
//! opens without a network, and erases.

use anyhow::{Context, Result};
use cdi_tests::chat::JOIN;
use cdi_tests::{Browser, Relay, Tab, Within, references};
use serde_json::{Value, json};

/// Anything that needs no network.
const SOON: Within = Within::seconds(60);

const SCREENS: [&str; 5] = ["chat", "host", "swarm", "models", "identity"];

/// Asks this tab alone.
async fn ask(tab: &Tab<'_>, question: &str) -> Result<String> {
    tab.send("tab", question).await?;
    tab.answer().await
}

/// Every screen in both themes and at both widths; none of them is wider than its window.
#[tokio::test]
async fn every_screen_fits_and_is_pictured() -> Result<()> {
    let relay = Relay::start()?;
    let browser = Browser::start().await?;
    let url = format!("{}?compute=cpu", relay.url());
    let tab = Tab::join(&browser, &url).await?;
    tab.resize(1280, 900).await?;
    tab.screenshot("page-landing-alone").await?;
    tab.host().await?;
    let other = Tab::join(&browser, &url).await?;
    other.host().await?;
    let seen = "return Number(document.querySelector('[data-testid=peers]').dataset.connected) > 0";
    tab.wait_until(seen, &Value::Null, SOON).await?;
    tab.go("chat").await?;
    tab.resize(1280, 900).await?;
    tab.screenshot("page-landing-1280").await?;
    tab.resize(360, 740).await?;
    tab.screenshot("page-landing-360").await?;
    let question = &references()?.first().context("a reference")?.question.clone();
    ask(&tab, question).await?;
    for (width, height) in [(1280, 900), (360, 740)] {
        tab.resize(width, height).await?;
        for theme in ["dark", "light"] {
            tab.eval("document.documentElement.dataset.theme = arguments[0]", vec![json!(theme)]).await?;
            for screen in SCREENS {
                tab.go(screen).await?;
                tab.screenshot(&format!("page-{screen}-{width}-{theme}")).await?;
                let wide = "return [document.scrollingElement, ...document.querySelectorAll('[data-screen]:not([hidden])')] \
                    .map((element) => element.scrollWidth - element.clientWidth)";
                assert_eq!(
                    tab.eval(wide, vec![]).await?,
                    json!([0, 0]),
                    "{screen} at {width} is wider than its window"
                );
            }
        }
    }
    // Right to left, and without motion.
    tab.eval("document.documentElement.dir = 'rtl'", vec![]).await?;
    for screen in ["chat", "swarm"] {
        tab.go(screen).await?;
        tab.screenshot(&format!("page-{screen}-360-rtl")).await?;
    }
    let still = json!({ "features": [{ "name": "prefers-reduced-motion", "value": "reduce" }] });
    tab.debug("Emulation.setEmulatedMedia", still).await?;
    let moving = "return document.getAnimations().filter((animation) => animation.playState === 'running').length";
    assert_eq!(tab.eval(moving, vec![]).await?, json!(0));
    assert_eq!(browser.console_errors().await?, [""; 0]);
    Ok(())
}

/// No string becomes markup or a script, and nothing comes from elsewhere, whatever runs in the page.
#[tokio::test]
async fn the_page_runs_and_loads_nothing_foreign() -> Result<()> {
    let relay = Relay::start()?;
    let browser = Browser::start().await?;
    let tab = Tab::join(&browser, &relay.url()).await?;
    assert_eq!(tab.eval("return crossOriginIsolated", vec![]).await?, json!(true));
    for sink in [
        "document.createElement('div').innerHTML = '<b>x</b>'",
        "document.createElement('script').text = '1'",
        "new Worker('https://example.invalid/x.js')",
    ] {
        let script = format!("try {{ {sink}; return 'ran' }} catch (error) {{ return error.name }}");
        let refused = tab.eval(&script, vec![]).await?;
        assert_eq!(refused, json!("TypeError"), "{sink}");
    }
    let violated = "const [kind, done] = [arguments[0], arguments[arguments.length - 1]]; \
        document.addEventListener('securitypolicyviolation', (event) => done(event.effectiveDirective), { once: true }); \
        if (kind === 'img') { const image = new Image(); image.src = 'https://example.invalid/x.png'; document.body.append(image); } \
        if (kind === 'inline') { const box = document.createElement('p'); box.setAttribute('style', 'color: red'); } \
        if (kind === 'http') { fetch('http://example.invalid/').catch(() => {}); }";
    for (kind, directive) in [("img", "img-src"), ("inline", "style-src-attr"), ("http", "connect-src")] {
        assert_eq!(tab.eval_async(violated, vec![json!(kind)]).await?, json!(directive));
    }
    Ok(())
}

/// The account outlives a reload and is one for all tabs; erasing leaves nothing, in any tab.
#[tokio::test]
async fn the_account_stays_until_everything_is_erased() -> Result<()> {
    let relay = Relay::start()?;
    let browser = Browser::start().await?;
    let tab = Tab::join(&browser, &relay.url()).await?;
    let did = account(&tab).await?;
    assert!(did.starts_with("did:key:z6Mk"), "{did}");
    let other = Tab::join(&browser, &relay.url()).await?;
    assert_eq!(account(&other).await?, did);
    tab.reload().await?;
    assert_eq!(account(&tab).await?, did);

    tab.click("erase").await?;
    tab.screenshot("page-erase").await?;
    tab.click("erase-now").await?;
    for tab in [&tab, &other] {
        tab.wait_until("return !document.getElementById('boot-erased').hidden", &Value::Null, SOON).await?;
    }
    tab.screenshot("page-erased").await?;
    let left = "const done = arguments[arguments.length - 1]; \
        Promise.all([indexedDB.databases(), caches.keys(), navigator.serviceWorker.getRegistrations()]) \
        .then(([databases, caches, workers]) => done([databases.length, caches.length, workers.length, localStorage.length, \
            sessionStorage.length]));";
    assert_eq!(tab.eval_async(left, vec![]).await?, json!([0, 0, 0, 0, 0]));
    tab.eval("document.querySelector('#boot-erased a').click()", vec![]).await?;
    assert_ne!(account(&tab).await?, did, "a new account");
    Ok(())
}

async fn account(tab: &Tab<'_>) -> Result<String> {
    let shown = "const text = document.querySelector('[data-testid=account]')?.textContent; \
        return text?.startsWith('did:') ? text : null;";
    Ok(tab.wait_until(shown, &Value::Null, JOIN).await?.as_str().unwrap_or_default().to_owned())
}

/// With the relay gone the page opens from the service worker's cache and answers with what it stored.
#[tokio::test]
async fn the_page_opens_and_answers_offline() -> Result<()> {
    let mut relay = Relay::start()?;
    let browser = Browser::start().await?;
    let reference = references()?.into_iter().next().context("a reference")?;
    let tab = Tab::join(&browser, &format!("{}?compute=cpu", relay.url())).await?;
    // From the second visit on every file goes through the service worker.
    tab.wait_until("return navigator.serviceWorker.controller !== null", &Value::Null, SOON).await?;
    tab.reload().await?;
    tab.wait_for_state("connection", &["connected"], JOIN).await?;
    assert_eq!(ask(&tab, &reference.question).await?, reference.answer);

    relay.stop();
    tab.reload().await?;
    tab.wait_for_state("connection", &["offline"], JOIN).await?;
    // The conversation was kept.
    let kept = "return document.querySelectorAll('[data-testid=history-open]').length > 0";
    tab.wait_until(kept, &Value::Null, SOON).await?;
    assert_eq!(ask(&tab, &reference.question).await?, reference.answer, "offline");
    tab.screenshot("page-offline").await?;
    Ok(())
}
