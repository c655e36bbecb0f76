//! Meshes of many nodes: how fast they form, how far and how fast news goes, what they cost, and that they heal.

mod support;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cdi_net::{NetArgs, NetEvent};
use cdi_types::PeerId;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use support::{Node, args, node, relay, start};

/// Only a broken mesh takes this long to carry one announcement.
const LIMIT: Duration = Duration::from_secs(120);

/// Publishes `data` at `nodes[from]`, again every `again`, until all of `to` have it. How long it took each of those
/// that have it from the last publication.
async fn spread(nodes: &mut [Node], from: usize, to: &[usize], data: &str, again: Duration) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut missing: HashSet<usize> = to.iter().copied().filter(|n| *n != from).collect();
    let started = Instant::now();
    for round in 0.. {
        if missing.is_empty() {
            return times;
        }
        let have = to.len() - missing.len();
        assert!(started.elapsed() < LIMIT, "{have} of {} have heard {data}", to.len());
        let text = format!("{data}/{round}");
        let sent = Instant::now();
        nodes[from].net.publish(Bytes::from(text.clone())).await.expect("publishes");
        let wait = tokio::time::sleep(again);
        let mut wait = std::pin::pin!(wait);
        while !missing.is_empty() {
            let mut next: FuturesUnordered<_> = nodes
                .iter_mut()
                .enumerate()
                .filter(|(n, _)| missing.contains(n))
                .map(|(n, node)| node.events.next().map(move |event| (n, event)))
                .collect();
            tokio::select! {
                Some((n, event)) = next.next() => {
                    drop(next);
                    let Some(NetEvent::Gossip { data: heard, .. }) = event else { continue };
                    if heard.as_ref() == text.as_bytes() {
                        times.push(sent.elapsed());
                    }
                    if heard.starts_with(format!("{data}/").as_bytes()) {
                        missing.remove(&n);
                    }
                }
                () = wait.as_mut() => break,
            }
        }
    }
    times
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_nodes_form_a_mesh_within_ten_seconds_of_the_last_join() {
    let relay = relay().await;
    let address = [relay.web_socket_address()];
    let mut nodes: Vec<_> = (1..=10).map(|seed| node(seed, &address, false)).collect();
    for node in &mut nodes {
        node.relay_up().await;
    }
    let all: Vec<usize> = (0..nodes.len()).collect();
    let joined = Instant::now();
    spread(&mut nodes, 9, &all, "joined", Duration::from_millis(700)).await;
    assert!(joined.elapsed() < Duration::from_secs(10), "{:?}", joined.elapsed());
    let mut times = Vec::new();
    for round in 0..20 {
        let again = Duration::from_secs(5);
        times.extend(spread(&mut nodes, round % 10, &all, &format!("news {round}"), again).await);
    }
    times.sort();
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("10 nodes over one relay, {} deliveries: p50 {p50:?}, p99 {p99:?}", times.len());
}

/// Simulated peers: real nodes on the in-memory transport.
mod simulated {
    use super::*;

    pub const PEERS: u8 = 100;
    /// Peers that each one dials.
    const DIALS: [u8; 3] = [1, 17, 43];
    /// Base of the in-memory ports, away from those of other tests.
    const PORTS: u64 = 7_000_000;

    fn address(seed: u8) -> String {
        format!("/memory/{}", PORTS + u64::from(seed))
    }

    pub fn all() -> Vec<Node> {
        let listen = |seed| vec![address(seed).parse().expect("an address")];
        (0..PEERS).map(|seed| start(NetArgs { listen: listen(seed), ..args(seed) })).collect()
    }

    pub async fn connect(nodes: &[Node]) {
        for (seed, node) in (0_u8..).zip(nodes) {
            for distance in DIALS {
                let other = (seed + distance) % PEERS;
                let peer = nodes[usize::from(other)].net.peer();
                let links = node.net.links().await.expect("the node runs");
                if links.iter().all(|l| l.peer != peer) {
                    node.net.dial_address(address(other).parse().expect("an address")).await.expect("it listens");
                }
            }
        }
    }

    /// Memory of this process, in MiB, as far as the system says (in pages of 4 KiB).
    pub fn memory_mib() -> Option<usize> {
        let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
        Some(pages.split(' ').nth(1)?.parse::<usize>().ok()? / 256)
    }

    pub fn drain(nodes: &mut [Node]) {
        for node in nodes {
            while let Some(Some(_)) = node.events.next().now_or_never() {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_simulated_peers_survive_a_partition_and_stay_bounded() {
    let mut nodes = simulated::all();
    let all: Vec<usize> = (0..nodes.len()).collect();
    let (left, right) = all.split_at(nodes.len() / 2);
    simulated::connect(&nodes).await;
    // Everybody checks every signature, several times over, and this is not optimised: give it time.
    let again = Duration::from_secs(20);
    spread(&mut nodes, 0, &all, "whole", again).await;
    let before = simulated::memory_mib();

    let peers: Vec<PeerId> = nodes.iter().map(|n| n.net.peer()).collect();
    for &here in left {
        for &there in right {
            nodes[here].net.ban(peers[there], Duration::from_secs(600)).await.expect("runs");
        }
    }
    for &here in left {
        nodes[here].links("cut off", |links| links.iter().all(|l| !right.iter().any(|n| peers[*n] == l.peer))).await;
    }
    simulated::drain(&mut nodes);
    spread(&mut nodes, 0, left, "left", again).await;
    spread(&mut nodes, 99, right, "right", again).await;
    simulated::drain(&mut nodes[..50]);

    for &here in left {
        for &there in right {
            nodes[here].net.unban(peers[there]).await.expect("runs");
        }
    }
    simulated::connect(&nodes).await;
    spread(&mut nodes, 99, &all, "healed", again).await;

    for round in 0..2 {
        for from in [0, 33, 66, 99] {
            nodes[from].net.publish(Bytes::from(vec![round; 8 * 1024])).await.expect("publishes");
        }
        simulated::drain(&mut nodes);
    }
    // A machine with more to do than it can drops links whose pings come late.
    simulated::connect(&nodes).await;
    spread(&mut nodes, 50, &all, "after", again).await;
    let stats = futures::future::join_all(nodes.iter().map(|n| n.net.stats())).await;
    let links = futures::future::join_all(nodes.iter().map(|n| n.net.links())).await;
    assert!(links.iter().flatten().all(|l| l.len() <= 100), "connections are bounded");
    assert!(stats.iter().flatten().all(|s| s.events_lost == 0 || s.gossip_received > 0));
    if let (Some(before), Some(after)) = (before, simulated::memory_mib()) {
        println!("100 peers: {before} MiB once formed, {after} MiB after a partition and 8 announcements of 8 KiB");
        assert!(after < before + 300, "{before} MiB grew to {after} MiB");
    }
}
