//! The nodes and the relay against js-libp2p as published: in a page and in Node.

use anyhow::{Context, Result, ensure};
use cdi_tests::{Browser, NodePeer, Peer, PeerTab, Relay, Site, Within};
use serde_json::{Value, json};

const MIB: usize = 1024 * 1024;
/// Over the limit of an announcement, and within that of a gossip frame: refused by us, not by the framing.
const OVERSIZE: usize = 17 * 1024;

fn ws(relay: &Relay) -> Result<String> {
    relay.dialled_over("ws")?.context("the relay announces no WebSocket")
}

fn circuit(relay: &str) -> String {
    format!("{relay}/p2p-circuit")
}

/// The address of a direct link to `peer`, signalled over `relay`.
fn direct(relay: &str, peer: &impl Peer) -> String {
    format!("{relay}/p2p-circuit/webrtc/p2p/{}", peer.id())
}

/// A js page that is reachable over `relay`: relayed and by WebRTC.
async fn js_page<'a>(browser: &'a Browser, site: Site, relay: &str) -> Result<PeerTab<'a>> {
    let js = PeerTab::start(browser, site, "js", json!({ "listen": [circuit(relay), "/webrtc"] })).await?;
    js.call("listening", json!(["/p2p-circuit/webrtc"])).await?;
    Ok(js)
}

/// Our network in a page, reachable over `relay`.
async fn rust_page<'a>(browser: &'a Browser, site: Site, relay: &str) -> Result<PeerTab<'a>> {
    let rust = PeerTab::start(browser, site, "links", json!({ "relays": [relay] })).await?;
    rust.call("join", json!([])).await?;
    Ok(rust)
}

async fn echo(from: &impl Peer, to: &impl Peer, what: &str) -> Result<()> {
    let ms = from.call("echo", json!([to.id(), MIB])).await?;
    println!("{what}: 1 MiB there and back, closed cleanly: {:.0} ms", ms.as_f64().unwrap_or_default());
    Ok(())
}

/// Data and clean closes over a direct link that is up.
async fn talk(js: &PeerTab<'_>, rust: &PeerTab<'_>) -> Result<()> {
    rust.call("connected", json!([js.id(), "Direct"])).await?;
    echo(js, rust, "js → Rust").await?;
    echo(rust, js, "Rust → js").await
}

#[tokio::test]
async fn a_js_page_and_a_rust_page_talk_directly_whoever_dials() -> Result<()> {
    let (relay, site, browser) = (Relay::start()?, Site::start()?, Browser::start().await?);
    let ws = ws(&relay)?;
    let js = js_page(&browser, site, &ws).await?;
    let rust = rust_page(&browser, site, &ws).await?;

    // The js side dials.
    let dialled = js.call("dial", json!([direct(&ws, &rust)])).await?;
    ensure!(dialled["limited"] == false, "js calls the direct link a limited one: {dialled}");
    println!("js dialled in {:.0} ms: {}", dialled["ms"].as_f64().unwrap_or_default(), dialled["address"]);
    talk(&js, &rust).await?;

    // What both say of themselves.
    let said = js.call("identify", json!([rust.id()])).await?;
    assert_eq!((&said["agent"], &said["peer"]), (&json!("cdi-tests"), &json!(rust.id())));
    assert_eq!(said["family"], "/cdi/testnet/1/node");
    let protocols: Vec<&str> = said["protocols"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for spoken in ["/ipfs/ping/1.0.0", "/ipfs/id/1.0.0", "/meshsub/1.1.0", "/cdi-test/1/echo"] {
        assert!(protocols.contains(&spoken), "{spoken} is not among {protocols:?}");
    }
    let agent = rust.call("identify", json!([js.id()])).await?;
    assert!(agent.as_str().is_some_and(|agent| agent.contains("js-libp2p")), "{agent}");
    let ping = js.call("ping", json!([rust.id()])).await?;
    assert!(ping.as_f64().is_some_and(|ms| ms < 5_000.0), "{ping}");

    // Announcements cross both ways; one that is too large is dropped and counted.
    js.call("neighbour", json!([rust.id()])).await?;
    rust.call("neighbour", json!([js.id()])).await?;
    js.call("publishNonsense", json!([OVERSIZE])).await?;
    js.call("advertise", json!([{}])).await?;
    let heard = rust.call("heard", json!([js.id()])).await?;
    assert!(heard.as_u64().is_some_and(|bytes| bytes < 1024), "the oversize announcement arrived: {heard}");
    assert_eq!(rust.call("oversize", json!([])).await?, 1);
    rust.call("publish", json!([777])).await?;
    assert_eq!(js.call("heard", json!([rust.id()])).await?, 777);

    // The Rust side hangs up, and dials.
    rust.call("disconnect", json!([js.id()])).await?;
    js.call("disconnected", json!([rust.id()])).await?;
    let dialled = rust.call("dial", json!([js.id()])).await?;
    println!("Rust dialled: {dialled} ms");
    assert!(dialled.as_str().is_some_and(|text| text.starts_with("Direct")), "{dialled}");
    js.call("connected", json!([rust.id(), "/webrtc"])).await?;
    talk(&js, &rust).await?;

    // The js side hangs up.
    js.call("stop", json!([])).await?;
    rust.call("disconnected", json!([js.id()])).await?;
    let errors = browser.console_errors().await?;
    let ours: Vec<&String> = errors.iter().filter(|error| error.contains("links")).collect();
    assert!(ours.is_empty(), "{ours:#?}");
    Ok(())
}

#[tokio::test]
async fn a_js_page_meets_the_tab_that_users_open() -> Result<()> {
    let (relay, site, browser) = (Relay::start()?, Site::start()?, Browser::start().await?);
    let ws = ws(&relay)?;
    let tab = browser.open(&format!("{}?compute=cpu", relay.url())).await?;
    tab.wait_for_state("connection", &["connected"], Within::seconds(60)).await?;
    // Until then it measures what it computes with, which may take all of a small machine.
    let settled = "return !document.querySelector('[data-testid=host-shard]').disabled";
    tab.wait_until(settled, &json!(null), Within::seconds(60)).await?;
    let own = "return document.querySelector('.peer-own')?.dataset.peer";
    let id = tab.wait_until(own, &json!(null), Within::seconds(30)).await?;
    let js = js_page(&browser, site, &ws).await?;

    let address = format!("{ws}/p2p-circuit/webrtc/p2p/{}", id.as_str().context("a tab has an id")?);
    let dialled = js.call("dial", json!([address])).await?;
    ensure!(dialled["limited"] == false, "{dialled}");
    let said = js.call("identify", json!([id])).await?;
    assert_eq!((&said["family"], &said["peer"]), (&json!("/cdi/testnet/1/node"), &id));
    let protocols = said["protocols"].to_string();
    for spoken in ["/cdi/testnet/1/session", "/cdi/testnet/1/activations"] {
        assert!(protocols.contains(spoken), "{spoken} is not among {protocols}");
    }
    js.call("ping", json!([id])).await?;

    // It hears the tab, and the tab believes what is signed, fresh and of this network, and nothing else.
    js.call("heard", json!([id])).await?;
    js.call("neighbour", json!([id])).await?;
    js.call("publishNonsense", json!([200])).await?;
    for unbelievable in [json!({ "forged": true }), json!({ "network": "mainnet" }), json!({ "lifetimeMs": -1000 })] {
        js.call("advertise", json!([unbelievable])).await?;
    }
    let row = "return document.querySelector(`[data-peer=\"${args}\"]`) !== null";
    // What was published first arrives first: one link, one stream.
    let shown_early = tab.eval(&row.replace("args", "arguments[0]"), vec![json!(js.id())]).await?;
    assert_eq!(shown_early, false);
    js.call("advertise", json!([{}])).await?;
    tab.wait_until(row, &json!(js.id()), Within::seconds(30)).await?;
    tab.screenshot("interop-js-peer").await?;
    Ok(())
}

#[tokio::test]
async fn js_in_node_uses_the_relay_over_tcp_and_websocket() -> Result<()> {
    let relay = Relay::start_with_tcp()?;
    let (tcp, ws) = (relay.tcp()?, ws(&relay)?);
    let relay_id = relay.describe()?["peer_id"].clone();
    let over_tcp = NodePeer::start(&json!({ "listen": [circuit(&tcp)] }))?;
    let over_ws = NodePeer::start(&json!({ "listen": [circuit(&ws)] }))?;
    for (peer, address) in [(&over_tcp, &tcp), (&over_ws, &ws)] {
        let dialled = peer.call("dial", json!([address])).await?;
        println!("{}: {:.0} ms", dialled["address"], dialled["ms"].as_f64().unwrap_or_default());
        let said = peer.call("identify", json!([relay_id])).await?;
        assert_eq!((&said["family"], &said["peer"]), (&json!("/cdi/testnet/1/node"), &relay_id));
        assert!(said["agent"].as_str().is_some_and(|agent| agent.starts_with("cdi-relay/")), "{said}");
        peer.call("ping", json!([relay_id])).await?;
        peer.call("listening", json!(["/p2p-circuit"])).await?;
    }

    // One reaches the other over a circuit.
    let relayed = format!("{}/p2p/{}", circuit(&ws), over_tcp.id());
    over_ws.call("dial", json!([relayed])).await?;
    echo(&over_ws, &over_tcp, "js → relay → js").await?;

    // The DHT agrees: what one stores there under its own key the other finds. Under other keys nothing is kept.
    let own = format!("/cdi/testnet/1/node/{}", over_tcp.id());
    let taken = over_tcp.call("put", json!([own, "hello"])).await?;
    assert!(taken.as_u64().is_some_and(|peers| peers >= 1), "nobody took the record: {taken}");
    assert_eq!(over_ws.call("get", json!([own])).await?, "hello");
    over_tcp.call("put", json!(["/cdi/interop", "hello"])).await?;
    assert_eq!(over_ws.call("get", json!(["/cdi/interop"])).await?, Value::Null);

    // The relay passes announcements on; not those that are too large.
    over_tcp.call("neighbour", json!([relay_id])).await?;
    over_ws.call("neighbour", json!([relay_id])).await?;
    over_tcp.call("publishNonsense", json!([OVERSIZE])).await?;
    over_tcp.call("advertise", json!([{}])).await?;
    let heard = over_ws.call("heard", json!([over_tcp.id()])).await?;
    assert!(heard.as_u64().is_some_and(|bytes| bytes < 1024), "the oversize announcement was passed on: {heard}");
    Ok(())
}

#[tokio::test]
async fn a_js_page_uses_the_relay_over_webrtc_direct() -> Result<()> {
    let relay = Relay::start_with_tcp()?;
    let Some(direct) = relay.dialled_over("webrtc-direct")? else {
        println!("SKIPPED: the relay announces no webrtc-direct address");
        return Ok(());
    };
    let (site, browser) = (Site::start()?, Browser::start().await?);
    let js = PeerTab::start(&browser, site, "js", json!({ "listen": [circuit(&direct)] })).await?;
    let dialled = js.call("dial", json!([direct])).await?;
    println!("{}: {:.0} ms", dialled["address"], dialled["ms"].as_f64().unwrap_or_default());
    js.call("listening", json!(["/webrtc-direct"])).await?;
    let relay_id = relay.describe()?["peer_id"].clone();
    js.call("ping", json!([relay_id])).await?;
    let said = js.call("identify", json!([relay_id])).await?;
    assert_eq!(said["peer"], relay_id);
    Ok(())
}
