//! How a relay is set up.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use cdi_net::Address;
use cdi_types::Network;

use crate::api::ApiAccess;
use crate::ice::Turn;
use crate::tls::TlsSource;

/// Port of the page and of the WebSocket that tabs dial.
pub const DEFAULT_PORT: u16 = 8080;

/// Where STUN is answered, over UDP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StunListen {
    /// At the address and port number of the page; at a free port where that number is taken.
    #[default]
    BesideHttp,
    /// Here.
    At(SocketAddr),
    /// Nowhere.
    Nowhere,
}

/// Where browsers connect over WebRTC-direct, which needs neither a domain nor TLS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum WebRtcListen {
    /// At the address of the page and the UDP port after its number; nowhere if that is taken.
    #[default]
    BesideHttp,
    /// At this UDP port.
    At(SocketAddr),
    /// Nowhere.
    Nowhere,
}

/// How a relay is set up. The default is what a developer wants: this machine only, a new identity each time.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where the page, the API and the WebSocket are served. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where native nodes connect over TCP; `None` for nowhere.
    pub p2p_listen: Option<Address>,
    /// Where browsers connect over WebRTC-direct.
    pub webrtc: WebRtcListen,
    /// Where native nodes connect over QUIC; `None` for nowhere.
    pub quic_listen: Option<Address>,
    /// Other relays of the network, each with its peer id: nodes are told of them.
    pub bootstrap: Vec<Address>,
    /// Whether nodes in the local network find this relay by themselves (mDNS).
    pub lan: bool,
    /// Addresses at which browsers reach this relay; one for WebRTC-direct gets the hash of the certificate by
    /// itself. Empty: the one that the page was asked for at.
    pub external: Vec<Address>,
    /// Where the identity is kept; `None` for a new one each time.
    pub data: Option<PathBuf>,
    /// The network that is served.
    pub network: Network,
    /// Where STUN is answered.
    pub stun: StunListen,
    /// URLs of STUN servers of others that clients are told of.
    pub stun_urls: Vec<String>,
    /// A TURN server for which clients get credentials.
    pub turn: Option<Turn>,
    /// Bytes that are forwarded in a second, all circuits together.
    pub bandwidth_bytes: u64,
    /// TLS for page and WebSocket; `None` for a proxy in front, or for a machine that nobody else reaches.
    pub tls: Option<TlsSource>,
    /// Who may use the API.
    pub api: ApiAccess,
    /// The file of keys that the API asks for; `None`: it asks for none.
    pub api_keys: Option<PathBuf>,
    /// Whether connections from this machine are a proxy's, whose `X-Forwarded-For` says where clients come from.
    pub behind_proxy: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, DEFAULT_PORT).into(),
            p2p_listen: None,
            webrtc: WebRtcListen::default(),
            quic_listen: None,
            bootstrap: Vec::new(),
            lan: false,
            external: Vec::new(),
            data: None,
            network: Network::default(),
            stun: StunListen::default(),
            stun_urls: Vec::new(),
            turn: None,
            bandwidth_bytes: crate::limits::DEFAULT_BANDWIDTH_BYTES,
            tls: None,
            api: ApiAccess::default(),
            api_keys: None,
            behind_proxy: false,
        }
    }
}
