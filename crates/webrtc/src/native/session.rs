//! How `str0m` is set up for the connections of this crate.

use std::net::SocketAddr;
use std::time::Instant;

use str0m::channel::{ChannelConfig, ChannelId};
use str0m::config::Fingerprint as StackFingerprint;
use str0m::{Candidate, IceCreds, Rtc, RtcConfig};

use super::{Certificate, Error};
use crate::authenticate::Side;
use crate::direct::NOISE_CHANNEL_ID;
use crate::fingerprint::Fingerprint;

/// Largest message that is taken. The specification allows 16 KiB; some implementations put two frames into
/// one message. A peer that sends larger ones loses the connection.
const MAX_MESSAGE_BYTES: u32 = 64 * 1024;

/// Bytes that all channels of a connection may have in `str0m`, counted until the peer confirms them. It caps
/// the throughput at this much a round trip (5 MiB/s at 50 ms). More costs: what is in it goes ahead of anything
/// newer, a burst of it must fit the receiver's socket, and `sctp-proto` walks through all of it for every packet.
const MAX_IN_FLIGHT_BYTES: usize = 256 * 1024;

/// Settings that all connections share.
pub(super) fn config(certificate: &Certificate) -> RtcConfig {
    RtcConfig::new()
        .clear_codecs()
        .set_dtls_cert(certificate.for_dtls())
        .set_sctp_max_message_size(MAX_MESSAGE_BYTES)
        .set_sctp_max_buffered_amount(MAX_IN_FLIGHT_BYTES)
}

/// The two ends of a `/webrtc-direct` connection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// A `/webrtc-direct` connection and its Noise channel.
///
/// The client is told the hash that the server's certificate must have; the server takes any certificate.
pub(super) fn direct(
    certificate: &Certificate,
    ufrag: &str,
    ends: Ends,
    expected: Option<Fingerprint>,
) -> Result<(Rtc, ChannelId), Error> {
    let side = if expected.is_some() { Side::Client } else { Side::Server };
    let credentials = IceCreds { ufrag: ufrag.to_owned(), pass: ufrag.to_owned() };
    let mut rtc = config(certificate)
        .set_ice_lite(side == Side::Server)
        .set_fingerprint_verification(side == Side::Client)
        .set_local_ice_credentials(credentials.clone())
        .build(Instant::now());
    rtc.add_local_candidate(candidate(ends.local)?);
    rtc.add_remote_candidate(candidate(ends.remote)?);
    let mut api = rtc.direct_api();
    api.set_remote_ice_credentials(credentials);
    api.set_ice_controlling(side == Side::Client);
    // The server needs one to compare with, although it does not compare.
    let digest = expected.map_or_else(|| vec![0; 32], |fingerprint| fingerprint.digest().to_vec());
    api.set_remote_fingerprint(StackFingerprint { hash_func: "sha-256".to_owned(), bytes: digest });
    api.start_dtls(side == Side::Client)?;
    api.start_sctp(side == Side::Client);
    let noise =
        api.create_data_channel(ChannelConfig { negotiated: Some(NOISE_CHANNEL_ID), ..ChannelConfig::default() });
    Ok((rtc, noise))
}

fn candidate(socket: SocketAddr) -> Result<Candidate, Error> {
    Candidate::host(socket, "udp").map_err(|error| Error::Stack(error.to_string()))
}
