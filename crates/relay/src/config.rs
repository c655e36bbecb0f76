//! How a relay is set up.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use cdi_net::Address;
use cdi_types::Network;

/// Port of the page and of the WebSocket that tabs dial.
pub const DEFAULT_PORT: u16 = 8080;

/// How a relay is set up. The default is what a developer wants: this machine only, a new identity each time.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the page, the API and the WebSocket are served. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where native nodes connect over TCP; `None` for nowhere.
    pub p2p_listen: Option<Address>,
    /// Addresses at which browsers reach this relay. Empty: the one that the page was asked for at.
    pub external: Vec<Address>,
    /// Where the identity is kept; `None` for a new one each time.
    pub data: Option<PathBuf>,
    /// The network that is served.
    pub network: Network,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, DEFAULT_PORT).into(),
            p2p_listen: None,
            external: Vec::new(),
            data: None,
            network: Network::default(),
        }
    }
}
