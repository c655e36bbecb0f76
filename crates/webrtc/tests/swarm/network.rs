//! The network between two native nodes.

use std::net::SocketAddr;

use cdi_webrtc::direct::{dial_address, parse_dial_address};
use libp2p::core::Multiaddr;
use libp2p::multiaddr::Protocol;
use tokio::sync::mpsc;

/// What a network does with a datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Deliver,
    Lose,
    /// Delivers a damaged copy and then the datagram itself.
    Forge,
}

/// A network in front of the server at `address`, for one client; `fate` is asked with the number of the datagram.
/// Returns where the client dials. The network is cut when the sender is dropped.
pub async fn network(
    address: &Multiaddr,
    mut fate: impl FnMut(usize) -> Fate + Send + 'static,
) -> (Multiaddr, mpsc::Sender<()>) {
    let target = parse_dial_address(address).unwrap();
    let outside = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let inside = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let front = dial_address(outside.local_addr().unwrap(), target.fingerprint);
    let (cut, mut is_cut) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut client: Option<SocketAddr> = None;
        let (mut up, mut down) = ([0; 2048], [0; 2048]);
        for number in 0.. {
            let (datagram, from, to) = tokio::select! {
                Ok((length, source)) = outside.recv_from(&mut up) => {
                    client = Some(source);
                    (&mut up[..length], &inside, target.socket)
                }
                Ok((length, _)) = inside.recv_from(&mut down) => {
                    let Some(client) = client else { continue };
                    (&mut down[..length], &outside, client)
                }
                _ = is_cut.recv() => return,
            };
            let fate = fate(number);
            if fate == Fate::Forge {
                let mut copy = datagram.to_vec();
                let at = number % copy.len();
                copy[at] ^= 0x55;
                from.send_to(&copy, to).await.unwrap();
            }
            if fate != Fate::Lose {
                from.send_to(datagram, to).await.unwrap();
            }
        }
    });
    (target.peer.map_or(front.clone(), |peer| front.with(Protocol::P2p(peer))), cut)
}
