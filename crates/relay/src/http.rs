//! The HTTP side: the page, the description of this relay, its health, its blocks, and WebSockets.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Extension, Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HOST, REFERRER_POLICY,
    RETRY_AFTER, X_CONTENT_TYPE_OPTIONS,
};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use cdi_net::Address;
use cdi_net::rate::Rates;
use cdi_platform::time::Instant;
use cdi_types::ice::IceServer;
use cdi_types::{Cid, Network, PeerId};
use prometheus_client::registry::Registry;
use serde::Serialize;
use tokio::sync::mpsc;
use tower_http::compression::CompressionLayer;

use crate::accept::Client;
use crate::ice::Services;
use crate::ipfs::{self, Blocks};
use crate::limits::{HTTP_RATE, MAX_WEBSOCKET_MESSAGE_BYTES, WEBSOCKET_WRITE_BUFFER_BYTES};
use crate::metrics::{self, METRICS_TYPE, Metrics};
use crate::origin::Origin;
use crate::webrtc::WebRtc;
use crate::websocket::Upgraded;
use crate::{address, page, policy};

/// Together they make the page cross-origin isolated, which shared memory and so threads need.
/// Source: <https://web.dev/articles/coop-coep>.
const PAGE_HEADERS: [(HeaderName, HeaderValue); 6] = [
    (CONTENT_SECURITY_POLICY, policy::CONTENT_SECURITY_POLICY),
    (HeaderName::from_static("cross-origin-opener-policy"), HeaderValue::from_static("same-origin")),
    (HeaderName::from_static("cross-origin-embedder-policy"), HeaderValue::from_static("require-corp")),
    (HeaderName::from_static("cross-origin-resource-policy"), HeaderValue::from_static("same-origin")),
    (X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
];

/// What the HTTP side knows.
pub(crate) struct Site {
    pub(crate) peer: PeerId,
    pub(crate) network: Network,
    /// Where browsers reach this relay; empty for the address that they asked at.
    pub(crate) external: Vec<Address>,
    /// Other relays.
    pub(crate) bootstrap: Vec<Address>,
    /// Addresses when a request names no usable host.
    pub(crate) fallback: Address,
    /// Where WebRTC-direct is served.
    pub(crate) webrtc: Option<WebRtc>,
    /// Manifests of the models whose blocks are served.
    pub(crate) models: Vec<Cid>,
    pub(crate) metrics: Metrics,
    pub(crate) registry: Registry,
    /// Whether the port speaks TLS.
    pub(crate) tls: bool,
    /// Whether requests from this machine are a proxy's, whose word on its clients is taken.
    pub(crate) behind_proxy: bool,
    /// Where WebSockets go.
    pub(crate) upgraded: mpsc::Sender<Upgraded>,
    /// STUN services.
    pub(crate) services: Services,
}

/// `/relay.json`: whom to dial and what is here.
#[derive(Debug, Serialize)]
struct Description {
    peer_id: String,
    network: Network,
    addresses: Vec<String>,
    bootstrap: Vec<String>,
    models: Vec<String>,
    ice_servers: Vec<IceServer>,
    version: &'static str,
}

/// Everything that the port serves.
pub(crate) fn router(site: Site, blocks: Blocks, api: Option<Router>) -> Router {
    let gate = Arc::new(Gate {
        rates: Mutex::new(Rates::new(HTTP_RATE)),
        metrics: site.metrics.clone(),
        behind_proxy: site.behind_proxy,
    });
    let page = Router::new().fallback(asset).layer(CompressionLayer::new());
    Router::new()
        .route("/", get(root))
        .route("/healthz", get(health))
        .route("/metrics", get(figures))
        .route("/relay.json", get(describe))
        .with_state(Arc::new(site))
        .merge(ipfs::router(blocks))
        .merge(api.unwrap_or_default())
        .fallback_service(page)
        .layer(from_fn_with_state(gate, admit))
        .layer(map_response(add_headers))
}

/// What every request passes.
struct Gate {
    rates: Mutex<Rates<Origin>>,
    metrics: Metrics,
    behind_proxy: bool,
}

/// Counts a request, finds out whose it is behind a proxy, and refuses it when its origin asks too often.
async fn admit(
    State(gate): State<Arc<Gate>>,
    Extension(mut client): Extension<Client>,
    mut request: Request,
    next: Next,
) -> Response {
    gate.metrics.http_requests.inc();
    if gate.behind_proxy
        && client.address.ip().to_canonical().is_loopback()
        && let Some(ip) = forwarded_for(request.headers())
    {
        client.address.set_ip(ip);
        request.extensions_mut().insert(client.clone());
    }
    let origin = Origin::of(client.address.ip());
    let allowed = gate.rates.lock().unwrap_or_else(PoisonError::into_inner).allow(origin, Instant::now());
    if !allowed {
        gate.metrics.refuse("http_request");
        return (StatusCode::TOO_MANY_REQUESTS, [(RETRY_AFTER, "1")], "too many requests\n").into_response();
    }
    next.run(request).await
}

/// The last address in `X-Forwarded-For`, which is the one that the proxy itself wrote.
fn forwarded_for(headers: &HeaderMap) -> Option<IpAddr> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    last.rsplit(',').next()?.trim().parse().ok()
}

/// Adds what a response does not say itself.
async fn add_headers(mut response: Response) -> Response {
    for (name, value) in PAGE_HEADERS {
        response.headers_mut().entry(name).or_insert(value);
    }
    response
}

/// The page, or a libp2p connection: browsers ask for both at `/`.
async fn root(
    State(site): State<Arc<Site>>,
    Extension(client): Extension<Client>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    headers: HeaderMap,
) -> Response {
    let Ok(upgrade) = upgrade else {
        return page::file("", &headers);
    };
    upgrade
        .max_message_size(MAX_WEBSOCKET_MESSAGE_BYTES)
        .max_frame_size(MAX_WEBSOCKET_MESSAGE_BYTES)
        .write_buffer_size(WEBSOCKET_WRITE_BUFFER_BYTES)
        .max_write_buffer_size(WEBSOCKET_WRITE_BUFFER_BYTES + MAX_WEBSOCKET_MESSAGE_BYTES)
        .on_upgrade(move |socket| async move {
            // The swarm is gone only when the relay stops.
            let _ = site.upgraded.send(Upgraded { socket, client }).await;
        })
}

async fn asset(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if !matches!(method, Method::GET | Method::HEAD) {
        return (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, "GET,HEAD")]).into_response();
    }
    page::file(uri.path().trim_start_matches('/'), &headers)
}

async fn health(State(site): State<Arc<Site>>) -> Response {
    for_anyone(Json(site.metrics.health.read()))
}

async fn figures(State(site): State<Arc<Site>>) -> Response {
    ([(CONTENT_TYPE, METRICS_TYPE), (CACHE_CONTROL, "no-store")], metrics::text(&site.registry)).into_response()
}

async fn describe(State(site): State<Arc<Site>>, request: Request) -> Response {
    let at_host = || {
        let host = request.headers().get(HOST)?.to_str().ok()?;
        address::from_host(host, site.tls)
    };
    let addresses: Vec<Address> = match &site.external[..] {
        [] => {
            // The better one first: a client that cannot use it, as a page served over TLS, takes the other.
            let web_socket = at_host().unwrap_or_else(|| site.fallback.clone());
            let direct = site.webrtc.and_then(|webrtc| webrtc.address_beside(&web_socket));
            std::iter::once(web_socket).chain(direct).collect()
        }
        external => external.to_vec(),
    };
    let host = addresses.first().and_then(Address::host).unwrap_or_default();
    for_anyone(Json(Description {
        peer_id: site.peer.to_string(),
        network: site.network,
        addresses: addresses.into_iter().filter_map(|a| a.with_peer(site.peer)).map(|a| a.to_string()).collect(),
        bootstrap: site.bootstrap.iter().map(Address::to_string).collect(),
        models: site.models.iter().map(Cid::to_string).collect(),
        ice_servers: site.services.public(&host),
        version: env!("CARGO_PKG_VERSION"),
    }))
}

/// Nothing secret, and pages served from elsewhere ask too; never kept, because it changes.
fn for_anyone(body: impl IntoResponse) -> Response {
    let policy = HeaderName::from_static("cross-origin-resource-policy");
    let headers = [(ACCESS_CONTROL_ALLOW_ORIGIN, "*"), (CACHE_CONTROL, "no-store"), (policy, "cross-origin")];
    (headers, body).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_that_the_proxy_wrote_counts() {
        let read = |values: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("x-forwarded-for", HeaderValue::from_static(value));
            }
            forwarded_for(&headers).map(|ip| ip.to_string())
        };
        assert_eq!(read(&["192.0.2.1"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(read(&["10.0.0.1, 2001:db8::1"]).as_deref(), Some("2001:db8::1"), "the client may write any before");
        assert_eq!(read(&["10.0.0.1", "192.0.2.1"]).as_deref(), Some("192.0.2.1"));
        assert_eq!(read(&[]), None);
        assert_eq!(read(&["unknown"]), None);
    }
}
