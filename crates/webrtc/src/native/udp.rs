//! UDP sockets: our addresses, and tasks that read.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket};
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use super::Counters;
use super::driver::Datagram;

/// Larger datagrams are cut off, and so make no sense: no peer sends more than the 1,500 bytes of an Ethernet.
pub(super) const MAX_DATAGRAM_BYTES: usize = 2048;

/// Pause after the system reported an error, which on some is that an earlier datagram found nobody.
pub(super) const ERROR_PAUSE: Duration = Duration::from_millis(10);

/// Bytes that the system may keep for a socket until we read them. It grants less where it is set up so (Linux:
/// `net.core.rmem_max`), and one socket serves all clients.
const SOCKET_BUFFER_BYTES: usize = 4 * 1024 * 1024;

/// Binds a socket.
pub(super) fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = StdSocket::bind(address)?;
    socket.set_nonblocking(true)?;
    // What is not granted costs speed under load and nothing else.
    let _ = SockRef::from(&socket).set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    UdpSocket::from_std(socket)
}

/// "All interfaces" for the family of `ip`.
pub(super) const fn any(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

/// The address from which this machine reaches `remote`. Nothing is sent.
pub(super) fn local_ip_towards(remote: SocketAddr) -> io::Result<IpAddr> {
    let socket = StdSocket::bind((any(remote.ip()), 0))?;
    socket.connect(remote)?;
    Ok(socket.local_addr()?.ip())
}

/// Reads `socket` into `inbox` until nobody takes the datagrams any more. What `is_taken` says yes to is not for them.
pub(super) async fn read(
    socket: Arc<UdpSocket>,
    local: SocketAddr,
    inbox: mpsc::Sender<Datagram>,
    counters: Counters,
    is_taken: impl Fn(SocketAddr, &[u8]) -> bool + Send,
) {
    let mut buffer = [0; MAX_DATAGRAM_BYTES];
    loop {
        let received = tokio::select! {
            received = socket.recv_from(&mut buffer) => received,
            () = inbox.closed() => return,
        };
        match received {
            Ok((length, source)) if is_taken(source, &buffer[..length]) => {}
            Ok((length, source)) => {
                let datagram = Datagram { source, local, bytes: buffer[..length].to_vec() };
                if let Err(mpsc::error::TrySendError::Full(_)) = inbox.try_send(datagram) {
                    counters.overrun();
                }
            }
            Err(_) => tokio::time::sleep(ERROR_PAUSE).await,
        }
    }
}
