//! Starts the node of this tab.

use cdi_node::NodeArgs;
use cdi_node::view::{Command, Event};
use cdi_platform::port::Port;
use cdi_platform::secret::Protection;
use cdi_platform::visibility::{self, Lifecycle};
use cdi_platform::{Place, tab, task};
use cdi_store::identity::NodeIdentity;
use cdi_types::Network;
use cdi_types::advert::Tier;
use futures::channel::mpsc;
use futures::{SinkExt as _, StreamExt as _};

/// Commands that wait for the node.
pub const COMMANDS: usize = 32;
/// Events that wait for the page.
pub const EVENTS: usize = 1_024;

/// Addresses of the workers' entries, beside the page.
const WORKER: &str = "worker-boot.js";
const TEXT: &str = "text-boot.js";
/// Weights that a tab holds at most: half of what phones allow a tab altogether (iOS ends tabs near 1.5 GB).
const BUDGET_BYTES: u64 = 750_000_000;
/// Keys and values of all sessions.
const KV_BYTES: u64 = 250_000_000;
/// Blocks on the disk (STO-13).
const STORE_BYTES: u64 = 2_000_000_000;

/// Runs the node of this tab until the page ends. A start that fails is told as an event.
pub async fn run(commands: mpsc::Receiver<Command>, mut events: mpsc::Sender<Event>) {
    if let Err(message) = try_run(commands, &mut events).await {
        // Without a page there is nobody to tell.
        let _gone = events.send(Event::Error(message)).await;
    }
}

async fn try_run(mut commands: mpsc::Receiver<Command>, events: &mut mpsc::Sender<Event>) -> Result<(), String> {
    let (relay, search) = address().ok_or("This page has no address.")?;
    let network = match asked_network(&search) {
        Some(network) => network,
        None => cdi_node::network_of(&relay).await.unwrap_or_default(),
    };
    let place = Place::disk("");
    let identity = NodeIdentity::load_or_create(network, &place)
        .await
        .map_err(|error| format!("The node has no identity: {error}. Reload the page."))?;
    if identity.report.protection == Protection::MemoryOnly {
        let text = "This browser keeps no keys: after a reload this tab is a new node.";
        let _gone = events.send(Event::Notice(text.to_owned())).await;
    }
    let worker = Port::spawn_worker(WORKER).map_err(|error| format!("The compute worker did not start: {error}."))?;
    let args = NodeArgs {
        keypair: identity.keypair,
        network,
        relay,
        place,
        slot: tab::slot(),
        worker,
        text: || Port::spawn_worker(TEXT),
        budget_bytes: BUDGET_BYTES,
        store_bytes: STORE_BYTES,
        kv_bytes: KV_BYTES,
        prefer: preferred(&search),
    };
    let (node, mut told) = cdi_node::start(args).map_err(|error| format!("The node did not start: {error}."))?;
    task::spawn(wake(node.clone()));
    task::spawn(async move {
        while let Some(command) = commands.next().await {
            node.send(command).await;
        }
    });
    while let Some(event) = told.next().await {
        if events.send(event).await.is_err() {
            break;
        }
    }
    // The claim on the identity lasts as long as the node.
    drop(identity.lock);
    Ok(())
}

/// Origin and query of the page.
fn address() -> Option<(String, String)> {
    let location = web_sys::window()?.location();
    Some((location.origin().ok()?, location.search().ok()?))
}

/// Tells the node that the machine slept or the network came back: what went stale is tried again at once. (That the
/// page leaves, the transport notices by itself.)
async fn wake(node: cdi_node::Handle) {
    let mut lifecycle = visibility::lifecycle();
    while let Some(event) = lifecycle.next().await {
        if matches!(event, Lifecycle::Resumed | Lifecycle::Online) {
            node.send(Command::Visibility { hidden: visibility::is_hidden() }).await;
        }
    }
}

/// The value of `?<name>=…`.
fn parameter<'a>(search: &'a str, name: &str) -> Option<&'a str> {
    search.trim_start_matches('?').split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// `?network=testnet` or `?network=mainnet` overrides what the relay serves.
fn asked_network(search: &str) -> Option<Network> {
    parameter(search, "network")?.parse().ok()
}

/// `?compute=gpu` or `?compute=cpu` overrides the measured choice.
fn preferred(search: &str) -> Option<Tier> {
    match parameter(search, "compute")? {
        "gpu" => Some(Tier::Gpu),
        "cpu" => Some(Tier::Cpu),
        _ => None,
    }
}
