//! OpenAI's and Ollama's interfaces, answered by a node of the relay's own. It computes nothing itself: the swarm does.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{Extension, Request, State};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName, StatusCode};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use cdi_gateway::Gateway;
use cdi_gateway::keys::Keys;
use cdi_node::{NodeArgs, compute, text};
use cdi_platform::port::Port;
use cdi_platform::{Place, random, task};
use cdi_types::Keypair;
use cdi_types::advert::Tier;
use prometheus_client::registry::Registry;

use crate::accept::Client;
use crate::config::Config;
use crate::relay::RelayError;

/// Bytes of blocks that the node keeps: tokenizers, of which the largest known have some 30 MB.
const STORE_BYTES: u64 = 128 << 20;

/// Who may use the API.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum ApiAccess {
    /// Nobody: there is none.
    #[default]
    Off,
    /// Programs on this machine, and pages served from it.
    Local,
    /// Everybody who reaches the port.
    Anyone,
}

/// Starts the node and serves the API over it. `relay` is where the relay is asked, without TLS.
///
/// # Errors
/// [`RelayError`] when the node's network cannot be started, or the keys cannot be read.
pub(crate) fn start(config: &Config, relay: SocketAddr, registry: &mut Registry) -> Result<Router, RelayError> {
    let keys = config.api_keys.clone().map(Keys::open).transpose()?;
    let (page, worker) = Port::pair();
    task::spawn_dedicated("api-compute", move || compute::run(worker, Place::memory()));
    let (node, events) = cdi_node::start(NodeArgs {
        keypair: Keypair::from_seed(&random::seed()),
        network: config.network,
        relay: format!("http://{relay}"),
        place: Place::memory(),
        slot: "api".to_owned(),
        worker: page,
        text: text::start_thread,
        // No layers: who asks here asks the swarm.
        budget_bytes: 0,
        store_bytes: STORE_BYTES,
        kv_bytes: 0,
        prefer: Some(Tier::Cpu),
    })?;
    let gateway = Gateway::start(node, events);
    gateway.register(registry);
    Ok(cdi_gateway::router(gateway, keys).layer(from_fn_with_state(config.api, admit)))
}

/// Refuses whom the operator did not mean.
async fn admit(
    State(access): State<ApiAccess>,
    Extension(client): Extension<Client>,
    request: Request,
    next: Next,
) -> Response {
    if access == ApiAccess::Local && !is_local(client.address, request.headers()) {
        let message = "This relay's API answers programs on its own machine only. Its operator can open it with --api.";
        return (StatusCode::FORBIDDEN, message).into_response();
    }
    next.run(request).await
}

/// Whether the request is one of a program on this machine, and not of a foreign page in a browser on it: such a page
/// names itself in `Origin`, or reaches us by a name of its own (DNS rebinding).
fn is_local(client: SocketAddr, headers: &HeaderMap) -> bool {
    let named = |name: HeaderName| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    client.ip().to_canonical().is_loopback()
        && named(HOST).is_some_and(is_this_machine)
        && named(ORIGIN).is_none_or(|origin| origin.split_once("://").is_some_and(|(_, host)| is_this_machine(host)))
}

/// Whether `host`, with or without a port, is a name of this machine.
fn is_this_machine(host: &str) -> bool {
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let address = name.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    name == "localhost" || address.is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn programs_here_are_local_and_foreign_pages_are_not() {
        let local = |client: &str, host: &'static str, origin: Option<&'static str>| {
            let mut headers = HeaderMap::from_iter([(HOST, HeaderValue::from_static(host))]);
            headers.extend(origin.map(|origin| (ORIGIN, HeaderValue::from_static(origin))));
            is_local(client.parse().expect("an address"), &headers)
        };
        for host in ["127.0.0.1:8080", "localhost:8080", "localhost", "[::1]:8080", "127.0.0.1"] {
            assert!(local("127.0.0.1:5", host, None), "{host}");
        }
        assert!(local("[::1]:5", "localhost:8080", Some("http://localhost:3000")));
        assert!(local("[::ffff:127.0.0.1]:5", "localhost:8080", None));
        assert!(!local("192.0.2.1:5", "127.0.0.1:8080", None), "another machine");
        assert!(!local("127.0.0.1:5", "127.0.0.1:8080", Some("https://example.org")), "a foreign page");
        assert!(!local("127.0.0.1:5", "127.0.0.1:8080", Some("null")), "a page that hides where it is from");
        assert!(!local("127.0.0.1:5", "rebound.example.org:8080", None), "a name that was pointed here");
        assert!(!local("127.0.0.1:5", "localhost.example.org", Some("http://localhost.example.org")));
    }
}
