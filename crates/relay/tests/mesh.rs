//! Meshes of many nodes: how fast they form, how far and how fast news goes, what they cost, and that they heal.

mod support;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cdi_net::{Address, LinkInfo, NetArgs, NetEvent};
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
async fn ten_nodes_form_a_mesh_within_seconds_of_the_last_join() {
    let relay = relay().await;
    let address = [relay.web_socket_address()];
    let mut nodes: Vec<_> = (1..=10).map(|seed| node(seed, &address, false)).collect();
    for node in &mut nodes {
        node.relay_up().await;
    }
    let all: Vec<usize> = (0..nodes.len()).collect();
    let joined = Instant::now();
    spread(&mut nodes, 9, &all, "joined", Duration::from_millis(700)).await;
    // The aim is 10 s; a machine that does other things as well may take longer.
    println!("10 nodes over one relay: a mesh {:?} after the last join", joined.elapsed());
    assert!(joined.elapsed() < Duration::from_secs(60), "{:?}", joined.elapsed());
    let mut times = Vec::new();
    for round in 0..12 {
        let again = Duration::from_secs(5);
        times.extend(spread(&mut nodes, round % 10, &all, &format!("news {round}"), again).await);
    }
    times.sort();
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("10 nodes over one relay, {} deliveries: p50 {p50:?}, p99 {p99:?} (aim: 25 ms)", times.len());
}

/// Simulated peers: real nodes on the in-memory transport.
struct Simulated {
    nodes: Vec<Node>,
    /// First of their in-memory ports, away from those of other tests.
    port: u64,
    /// How many places further on the peers are that each one dials.
    distances: &'static [usize],
}

impl Simulated {
    fn start(count: u8, port: u64, distances: &'static [usize]) -> Self {
        let listen = |seed: u8| vec![at(port + u64::from(seed))];
        let nodes = (0..count).map(|seed| start(NetArgs { listen: listen(seed), ..args(seed) })).collect();
        Self { nodes, port, distances }
    }

    /// Dials whoever should be connected and is not.
    async fn connect(&self) {
        let peers: Vec<PeerId> = self.nodes.iter().map(|n| n.net.peer()).collect();
        let dials = (0_usize..).zip(&self.nodes).map(|(here, node)| {
            let peers = &peers;
            async move {
                for distance in self.distances {
                    let there = (here + distance) % peers.len();
                    let links = node.net.links().await.expect("the node runs");
                    if links.iter().all(|l| l.peer != peers[there]) {
                        node.net.dial_address(at(self.port + there as u64)).await.expect("it listens");
                    }
                }
            }
        });
        futures::future::join_all(dials).await;
    }

    fn drain(&mut self) {
        for node in &mut self.nodes {
            while let Some(Some(_)) = node.events.next().now_or_never() {}
        }
    }
}

fn at(port: u64) -> Address {
    format!("/memory/{port}").parse().expect("an address")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mesh_survives_a_partition_and_heals() {
    let mut mesh = Simulated::start(10, 7_100_000, &[1, 3]);
    let all: Vec<usize> = (0..mesh.nodes.len()).collect();
    let (left, right) = all.split_at(mesh.nodes.len() / 2);
    let again = Duration::from_secs(2);
    mesh.connect().await;
    spread(&mut mesh.nodes, 0, &all, "whole", again).await;

    let peers: Vec<PeerId> = mesh.nodes.iter().map(|n| n.net.peer()).collect();
    for &here in left {
        for &there in right {
            mesh.nodes[here].net.ban(peers[there], Duration::from_secs(600)).await.expect("runs");
        }
    }
    for &here in left {
        let apart = |links: &[LinkInfo]| links.iter().all(|l| !right.iter().any(|n| peers[*n] == l.peer));
        mesh.nodes[here].links("cut off", apart).await;
    }
    mesh.drain();
    spread(&mut mesh.nodes, 0, left, "left", again).await;
    for &there in right {
        while let Some(Some(event)) = mesh.nodes[there].events.next().now_or_never() {
            let is_from_left = matches!(&event, NetEvent::Gossip { data, .. } if data.starts_with(b"left"));
            assert!(!is_from_left, "it went through the cut");
        }
    }
    spread(&mut mesh.nodes, 9, right, "right", again).await;

    for &here in left {
        for &there in right {
            mesh.nodes[here].net.unban(peers[there]).await.expect("runs");
        }
    }
    mesh.connect().await;
    spread(&mut mesh.nodes, 9, &all, "healed", again).await;
}

/// Memory of this process, in MiB, as far as the system says (in pages of 4 KiB).
fn memory_mib() -> Option<usize> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(pages.split(' ').nth(1)?.parse::<usize>().ok()? / 256)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_simulated_peers_stay_bounded() {
    let mut mesh = Simulated::start(100, 7_200_000, &[1, 17]);
    let all: Vec<usize> = (0..mesh.nodes.len()).collect();
    mesh.connect().await;
    // Everybody checks every signature, several times over: give it time.
    let again = Duration::from_secs(20);
    spread(&mut mesh.nodes, 0, &all, "whole", again).await;
    let before = memory_mib();
    for round in 0..2 {
        for from in [0, 50] {
            mesh.nodes[from].net.publish(Bytes::from(vec![round; 8 * 1024])).await.expect("publishes");
        }
        mesh.drain();
    }
    // A machine with more to do than it can drops links whose pings come late.
    mesh.connect().await;
    spread(&mut mesh.nodes, 50, &all, "after", again).await;
    let stats = futures::future::join_all(mesh.nodes.iter().map(|n| n.net.stats())).await;
    let links = futures::future::join_all(mesh.nodes.iter().map(|n| n.net.links())).await;
    assert!(links.iter().flatten().all(|l| l.len() <= 100), "connections are bounded");
    assert!(stats.iter().flatten().all(|s| s.events_lost == 0 || s.gossip_received > 0));
    if let (Some(before), Some(after)) = (before, memory_mib()) {
        println!("100 peers: {before} MiB once formed, {after} MiB after 4 announcements of 8 KiB");
        assert!(after < before + 300, "{before} MiB grew to {after} MiB");
    }
}
