//! The sockets of a `/webrtc` connection, and the addresses at which they may be reached: those of the interfaces,
//! and those that STUN servers see (RFC 8445, section 5.1.1).

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use str0m::Candidate;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::driver::{Datagram, INBOX_DATAGRAMS, Local};
use super::stun::{Query, host_and_port, is_plausible};
use super::{Counters, Error, udp};
use crate::signalled::IceServer;

/// Interface addresses that are used. A machine with containers may have dozens.
const MAX_LOCALS: usize = 8;

/// STUN servers that are asked, each from every socket.
const MAX_SERVERS: usize = 4;

/// When a question is sent, each time after the one before: losses are made up for, and a server that is not there
/// gets three datagrams.
const REPEAT_AFTER: [Duration; 3] = [Duration::ZERO, Duration::from_millis(500), Duration::from_millis(1000)];

/// Candidates that wait to be signalled.
const MAX_FOUND: usize = 64;

/// What is being found.
pub(super) struct Gathering {
    pub(super) locals: Vec<Local>,
    /// What arrives at the sockets, answers of STUN servers left out.
    pub(super) inbox: Option<mpsc::Receiver<Datagram>>,
    found: mpsc::Receiver<Candidate>,
    known: HashSet<SocketAddr>,
}

impl Gathering {
    /// Opens sockets and begins to ask `servers`.
    pub(super) fn start(servers: &[IceServer], counters: &Counters) -> Result<Self, Error> {
        let (to_inbox, inbox) = mpsc::channel(INBOX_DATAGRAMS);
        let (to_found, found) = mpsc::channel(MAX_FOUND);
        let places: Vec<(String, u16)> = servers
            .iter()
            .flat_map(|server| &server.urls)
            .filter_map(|url| host_and_port(url))
            .take(MAX_SERVERS)
            .collect();
        let mut locals = Vec::new();
        for ip in interfaces() {
            // An address may go away at any time.
            let Ok(bound) = udp::bind((ip, 0).into()).and_then(|socket| Ok((socket.local_addr()?, socket))) else {
                continue;
            };
            let (address, socket) = (bound.0, Arc::new(bound.1));
            if let Ok(host) = Candidate::host(address, "udp") {
                // There is room for all of them.
                let _ = to_found.try_send(host);
            }
            let queries: Arc<[Query]> = places.iter().map(|_| Query::new()).collect();
            let (taken, answers) = (Arc::clone(&queries), to_found.clone());
            let is_taken = move |_: SocketAddr, datagram: &[u8]| {
                let seen = taken.iter().find_map(|query| query.answered_by(datagram));
                let reflexive = seen
                    .filter(|seen| is_plausible(*seen))
                    .and_then(|seen| Candidate::server_reflexive(seen, address, "udp").ok());
                if let Some(reflexive) = reflexive {
                    // With this many candidates one more makes no difference.
                    let _ = answers.try_send(reflexive);
                }
                seen.is_some()
            };
            tokio::spawn(udp::read(Arc::clone(&socket), address, to_inbox.clone(), counters.clone(), is_taken));
            tokio::spawn(ask(Arc::clone(&socket), address, places.clone(), queries, to_inbox.clone()));
            locals.push(Local { address, socket });
        }
        if locals.is_empty() {
            return Err(Error::Stack("this machine has no address".to_owned()));
        }
        Ok(Self { locals, inbox: Some(inbox), found, known: HashSet::new() })
    }

    /// The next address; each comes once.
    pub(super) fn poll_found(&mut self, cx: &mut Context<'_>) -> Poll<Candidate> {
        loop {
            match self.found.poll_recv(cx) {
                Poll::Ready(Some(candidate)) if self.known.insert(candidate.addr()) => return Poll::Ready(candidate),
                Poll::Ready(Some(_)) => {}
                // All sockets have gone; the driver says so.
                Poll::Ready(None) | Poll::Pending => return Poll::Pending,
            }
        }
    }
}

/// Sends the questions, until `inbox` says that nobody is interested any more.
async fn ask(
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    places: Vec<(String, u16)>,
    queries: Arc<[Query]>,
    inbox: mpsc::Sender<Datagram>,
) {
    let mut servers = Vec::new();
    for ((host, port), query) in places.into_iter().zip(queries.iter()) {
        let found = tokio::net::lookup_host((host, port)).await;
        let of_family = found.into_iter().flatten().find(|server| server.is_ipv4() == local.is_ipv4());
        servers.extend(of_family.map(|server| (server, query)));
    }
    for pause in REPEAT_AFTER {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = inbox.closed() => return,
        }
        for (server, query) in &servers {
            // What cannot be sent is lost, and sent again.
            let _ = socket.send_to(query.bytes(), server).await;
        }
    }
}

/// The addresses to use: loopback only where there is no other, as it leads nowhere else (RFC 8445, 5.1.1.1).
fn interfaces() -> Vec<IpAddr> {
    let all = if_addrs::get_if_addrs().unwrap_or_default();
    choose(all.iter().filter(|interface| !interface.is_link_local()).map(if_addrs::Interface::ip))
}

fn choose(all: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let (loopback, mut others): (Vec<_>, Vec<_>) = all.partition(IpAddr::is_loopback);
    if others.is_empty() {
        others = loopback;
    }
    // Most peers speak IPv4, whatever the order of the interfaces.
    others.sort_by_key(IpAddr::is_ipv6);
    others.dedup();
    others.truncate(MAX_LOCALS);
    others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_used_only_where_there_is_nothing_else() {
        let ips = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        let chosen = |list: &[&str]| choose(ips(list).into_iter());
        assert_eq!(chosen(&["127.0.0.1", "::1"]), ips(&["127.0.0.1", "::1"]));
        assert_eq!(chosen(&["127.0.0.1", "2001:db8::1", "192.0.2.1"]), ips(&["192.0.2.1", "2001:db8::1"]));
        assert_eq!(choose((1..100).map(|n| IpAddr::from([10, 0, 0, n]))).len(), MAX_LOCALS);
    }
}
