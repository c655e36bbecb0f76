//! A little internet of network namespaces: a relay, and two hosts behind NATs.
//!
//! ```text
//! host 0 10.0.0.2 ── 10.0.0.1 NAT 0 203.0.113.1 ──┐
//!                                                 ├── bridge ── 203.0.113.10 relay
//! host 1 10.0.1.2 ── 10.0.1.1 NAT 1 203.0.113.2 ──┘
//! ```

use std::fmt;
use std::fs::File;
use std::io::{self, Write as _};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread::JoinHandle;

use cdi_net::{Address, NetArgs};
use cdi_relay::{Config, Relay};
use nix::sched::{CloneFlags, setns};

use crate::support::{Node, start};

/// How a NAT maps and filters UDP, in the terms of RFC 3489 and RFC 4787.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nat {
    /// Endpoint-independent mapping and filtering.
    FullCone,
    /// Endpoint-independent mapping, address-dependent filtering.
    Restricted,
    /// Endpoint-independent mapping, address- and port-dependent filtering.
    PortRestricted,
    /// Address- and port-dependent mapping and filtering.
    Symmetric,
}

impl Nat {
    pub const ALL: [Self; 4] = [Self::FullCone, Self::Restricted, Self::PortRestricted, Self::Symmetric];

    /// Rules of nftables. Linux keeps the port where it can, which makes its mapping endpoint-independent for a single
    /// host; and it answers only those who were asked. What comes unasked is dropped before it leaves a trace, as
    /// firewalls of homes do: else it would take the place of the mapping that is about to be made.
    fn rules(self, host: &str) -> String {
        let unasked = match self {
            Self::FullCone => format!(
                "chain pre {{ type nat hook prerouting priority dstnat; iifname \"wan\" meta l4proto udp dnat to {host}; }}"
            ),
            Self::Restricted => format!(
                "set asked {{ type ipv4_addr; flags dynamic,timeout; timeout 5m; }}\n\
                 chain ask {{ type filter hook forward priority filter; \
                   iifname \"lan\" meta l4proto udp add @asked {{ ip daddr }}; }}\n\
                 chain pre {{ type nat hook prerouting priority dstnat; \
                   iifname \"wan\" ip saddr @asked meta l4proto udp dnat to {host}; }}"
            ),
            Self::PortRestricted | Self::Symmetric => String::new(),
        };
        let random = if self == Self::Symmetric { "random,fully-random" } else { "" };
        format!(
            "table ip nat {{\n{unasked}\n\
             chain post {{ type nat hook postrouting priority srcnat; oifname \"wan\" masquerade {random}; }}\n\
             chain input {{ type filter hook input priority filter; iifname \"wan\" meta l4proto udp drop; }}\n}}\n"
        )
    }
}

impl fmt::Display for Nat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::FullCone => "full cone",
            Self::Restricted => "restricted",
            Self::PortRestricted => "port-restricted",
            Self::Symmetric => "symmetric",
        })
    }
}

/// Threads that live in a namespace run until this is dropped.
struct Inhabitant {
    thread: Option<JoinHandle<()>>,
    end: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Drop for Inhabitant {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

/// Dropping it removes everything.
pub struct World {
    prefix: String,
    relay: Option<Address>,
    inhabitants: std::sync::Mutex<Vec<Inhabitant>>,
}

static WORLDS: AtomicU32 = AtomicU32::new(0);

impl World {
    /// Creates it.
    ///
    /// # Errors
    /// What the system does not allow.
    pub fn create() -> io::Result<Self> {
        let number = WORLDS.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("cdi{}x{number}", std::process::id());
        let mut world = Self { prefix, relay: None, inhabitants: std::sync::Mutex::default() };
        for place in ["net", "relay", "nat0", "nat1", "host0", "host1"] {
            world.ip(&["netns", "add", &world.name(place)])?;
            world.within(place, "ip", &["link", "set", "lo", "up"])?;
        }
        world.within("net", "ip", &["link", "add", "bridge", "type", "bridge"])?;
        world.within("net", "ip", &["link", "set", "bridge", "up"])?;
        world.plug("relay", "wan", "203.0.113.10/24")?;
        for side in 0..2 {
            let (nat, host) = (format!("nat{side}"), format!("host{side}"));
            world.plug(&nat, "wan", &format!("203.0.113.{}/24", side + 1))?;
            let [nat_ns, host_ns] = [world.name(&nat), world.name(&host)];
            world
                .ip(&["-n", &nat_ns, "link", "add", "lan", "type", "veth", "peer", "name", "eth", "netns", &host_ns])?;
            world.within(&nat, "ip", &["addr", "add", &format!("10.0.{side}.1/24"), "dev", "lan"])?;
            world.within(&nat, "ip", &["link", "set", "lan", "up"])?;
            world.within(&host, "ip", &["addr", "add", &format!("10.0.{side}.2/24"), "dev", "eth"])?;
            world.within(&host, "ip", &["link", "set", "eth", "up"])?;
            world.within(&host, "ip", &["route", "add", "default", "via", &format!("10.0.{side}.1")])?;
            world.within(&nat, "sh", &["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
        }
        world.start_relay();
        Ok(world)
    }

    /// Gives a place an interface in the public network.
    fn plug(&self, place: &str, interface: &str, address: &str) -> io::Result<()> {
        let (ns, net, port) = (self.name(place), self.name("net"), format!("p-{place}"));
        self.ip(&["-n", &net, "link", "add", &port, "type", "veth", "peer", "name", interface, "netns", &ns])?;
        self.within("net", "ip", &["link", "set", &port, "master", "bridge", "up"])?;
        self.within(place, "ip", &["addr", "add", address, "dev", interface])?;
        self.within(place, "ip", &["link", "set", interface, "up"])
    }

    /// Sets what the NAT of a side does, and makes it forget what it did.
    pub fn set_nat(&self, side: usize, nat: Nat) -> io::Result<()> {
        let rules = format!("flush ruleset\n{}", nat.rules(&format!("10.0.{side}.2")));
        self.nft(side, &rules)
    }

    /// The NAT of a side drops UDP from now on.
    pub fn cut_udp(&self, side: usize) -> io::Result<()> {
        self.nft(
            side,
            "add table ip cut\n\
             add chain ip cut forward { type filter hook forward priority -10; }\n\
             add rule ip cut forward meta l4proto udp drop\n",
        )
    }

    /// Not any more.
    pub fn mend_udp(&self, side: usize) -> io::Result<()> {
        self.nft(side, "delete table ip cut\n")
    }

    fn nft(&self, side: usize, rules: &str) -> io::Result<()> {
        let ns = self.name(&format!("nat{side}"));
        let mut nft =
            Command::new("ip").args(["netns", "exec", &ns, "nft", "-f", "-"]).stdin(Stdio::piped()).spawn()?;
        if let Some(mut input) = nft.stdin.take() {
            input.write_all(rules.as_bytes())?;
        }
        done("nft", nft.wait()?.success())
    }

    /// Where the relay is.
    pub fn relay(&self) -> Address {
        self.relay.clone().expect("it is there since the beginning")
    }

    fn start_relay(&mut self) {
        let address = self.inhabit("relay", async || {
            let config = Config { listen: ([203, 0, 113, 10], 0).into(), ..Config::default() };
            let relay = Relay::start(config).await.expect("a relay starts");
            (relay.web_socket_address(), relay)
        });
        self.relay = Some(address);
    }

    /// A node on the host of a side.
    pub fn node(&self, side: usize, args: NetArgs) -> Node {
        self.inhabit(&format!("host{side}"), async move || (start(args), ()))
    }

    /// Runs `begin` on a thread of its own in a namespace, and what it has begun until the world ends. Returns the first
    /// of its results; the second stays.
    fn inhabit<T: Send + 'static, Kept: 'static>(
        &self,
        place: &str,
        begin: impl AsyncFnOnce() -> (T, Kept) + Send + 'static,
    ) -> T {
        let path = format!("/run/netns/{}", self.name(place));
        let (ready, is_ready) = mpsc::channel();
        let (end, ends) = tokio::sync::oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            let namespace = File::open(path).expect("the namespace");
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter it");
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async {
                let (shown, _kept) = begin().await;
                let _ = ready.send(shown);
                let _ended = ends.await;
            });
        });
        self.inhabitants.lock().expect("whole").push(Inhabitant { thread: Some(thread), end: Some(end) });
        is_ready.recv().expect("it begins")
    }

    fn name(&self, place: &str) -> String {
        format!("{}{place}", self.prefix)
    }

    fn within(&self, place: &str, program: &str, arguments: &[&str]) -> io::Result<()> {
        let ns = self.name(place);
        self.ip(&[&["netns", "exec", &ns, program], arguments].concat())
    }

    fn ip(&self, arguments: &[&str]) -> io::Result<()> {
        done(&format!("ip {}", arguments.join(" ")), Command::new("ip").args(arguments).status()?.success())
    }
}

fn done(what: &str, is_done: bool) -> io::Result<()> {
    if is_done { Ok(()) } else { Err(io::Error::other(format!("`{what}` failed"))) }
}

impl Drop for World {
    fn drop(&mut self) {
        self.inhabitants.lock().expect("whole").clear();
        for place in ["net", "relay", "nat0", "nat1", "host0", "host1"] {
            let _ = self.ip(&["netns", "del", &self.name(place)]);
        }
    }
}
