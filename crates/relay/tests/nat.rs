//! Nodes behind NATs: which pairs get a link of their own, which a circuit, and that none is left alone.
//!
//! Every machine of this little internet is a network namespace; the NATs are nftables rules. That needs root on Linux,
//! so these tests are ignored unless they are asked for: `cargo xtask test --only nat`.

#![cfg(target_os = "linux")]

mod support;

#[path = "nat/world.rs"]
mod world;

use std::time::Instant;

use cdi_net::framed::{read_message, write_message};
use cdi_net::{LinkInfo, LinkKind, NetArgs, NetOptions, NetStream};
use futures::StreamExt as _;
use support::{Node, PATIENCE, args};
use world::{Nat, World};

const PROTOCOL: &str = "/test/1/echo";

async fn echo(node: &Node) {
    let mut incoming = node.net.accept(PROTOCOL).await.expect("nobody else accepts it");
    tokio::spawn(async move {
        while let Some((_, mut stream)) = incoming.next().await {
            tokio::spawn(async move {
                while let Ok(Some(message)) = read_message(&mut stream, 100).await {
                    if write_message(&mut stream, &message, 100).await.is_err() {
                        return;
                    }
                }
            });
        }
    });
}

async fn there_and_back(stream: &mut NetStream) {
    let round = async {
        write_message(stream, b"hello", 100).await.expect("writes");
        assert_eq!(read_message(stream, 100).await.expect("reads").as_deref(), Some(&b"hello"[..]));
    };
    tokio::time::timeout(PATIENCE, round).await.expect("in time");
}

/// A node behind each of the two NATs, with a place at the relay and an address from its STUN service.
async fn pair(world: &World, seed: u8) -> (Node, Node) {
    let relay = world.relay();
    let settings = |seed| NetArgs { relays: vec![relay.clone()], options: NetOptions::default(), ..args(seed) };
    let mut nodes = [world.node(0, settings(seed)), world.node(1, settings(seed + 1))];
    for node in &mut nodes {
        node.relay_up().await;
        node.until("STUN", async |node| !node.net.ice_servers().await.expect("runs").is_empty()).await;
    }
    let [a, b] = nodes;
    echo(&b).await;
    (a, b)
}

/// What a pair of NATs allows: the port of a symmetric NAT is another one for every destination, so that nobody who
/// looks at the port can be told where to send to.
const fn expected(a: Nat, b: Nat) -> LinkKind {
    match (a, b) {
        (Nat::Symmetric, Nat::Symmetric | Nat::PortRestricted) | (Nat::PortRestricted, Nat::Symmetric) => {
            LinkKind::Relayed
        }
        _ => LinkKind::Direct,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and network namespaces: cargo xtask test --only nat"]
async fn every_pair_of_nats_is_joined() {
    let world = World::create().expect("a little internet");
    let mut seed = 1;
    let mut wrong = Vec::new();
    for (index, a_nat) in Nat::ALL.into_iter().enumerate() {
        for b_nat in Nat::ALL.into_iter().skip(index) {
            world.set_nat(0, a_nat).expect("rules");
            world.set_nat(1, b_nat).expect("rules");
            let (a, b) = pair(&world, seed).await;
            seed += 2;
            let start = Instant::now();
            let mut link = a.net.dial(b.net.peer()).await.expect("reaches");
            let is_direct = |links: &[LinkInfo]| links.iter().any(|l| l.link == LinkKind::Direct);
            if expected(a_nat, b_nat) == LinkKind::Direct {
                // A slow machine gets the circuit first.
                a.links("a link of its own", is_direct).await;
                link = LinkKind::Direct;
            }
            let mut stream = a.net.open_stream(b.net.peer(), PROTOCOL).await.expect("opens");
            there_and_back(&mut stream).await;
            println!("| {a_nat} | {b_nat} | {link:?} | {:.1} s |", start.elapsed().as_secs_f64());
            if link != expected(a_nat, b_nat) {
                wrong.push((a_nat, b_nat, link));
            }
            a.net.shutdown().await;
            b.net.shutdown().await;
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs root and network namespaces: cargo xtask test --only nat"]
async fn a_link_falls_back_to_the_relay_and_comes_back() {
    let world = World::create().expect("a little internet");
    world.set_nat(0, Nat::PortRestricted).expect("rules");
    world.set_nat(1, Nat::FullCone).expect("rules");
    let (a, b) = pair(&world, 101).await;
    let peer = b.net.peer();
    assert_eq!(a.net.dial(peer).await.expect("reaches"), LinkKind::Direct);
    let mut first = a.net.open_stream(peer, PROTOCOL).await.expect("opens");
    there_and_back(&mut first).await;

    // A firewall begins to drop UDP.
    let watch = a.net.watch(peer).await.expect("b knows the heartbeat");
    world.cut_udp(0).expect("a rule");
    let start = Instant::now();
    a.links("a circuit", |links| links.iter().any(|l| l.link == LinkKind::Relayed)).await;
    println!("without UDP: a circuit after {:?}", start.elapsed());
    drop((first, watch));
    let mut over_relay = a.net.open_stream(peer, PROTOCOL).await.expect("opens");
    there_and_back(&mut over_relay).await;

    // It lets it through again: nobody asks, but the network is said to have changed.
    world.mend_udp(0).expect("a rule");
    a.net.wake().await.expect("runs");
    a.links("a link of its own", |links| links.iter().any(|l| l.link == LinkKind::Direct)).await;
    println!("with UDP again: a link of its own after {:?}", start.elapsed());
    there_and_back(&mut over_relay).await;
    let mut over_link = a.net.open_stream(peer, PROTOCOL).await.expect("opens");
    there_and_back(&mut over_link).await;
}
