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

/// Handshakes at a time: all at once, none might be ready in time on a machine with few processors.
const HANDSHAKES: usize = 8;

/// Nodes that are to hear each other.
struct Mesh {
    nodes: Vec<Node>,
    /// First of their in-memory ports, away from those of other tests.
    port: u64,
    /// How many places further on the peers are that each one dials.
    distances: &'static [usize],
}

impl Mesh {
    /// Real nodes on the in-memory transport.
    fn simulated(count: u8, port: u64, distances: &'static [usize]) -> Self {
        let listen = |seed: u8| vec![at(port + u64::from(seed))];
        let nodes = (0..count).map(|seed| start(NetArgs { listen: listen(seed), ..args(seed) })).collect();
        Self { nodes, port, distances }
    }

    fn all(&self) -> Vec<usize> {
        (0..self.nodes.len()).collect()
    }

    fn peers(&self) -> Vec<PeerId> {
        self.nodes.iter().map(|node| node.net.peer()).collect()
    }

    /// Dials whoever should be connected and is not: a link that was never answered on a machine with more to do than it
    /// can is given up, as it should be, and a node dials again, as it would in life.
    async fn connect(&self) {
        let (peers, count) = (self.peers(), self.nodes.len());
        let pairs =
            (0..count).flat_map(|here| self.distances.iter().map(move |further| (here, (here + further) % count)));
        let dials = pairs.map(|(here, there)| {
            let (net, peer) = (&self.nodes[here].net, peers[there]);
            async move {
                let links = net.links().await.expect("the node runs");
                if links.iter().all(|link| link.peer != peer) {
                    // Who cannot be reached now is dialled again before the next round.
                    let _ = net.dial_address(at(self.port + there as u64)).await;
                }
            }
        });
        futures::stream::iter(dials).buffer_unordered(HANDSHAKES).collect::<()>().await;
    }

    /// Publishes `data` at `from`, again every `again`, until all of `to` have it; links that are missing are made before.
    /// How long it took each of those that have it from the last publication.
    async fn spread(&mut self, from: usize, to: &[usize], data: &str, again: Duration) -> Vec<Duration> {
        let mut times = Vec::new();
        let mut missing: HashSet<usize> = to.iter().copied().filter(|n| *n != from).collect();
        let started = Instant::now();
        for round in 0.. {
            if missing.is_empty() {
                return times;
            }
            let have = to.len() - missing.len();
            assert!(started.elapsed() < LIMIT, "{have} of {} have heard {data}", to.len());
            self.connect().await;
            let text = format!("{data}/{round}");
            let sent = Instant::now();
            self.nodes[from].net.publish(Bytes::from(text.clone())).await.expect("publishes");
            let wait = tokio::time::sleep(again);
            let mut wait = std::pin::pin!(wait);
            while !missing.is_empty() {
                let waiting = self.nodes.iter_mut().enumerate().filter(|(n, _)| missing.contains(n));
                let mut next: FuturesUnordered<_> =
                    waiting.map(|(n, node)| node.events.next().map(move |event| (n, event))).collect();
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
async fn ten_nodes_form_a_mesh_within_seconds_of_the_last_join() {
    let relay = relay().await;
    let address = [relay.web_socket_address()];
    let nodes = (1..=10).map(|seed| node(seed, &address, false)).collect();
    // The relay is all they need.
    let mut mesh = Mesh { nodes, port: 0, distances: &[] };
    for node in &mut mesh.nodes {
        node.relay_up().await;
    }
    let all = mesh.all();
    let joined = Instant::now();
    mesh.spread(9, &all, "joined", Duration::from_millis(700)).await;
    // The aim is 10 s; a machine that does other things as well may take longer.
    println!("10 nodes over one relay: a mesh {:?} after the last join", joined.elapsed());
    assert!(joined.elapsed() < Duration::from_secs(60), "{:?}", joined.elapsed());
    let mut times = Vec::new();
    for round in 0..12 {
        let again = Duration::from_secs(5);
        times.extend(mesh.spread(round % 10, &all, &format!("news {round}"), again).await);
    }
    times.sort();
    let (p50, p99) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("10 nodes over one relay, {} deliveries: p50 {p50:?}, p99 {p99:?} (aim: 25 ms)", times.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mesh_survives_a_partition_and_heals() {
    let mut mesh = Mesh::simulated(10, 7_100_000, &[1, 3]);
    let all = mesh.all();
    let (left, right) = all.split_at(mesh.nodes.len() / 2);
    let again = Duration::from_secs(2);
    mesh.spread(0, &all, "whole", again).await;

    let peers = mesh.peers();
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
    mesh.spread(0, left, "left", again).await;
    for &there in right {
        while let Some(Some(event)) = mesh.nodes[there].events.next().now_or_never() {
            let is_from_left = matches!(&event, NetEvent::Gossip { data, .. } if data.starts_with(b"left"));
            assert!(!is_from_left, "it went through the cut");
        }
    }
    mesh.spread(9, right, "right", again).await;

    for &here in left {
        for &there in right {
            mesh.nodes[here].net.unban(peers[there]).await.expect("runs");
        }
    }
    mesh.spread(9, &all, "healed", again).await;
}

/// Memory of this process, in MiB, as far as the system says (in pages of 4 KiB).
fn memory_mib() -> Option<usize> {
    let pages = std::fs::read_to_string("/proc/self/statm").ok()?;
    Some(pages.split(' ').nth(1)?.parse::<usize>().ok()? / 256)
}

/// Peers of the large mesh: as many as `CDI_MESH_PEERS` says, up to 200, else so few that the test takes seconds.
fn many() -> u8 {
    std::env::var("CDI_MESH_PEERS").map_or(30, |count| count.parse().expect("a number")).min(200)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_simulated_peers_stay_bounded() {
    let (count, started) = (many(), Instant::now());
    let mut mesh = Mesh::simulated(count, 7_200_000, &[1, 17]);
    let all = mesh.all();
    let half = all.len() / 2;
    // Everybody checks every signature, several times over: give it time.
    let again = Duration::from_secs(20);
    mesh.spread(0, &all, "whole", again).await;
    let before = memory_mib();
    for round in 0..2 {
        for from in [0, half] {
            mesh.nodes[from].net.publish(Bytes::from(vec![round; 8 * 1024])).await.expect("publishes");
        }
        mesh.drain();
    }
    mesh.spread(half, &all, "after", again).await;
    let stats = futures::future::join_all(mesh.nodes.iter().map(|n| n.net.stats())).await;
    let links = futures::future::join_all(mesh.nodes.iter().map(|n| n.net.links())).await;
    assert!(links.iter().flatten().all(|l| l.len() <= 100), "connections are bounded");
    assert!(stats.iter().flatten().all(|s| s.events_lost == 0 || s.gossip_received > 0));
    if let (Some(before), Some(after)) = (before, memory_mib()) {
        let took = started.elapsed();
        println!("{count} peers, {took:?}: {before} MiB once formed, {after} MiB after 4 announcements of 8 KiB");
        assert!(after < before + 300, "{before} MiB grew to {after} MiB");
    }
}
