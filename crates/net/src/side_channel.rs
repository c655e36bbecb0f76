//! Channels beside the streams of a direct link: for a worker, which cannot use streams.
//!
//! They are agreed upon on a stream `/cdi/<network>/1/worker-channel` (see [`cdi_types::channel`]) and live as long as
//! it: the end of either is the end of both.

use std::sync::Arc;
use std::time::Duration;

use cdi_platform::channel::End;
use cdi_platform::time::{Instant, timeout};
use cdi_types::channel::{Consent, MAX_AGREEMENT_BYTES, Offer};
use cdi_types::{Network, PeerId, cbor};
use futures::AsyncReadExt as _;

use crate::framed::{read_message, write_message};
use crate::handle::Command;
use crate::traffic::Traffic;
use crate::{Net, NetError, NetStream};

/// Time for the other side to say what it wants, or to make its end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Name of the protocol on which two nodes agree on a channel for their workers.
#[must_use]
pub fn worker_channel_protocol(network: Network) -> String {
    network.protocol("worker-channel")
}

/// A channel that both sides agreed to. Dropping it tells the other side that it is over.
#[derive(Debug)]
pub struct Lease {
    stream: NetStream,
    traffic: Arc<Traffic>,
}

impl Lease {
    /// Waits until the other side ends it, or the link breaks.
    pub async fn over(&mut self) {
        let mut byte = [0];
        // There is nothing more to say on the stream: whatever comes ends it.
        let _ended = self.stream.read(&mut byte).await;
    }

    /// What a worker received and sent on the channel since the last call, and how long ago something last came: it
    /// counts for the link, and shows that it lives.
    pub fn count(&self, received_bytes: u64, sent_bytes: u64, heard: Option<Duration>) {
        let heard = heard.and_then(|ago| Instant::now().checked_sub(ago));
        self.traffic.add_beside(received_bytes, sent_bytes, heard);
    }
}

/// An offer of a peer that can be accepted: [`Offered::end`] is to be opened before [`Offered::accept`] is called.
/// Dropping it refuses.
#[derive(Debug)]
pub struct Offered {
    /// The id of the channel, which tells it from others of this peer.
    pub id: u16,
    /// This side's end.
    pub end: Option<End>,
    stream: NetStream,
}

impl Offered {
    /// Tells the peer that its channel is listened to.
    ///
    /// # Errors
    /// [`NetError::Stream`] when it is gone.
    pub async fn accept(self, peer: PeerId) -> Result<Lease, NetError> {
        let Self { mut stream, .. } = self;
        write(&mut stream, peer, &Consent::Given).await?;
        Ok(Lease { traffic: stream.traffic(), stream })
    }
}

impl Net {
    /// Agrees with `peer` on a channel with this id, one of [`cdi_types::channel::ids`]. The end is to be opened at once:
    /// the peer's listens already.
    ///
    /// # Errors
    /// Those of [`Net::open_stream`], and [`NetError::NoChannel`] when the link is not one that has channels, or the peer
    /// refuses.
    pub async fn offer_channel(&self, peer: PeerId, id: u16) -> Result<(End, Lease), NetError> {
        self.dial_if_needed(peer).await?;
        let (connection, end) = self.side_channel(peer, None, id).await?;
        let mut stream = self.open_stream(peer, &worker_channel_protocol(self.network())).await?;
        write(&mut stream, peer, &Offer { connection, id }).await?;
        match read(&mut stream, peer).await? {
            Consent::Given => Ok((end, Lease { traffic: stream.traffic(), stream })),
            Consent::Refused => Err(NetError::NoChannel(peer)),
        }
    }

    /// Reads what a peer offers on a stream of [`worker_channel_protocol`].
    ///
    /// # Errors
    /// [`NetError::Stream`] when it is no offer, [`NetError::NoChannel`] when it cannot be accepted.
    pub async fn offered_channel(&self, peer: PeerId, mut stream: NetStream) -> Result<Offered, NetError> {
        let offer: Offer = read(&mut stream, peer).await?;
        if !offer.is_valid(&peer, &self.peer()) {
            return Err(NetError::NoChannel(peer));
        }
        let Offer { connection, id } = offer;
        match self.side_channel(peer, Some(connection), id).await {
            Ok((_, end)) => Ok(Offered { id, end: Some(end), stream }),
            Err(error) => {
                write(&mut stream, peer, &Consent::Refused).await?;
                Err(error)
            }
        }
    }

    /// An end on the connection that the other side named, or on the newest, and that one's name.
    async fn side_channel(&self, peer: PeerId, named: Option<String>, id: u16) -> Result<(String, End), NetError> {
        let planned = self.ask(|respond_to| Command::SideChannel { peer, named, id, respond_to }).await?;
        planned.ok_or(NetError::NoChannel(peer))
    }
}

async fn write<T: serde::Serialize>(stream: &mut NetStream, peer: PeerId, message: &T) -> Result<(), NetError> {
    let broken = |reason: String| NetError::Stream { peer, reason };
    let bytes = cbor::encode(message).map_err(|e| broken(e.to_string()))?;
    write_message(stream, &bytes, MAX_AGREEMENT_BYTES).await.map_err(|e| broken(e.to_string()))
}

async fn read<T>(stream: &mut NetStream, peer: PeerId) -> Result<T, NetError>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    let broken = |reason: String| NetError::Stream { peer, reason };
    let read = timeout(PATIENCE, read_message(stream, MAX_AGREEMENT_BYTES)).await;
    let bytes = read.map_err(|_| broken("no answer in time".to_owned()))?.map_err(|e| broken(e.to_string()))?;
    let bytes = bytes.ok_or(NetError::NoChannel(peer))?;
    cbor::decode(&bytes).map_err(|e| broken(e.to_string()))
}
