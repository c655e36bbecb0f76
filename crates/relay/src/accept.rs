//! Accepts HTTP connections: bounded in number, in all and per address, and in the time a head may take.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tower_service::Service as _;

use crate::limits::{DRAIN_TIMEOUT, HTTP_HEAD_TIMEOUT, MAX_HTTP_CONNECTIONS, MAX_HTTP_HEAD_BYTES, UNSENT_BYTES};
use crate::metrics::Metrics;
use crate::origin::{Origin, Shares};
use crate::stop::Stop;
use crate::tls::Tls;

/// Pause after the system refused a connection, mostly for want of file descriptors.
const REFUSED_PAUSE: Duration = Duration::from_millis(100);

/// Who made a request. While a copy of it exists, the client's connection counts.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    /// The client's address.
    pub(crate) address: SocketAddr,
    _place: Arc<Place>,
}

/// A connection's place among those of its origin.
#[derive(Debug)]
struct Place {
    origin: Origin,
    places: Places,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.metrics.http_connections.dec();
        self.places.shares().give_back(self.origin);
    }
}

/// Hands out places. Clones share them.
#[derive(Debug, Clone)]
struct Places {
    shares: Arc<Mutex<Shares>>,
    /// Whether connections from this machine are a proxy's, which makes one for each of its clients.
    behind_proxy: bool,
    metrics: Metrics,
}

impl Places {
    fn new(all: usize, behind_proxy: bool, metrics: Metrics) -> Self {
        Self { shares: Arc::new(Mutex::new(Shares::new(all))), behind_proxy, metrics }
    }

    fn shares(&self) -> MutexGuard<'_, Shares> {
        // Whole between any two statements that can panic.
        self.shares.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from `address`; `None` when there is none left for it.
    fn take(&self, address: SocketAddr) -> Option<Client> {
        let origin = Origin::of(address.ip());
        let proxy = self.behind_proxy && address.ip().to_canonical().is_loopback();
        if !self.shares().take(origin, proxy) {
            self.metrics.refuse("http_connection");
            return None;
        }
        self.metrics.http_connections.inc();
        Some(Client { address, _place: Arc::new(Place { origin, places: self.clone() }) })
    }
}

/// Serves `router` until it is asked to stop, then lets open requests end.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    router: Router,
    behind_proxy: bool,
    metrics: Metrics,
    mut stop: Stop,
) {
    let places = Places::new(MAX_HTTP_CONNECTIONS, behind_proxy, metrics);
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
                    connections.spawn(handle(stream, tls.clone(), client, router.clone(), stopped.clone()));
                }
                None => tracing::debug!(%address, "too many connections"),
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

/// Serves one connection, after its TLS handshake if there is TLS.
async fn handle(stream: TcpStream, tls: Option<Tls>, client: Client, router: Router, stop: Stop) {
    // Small libp2p frames must not wait for an acknowledgement. An error shows again at the first read.
    let _ = stream.set_nodelay(true);
    keep_little_unsent(&stream);
    match tls {
        None => serve_http(stream, client, router, stop).await,
        Some(tls) => match tls.accept(stream).await {
            Ok(Some(stream)) => serve_http(stream, client, router, stop).await,
            Ok(None) => tracing::debug!("the certificate authority asked"),
            Err(error) => tracing::debug!(address = %client.address, %error, "a TLS handshake failed"),
        },
    }
}

/// Serves HTTP. Ends when the connection is closed, or when it has become a WebSocket.
async fn serve_http<S>(stream: S, client: Client, router: Router, mut stop: Stop)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
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

/// Bounds what the system buffers ahead of the line, see [`UNSENT_BYTES`].
#[cfg(any(target_os = "linux", target_os = "android"))]
fn keep_little_unsent(stream: &TcpStream) {
    // A system that refuses buffers as it always did.
    let _ = socket2::SockRef::from(stream).set_tcp_notsent_lowat(UNSENT_BYTES);
}

/// Other systems have no such option; a bound on the whole buffer would bound the rate on long ways too.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn keep_little_unsent(_: &TcpStream) {}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(ip: &str) -> SocketAddr {
        SocketAddr::new(ip.parse().expect("an address"), 1)
    }

    #[test]
    fn places_are_shared_and_given_back_with_the_last_copy() {
        let (metrics, _) = Metrics::new(cdi_webrtc::native::Counters::default());
        let places = Places::new(6, true, metrics.clone());
        let mut held: Vec<_> = std::iter::from_fn(|| places.take(from("192.0.2.1"))).collect();
        assert_eq!(held.len(), 2, "a third");
        let other = places.take(from("192.0.2.2")).expect("a place for somebody else");
        let copy = held.pop().expect("one of them").clone();
        drop(held.pop());
        assert_eq!(metrics.http_connections.get(), 2, "a copy holds the place");
        drop((copy, other));
        assert_eq!(metrics.http_connections.get(), 0);
        assert!(metrics.refused.get_or_create(&[("what", "http_connection")]).get() > 0);
        assert_eq!(places.shares().taken(), 0);
        let proxied: Vec<_> = std::iter::from_fn(|| places.take(from("127.0.0.1"))).collect();
        assert_eq!(proxied.len(), 6, "a proxy takes what it needs");
    }
}
