//! Every limit of the relay, in one place.
//!
//! libp2p's defaults suit a DHT's helper that forwards a few bytes: 16 circuits in all, 128 KiB and two
//! minutes each. Here tabs that find no direct way run their sessions over circuits, and many tabs share an
//! address behind one NAT.

use std::num::NonZeroU32;
use std::time::Duration;

use cdi_net::rate::Rate;

/// TCP connections to the HTTP port, WebSockets included, shared out by origin. A process may usually open 1,024
/// or more files; what is not granted is refused by the system one by one.
pub const MAX_HTTP_CONNECTIONS: usize = 4096;
/// HTTP requests of one origin. A tab that starts asks about 30 times, a school has hundreds of tabs.
pub const HTTP_RATE: Rate = Rate { burst: 2000.0, per_second: 100.0 };
/// Time for a TLS handshake.
pub const TLS_HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Largest file with certificates or a key.
pub const MAX_CERTIFICATE_BYTES: u64 = 1 << 20;
/// Time for a request's head. Slower clients are cut off, or a few of them would hold all connections.
pub const HTTP_HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Largest head of a request, path included.
pub const MAX_HTTP_HEAD_BYTES: usize = 16 * 1024;
/// Time for open requests and connections to end at shutdown.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(3);

/// Largest WebSocket message that is read. Noise frames have 64 KiB; js-libp2p may join several.
pub const MAX_WEBSOCKET_MESSAGE_BYTES: usize = 1024 * 1024;
/// Bytes that wait to be written to one WebSocket before its sender is paused.
pub const WEBSOCKET_WRITE_BUFFER_BYTES: usize = 128 * 1024;
/// WebSockets that wait for the swarm to take them.
pub const WEBSOCKET_BACKLOG: usize = 64;

/// WebRTC-direct handshakes in progress: each holds keys and buffers for a stranger.
pub const MAX_WEBRTC_HANDSHAKES: usize = 128;
/// Of these, from one address.
pub const MAX_WEBRTC_HANDSHAKES_PER_IP: usize = 32;
/// WebRTC-direct connections that one address may ask for at once, and then one every [`WEBRTC_IP_INTERVAL`].
pub const WEBRTC_IP_BURST: u32 = 256;
/// See [`WEBRTC_IP_BURST`].
pub const WEBRTC_IP_INTERVAL: Duration = Duration::from_millis(200);
/// WebRTC-direct connections. Each may hold some MB while its streams are not read.
pub const MAX_WEBRTC_CONNECTIONS: usize = 1024;
/// A WebRTC-direct connection from which nothing comes for this time is lost. Browsers send a check every few
/// seconds, also in hidden tabs.
pub const WEBRTC_SILENCE: Duration = Duration::from_secs(30);

/// What the relay forwards in a second when the operator says nothing: a port of 1 Gbit/s.
pub const DEFAULT_BANDWIDTH_BYTES: u64 = 125_000_000;
/// Bytes that the system takes for one WebSocket before they are sent. What waits there cannot be overtaken: with
/// the usual megabytes a transfer to a slow line would delay its handshakes by seconds.
pub const UNSENT_BYTES: u32 = 64 * 1024;
/// Part of the machine's memory beyond which no new connection is taken.
pub const MAX_MEMORY: f64 = 0.8;

/// Connections of the swarm, shared out by origin.
pub const MAX_CONNECTIONS: usize = 2048;
/// Of these, to one peer: a tab that lost its connection dials again before the old one is noticed.
pub const MAX_CONNECTIONS_PER_PEER: u32 = 4;
/// Noise and Yamux handshakes in progress.
pub const MAX_HANDSHAKES: u32 = 256;
/// Time for a handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections without a stream or a reservation are closed after this time.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(120);
/// Time between two pings; many NATs forget a silent connection after 30 s.
pub const PING_INTERVAL: Duration = Duration::from_secs(15);
/// Time for a ping's answer. A tab that computes may take seconds.
pub const PING_TIMEOUT: Duration = Duration::from_secs(30);

/// Peers that can be reached through this relay, shared out by origin.
pub const MAX_RESERVATIONS: usize = 1024;
/// Reservations of one peer: one a connection.
pub const MAX_RESERVATIONS_PER_PEER: usize = 4;
/// How long a reservation holds; clients renew it.
pub const RESERVATION_DURATION: Duration = Duration::from_secs(3600);
/// Reservations that one peer may ask for at once, and then one every [`RESERVATION_PEER_INTERVAL`].
pub const RESERVATION_PEER_BURST: NonZeroU32 = NonZeroU32::new(32).expect("not zero");
/// See [`RESERVATION_PEER_BURST`].
pub const RESERVATION_PEER_INTERVAL: Duration = Duration::from_secs(10);
/// Reservations that one origin may ask for.
pub const RESERVATION_RATE: Rate = Rate { burst: 1024.0, per_second: 2.0 };

/// Circuits at a time, shared out by origin of who opens them.
pub const MAX_CIRCUITS: usize = 2048;
/// Of these, opened by one peer. How many lead to it does not count: a host serves many.
pub const MAX_CIRCUITS_FROM_PEER: usize = 64;
/// How long a circuit may live. Its users reconnect, at the cost of one replay.
pub const MAX_CIRCUIT_DURATION: Duration = Duration::from_secs(4 * 3600);
/// Bytes of a circuit, both directions together: about 100,000 tokens of 10 KB, or the shards of a model of
/// a few hundred MB.
pub const MAX_CIRCUIT_BYTES: u64 = 1 << 30;
/// Circuits that one peer may open at once, and then one every [`CIRCUIT_PEER_INTERVAL`].
pub const CIRCUIT_PEER_BURST: NonZeroU32 = NonZeroU32::new(128).expect("not zero");
/// See [`CIRCUIT_PEER_BURST`].
pub const CIRCUIT_PEER_INTERVAL: Duration = Duration::from_secs(2);
/// Circuits that one origin may open.
pub const CIRCUIT_RATE: Rate = Rate { burst: 1024.0, per_second: 10.0 };

/// STUN requests of one source that are answered at once; browsers send a few for each new connection.
pub const STUN_SOURCE_BURST: u32 = 64;
/// And then so many a second.
pub const STUN_SOURCE_PER_S: u32 = 16;
/// STUN requests of all sources that are answered at once.
pub const STUN_BURST: u32 = 4096;
/// And then so many a second: about 2 Mbit/s of answers.
pub const STUN_PER_S: u32 = 4096;
/// Clients that are told of STUN and TURN services at the same time.
pub const ICE_ANSWERS_AT_ONCE: usize = 64;
/// Time for one of them to take the answer.
pub const ICE_ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Dials in progress. The relay dials only to test whether a client can be reached (AutoNAT), and only where the
/// client is connected from.
pub const MAX_DIALS: u32 = 32;

/// How often what ran out is removed from the DHT.
pub const KAD_ROUND: Duration = Duration::from_secs(30);
/// DHT records and provided keys that the relay keeps.
pub const MAX_KAD_KEYS: usize = 4096;
/// Largest value of a DHT record.
pub const MAX_KAD_VALUE_BYTES: usize = cdi_net::rendezvous::MAX_RECORD_BYTES;
/// Providers that are kept for one key.
pub const MAX_KAD_PROVIDERS: usize = 20;
