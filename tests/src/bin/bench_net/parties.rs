//! Who is connected to whom, and the rounds: each round measures every link once, so that a busy moment of the machine
//! hits all alike.

use anyhow::{Context, Result, ensure};
use cdi_net::{Net, NetArgs, NetEvent};
use cdi_tests::{Browser, NodePeer, Peer, PeerTab, Relay, Site, streams};
use cdi_types::{Keypair, Network};
use futures::StreamExt as _;
use serde_json::{Value, json};

use crate::measure::{Effort, Figures, Sample};

/// The frames of libp2p's specification; ours grow where both ends are ours.
const FRAME: u32 = 16 * 1024;
/// What a bare channel does best with, of 16, 64 and 256 KiB.
const BEST: u32 = 64 * 1024;

/// A link that is up: who sends on it, and what its commands begin with.
struct Party<'a> {
    peer: &'a PeerTab<'a>,
    target: Option<String>,
    message: Option<u32>,
    sample: Sample,
}

/// Measures all links, or those named.
pub async fn measure(effort: Effort, only: &[String]) -> Result<Vec<Figures>> {
    let (relay, site, browser) = (Relay::start()?, Site::start()?, Browser::start().await?);
    let ws = relay.dialled_over("ws")?.context("the relay announces no WebSocket")?;
    let native = native().await?;
    let node = NodePeer::start(&json!({ "listen": ["/ip4/127.0.0.1/tcp/0/ws"] }))?;
    let node_address = node.call("listening", json!(["/ws"])).await?;

    let raw = [PeerTab::open(&browser, site, "raw").await?, PeerTab::open(&browser, site, "raw").await?];
    let ours = || PeerTab::start(&browser, site, "links", json!({ "relays": [ws] }));
    let js = || PeerTab::start(&browser, site, "js", json!({ "listen": [format!("{ws}/p2p-circuit"), "/webrtc"] }));
    // A pair for direct links, and a pair for everything else: a circuit would be given up for a direct link.
    let (direct, relayed) = ([ours().await?, ours().await?], [ours().await?, ours().await?]);
    let working = || PeerTab::start(&browser, site, "worker", json!({ "relays": [ws] }));
    let workers = [working().await?, working().await?];
    let (js_direct, js_relayed) = ([js().await?, js().await?], [js().await?, js().await?]);
    for peer in direct.iter().chain(&relayed).chain(&workers) {
        peer.call("join", json!([])).await?;
    }
    for peer in js_direct.iter().chain(&js_relayed) {
        peer.call("listening", json!(["/p2p-circuit/webrtc"])).await?;
    }
    let processes: Vec<_> = [&raw, &direct, &workers, &js_direct].into_iter().flatten().map(PeerTab::process).collect();
    ensure!(
        processes.iter().enumerate().all(|(at, process)| process.is_none() || !processes[..at].contains(process)),
        "two pages share a process: {processes:?}"
    );

    let mut parties = Vec::new();
    let wanted = |link: &str| only.is_empty() || only.iter().any(|name| name == link);
    if wanted("direct") {
        raw[0].call("listen", json!([])).await?;
        let ms = raw[1].call("dial", json!([])).await?.as_f64().context("no time")?;
        for (by, message) in [("raw 16 KiB", FRAME), ("raw 64 KiB", BEST)] {
            let sample = Sample::new("direct", by, ms);
            parties.push(Party { peer: &raw[1], target: None, message: Some(message), sample });
        }
        let [listener, dialler] = &direct;
        let dialled = dialler.call("dial", json!([listener.id()])).await?;
        parties.push(ours_over("direct", dialler, listener.id(), &dialled, "Direct")?);
        let [listener, dialler] = &workers;
        let dialled = dialler.call("dial", json!([listener.id()])).await?;
        dialler.call("connectWorkers", json!([listener.id()])).await?;
        let mut party = ours_over("direct", dialler, listener.id(), &dialled, "Direct")?;
        party.sample.by = "cdi worker";
        parties.push(party);
        let [listener, dialler] = &js_direct;
        let address = format!("{ws}/p2p-circuit/webrtc/p2p/{}", listener.id());
        parties.push(js_over("direct", dialler, listener.id(), json!([address])).await?);
    }
    if wanted("relayed") {
        let address = |peer: &PeerTab<'_>| json!([format!("{ws}/p2p-circuit/p2p/{}", peer.id())]);
        let [listener, dialler] = &relayed;
        let dialled = dialler.call("dialAddress", address(listener)).await?;
        parties.push(ours_over("relayed", dialler, listener.id(), &dialled, "Relayed")?);
        let [listener, dialler] = &js_relayed;
        parties.push(js_over("relayed", dialler, listener.id(), address(listener)).await?);
    }
    if wanted("ws") {
        let (id, address) = &native;
        let dialled = relayed[0].call("dialAddress", json!([address])).await?;
        parties.push(ours_over("ws", &relayed[0], id, &dialled, "Direct")?);
        parties.push(js_over("ws", &js_relayed[0], node.id(), json!([node_address])).await?);
    }

    for round in 1..=effort.rounds {
        for party in &mut parties {
            let (link, by) = (party.sample.link, party.sample.by);
            let measured = party.sample.round(party.peer, party.target.as_deref(), party.message, effort).await;
            // One that breaks under load should not cost the others' figures.
            if let Err(error) = measured {
                println!("   {link} by {by} broke in round {round}: {error:#}");
            }
        }
        println!("   round {round} of {}", effort.rounds);
    }
    Ok(parties.into_iter().map(|party| party.sample.figures()).collect())
}

/// Our native node, which serves the test protocols over WebSocket; its id and address.
async fn native() -> Result<(String, String)> {
    let args = NetArgs {
        keypair: Keypair::from_seed(&cdi_platform::random::seed()),
        network: Network::Testnet,
        relays: Vec::new(),
        listen: vec!["/ip4/127.0.0.1/tcp/0/ws".parse()?],
        ice_servers: Vec::new(),
        agent: "cdi-tests".to_owned(),
        options: cdi_net::NetOptions::default(),
    };
    let (net, mut events) = Net::start(args)?;
    streams::serve(&net).await?;
    let address = loop {
        if let NetEvent::Listening(address) = events.next().await.context("the network has stopped")? {
            break address;
        }
    };
    let id = net.peer().to_string();
    // Both live as long as the process.
    tokio::spawn(async move {
        let _running = net;
        while events.next().await.is_some() {}
    });
    Ok((id.clone(), format!("{address}/p2p/{id}")))
}

fn ours_over<'a>(
    link: &'static str,
    peer: &'a PeerTab<'a>,
    target: &str,
    dialled: &Value,
    kind: &str,
) -> Result<Party<'a>> {
    let ms = dialled.as_str().and_then(|text| text.strip_prefix(kind)?.trim().parse().ok());
    let ms = ms.with_context(|| format!("{link}: {dialled}"))?;
    Ok(Party { peer, target: Some(target.to_owned()), message: None, sample: Sample::new(link, "cdi", ms) })
}

async fn js_over<'a>(link: &'static str, peer: &'a PeerTab<'a>, target: &str, address: Value) -> Result<Party<'a>> {
    let ms = peer.call("dial", address).await?["ms"].as_f64().context("no time")?;
    Ok(Party { peer, target: Some(target.to_owned()), message: None, sample: Sample::new(link, "js-libp2p", ms) })
}
