//! Accepts HTTP connections: bounded in number, in all and per address, and in the time a head may take.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tower_service::Service as _;

use crate::limits::{
    DRAIN_TIMEOUT, HTTP_HEAD_TIMEOUT, MAX_HTTP_CONNECTIONS, MAX_HTTP_CONNECTIONS_PER_IP, MAX_HTTP_HEAD_BYTES,
};
use crate::stop::Stop;

/// Pause after the system refused a connection, mostly for want of file descriptors.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Who made a request. While a copy of it exists, the client's connection counts.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// The client's address.
    pub(crate) address: SocketAddr,
    _place: Arc<Place>,
}

/// A connection's place among all, and among those of its address.
#[derive(Debug)]
struct Place {
    ip: IpAddr,
    counts: Counts,
    _permit: OwnedSemaphorePermit,
}

/// Connections per address.
type Counts = Arc<Mutex<HashMap<IpAddr, usize>>>;

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = counts.get_mut(&self.ip) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.ip);
            }
        }
    }
}

/// Hands out places.
struct Places {
    all: Arc<Semaphore>,
    counts: Counts,
}

impl Places {
    fn new(all: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), counts: Counts::default() }
    }

    /// A place for a connection from `address`; `None` when there is none left.
    fn take(&self, address: SocketAddr) -> Option<Client> {
        let permit = self.all.clone().try_acquire_owned().ok()?;
        let ip = address.ip().to_canonical();
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(ip).or_default();
        if *count >= MAX_HTTP_CONNECTIONS_PER_IP && !ip.is_loopback() {
            return None;
        }
        *count += 1;
        Some(Client { address, _place: Arc::new(Place { ip, counts: self.counts.clone(), _permit: permit }) })
    }
}

/// Serves `router` until it is asked to stop, then lets open requests end.
pub(crate) async fn serve(listener: TcpListener, router: Router, mut stop: Stop) {
    let places = Places::new(MAX_HTTP_CONNECTIONS);
    let mut connections = JoinSet::new();
    let stopped = stop.clone();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stop.requested() => break,
        };
        match accepted {
            Ok((stream, address)) => match places.take(address) {
                Some(client) => {
                    connections.spawn(handle(stream, client, router.clone(), stopped.clone()));
                }
                None => tracing::warn!(%address, "too many connections"),
            },
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                tokio::time::sleep(REFUSED_PAUSE).await;
            }
        }
    }
    drop(listener);
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(DRAIN_TIMEOUT, drained).await.is_err() {
        tracing::info!("requests that were still open are cut off");
    }
}

/// Serves one connection. Ends when it is closed, or when it has become a WebSocket.
async fn handle(stream: TcpStream, client: Client, router: Router, mut stop: Stop) {
    // Small libp2p frames must not wait for an acknowledgement. An error shows again at the first read.
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(client.clone());
        router.clone().call(request)
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HTTP_HEAD_TIMEOUT)
        .max_buf_size(MAX_HTTP_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.requested() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().expect("an address"), 1)
    }

    #[test]
    fn places_are_limited_per_address_and_given_back() {
        let places = Places::new(usize::MAX >> 4);
        let mut held: Vec<_> =
            (0..MAX_HTTP_CONNECTIONS_PER_IP).map(|_| places.take(from("192.0.2.1")).expect("a place")).collect();
        assert!(places.take(from("192.0.2.1")).is_none());
        assert!(places.take(from("::ffff:192.0.2.1")).is_none(), "the same address in other clothes");
        assert!(places.take(from("192.0.2.2")).is_some());
        let copy = held.pop().expect("one of them").clone();
        assert!(places.take(from("192.0.2.1")).is_none(), "a copy holds the place");
        drop(copy);
        assert!(places.take(from("192.0.2.1")).is_some());
        drop(held);
        assert!(places.counts.lock().expect("not poisoned").is_empty());
    }

    #[test]
    fn places_are_limited_in_all() {
        let places = Places::new(2);
        let held = [places.take(from("127.0.0.1")), places.take(from("127.0.0.1"))];
        assert!(places.take(from("192.0.2.1")).is_none());
        drop(held);
        assert!(places.take(from("192.0.2.1")).is_some());
    }
}
