//! The test protocols, which `tests/interop/src/streams.js` speaks as well.
//!
//! Echo: every byte comes back, and so does the end. Sink: eight bytes say how many follow, and one byte confirms them.
//! Both: like sink, but both ends send as many, and the dialler's are confirmed.

use std::io;

use cdi_net::{Net, NetError, NetStream};
use cdi_platform::task::spawn;
use cdi_platform::time::Instant;
use cdi_types::PeerId;
use futures::StreamExt as _;
use futures::future::try_join;
use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

const ECHO: &str = "/cdi-test/1/echo";
const SINK: &str = "/cdi-test/1/sink";
const BOTH: &str = "/cdi-test/1/both";
/// Bytes of one write, and of one read.
const CHUNK: usize = 64 * 1024;

/// Why a measurement has no result.
#[derive(Debug, thiserror::Error)]
pub enum StreamFailure {
    /// There is no stream.
    #[error(transparent)]
    Net(#[from] NetError),
    /// The stream broke.
    #[error("the stream broke: {0}")]
    Io(#[from] io::Error),
    /// What came back is not what was sent.
    #[error("{0}")]
    Wrong(String),
}

/// Serves all three protocols until the network stops.
///
/// # Errors
/// [`NetError`] when somebody else serves one.
pub async fn serve(net: &Net) -> Result<(), NetError> {
    for protocol in [ECHO, SINK, BOTH] {
        let mut incoming = net.accept(protocol).await?;
        spawn(async move {
            while let Some((peer, stream)) = incoming.next().await {
                spawn(async move {
                    let served = match protocol {
                        ECHO => echo_back(stream).await,
                        SINK => sink(stream).await,
                        _ => both(stream).await,
                    };
                    if let Err(error) = served {
                        tracing::warn!(%peer, protocol, %error, "a test stream broke");
                    }
                });
            }
        });
    }
    Ok(())
}

async fn echo_back(stream: NetStream) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let mut buffer = vec![0; CHUNK];
    loop {
        match reader.read(&mut buffer).await? {
            0 => return writer.close().await,
            count => {
                writer.write_all(&buffer[..count]).await?;
                writer.flush().await?;
            }
        }
    }
}

async fn sink(mut stream: NetStream) -> io::Result<()> {
    let bytes = announced(&mut stream).await?;
    skip(&mut stream, bytes).await?;
    stream.write_all(&[1]).await?;
    stream.close().await
}

async fn both(stream: NetStream) -> io::Result<()> {
    let (mut reader, mut writer) = stream.split();
    let bytes = announced(&mut reader).await?;
    try_join(fill(&mut writer, bytes), skip(&mut reader, bytes)).await?;
    writer.write_all(&[1]).await?;
    writer.close().await
}

/// Sends `bytes` bytes there and back over one stream and closes it cleanly; returns the milliseconds.
///
/// # Errors
/// [`StreamFailure`], also when other bytes come back than were sent.
pub async fn echo(net: &Net, peer: PeerId, bytes: usize) -> Result<f64, StreamFailure> {
    let begin = Instant::now();
    let (mut reader, mut writer) = net.open_stream(peer, ECHO).await?.split();
    let sent: Vec<u8> = (0_u8..251).cycle().take(bytes).collect();
    let write = async {
        writer.write_all(&sent).await?;
        // Fails when the other end does not confirm (FIN_ACK).
        writer.close().await
    };
    let read = async {
        let (mut buffer, mut received) = (vec![0; CHUNK], Vec::with_capacity(bytes));
        loop {
            match reader.read(&mut buffer).await? {
                0 => return Ok(received),
                count => received.extend_from_slice(&buffer[..count]),
            }
        }
    };
    let ((), received) = try_join(write, read).await?;
    if received != sent {
        return Err(StreamFailure::Wrong(format!("{} bytes came back of {bytes}, or others", received.len())));
    }
    Ok(ms_since(begin))
}

/// Round trips of one message of `bytes` bytes, in milliseconds, sorted.
///
/// # Errors
/// [`StreamFailure`].
pub async fn measure_echo(net: &Net, peer: PeerId, bytes: usize, rounds: usize) -> Result<Vec<f64>, StreamFailure> {
    let mut stream = net.open_stream(peer, ECHO).await?;
    let (message, mut back) = (vec![0; bytes], vec![0; bytes]);
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let begin = Instant::now();
        stream.write_all(&message).await?;
        stream.flush().await?;
        stream.read_exact(&mut back).await?;
        times.push(ms_since(begin));
    }
    stream.close().await?;
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// Milliseconds until the peer confirms `bytes` bytes.
///
/// # Errors
/// [`StreamFailure`].
pub async fn measure_send(net: &Net, peer: PeerId, bytes: u64) -> Result<f64, StreamFailure> {
    let mut stream = net.open_stream(peer, SINK).await?;
    let begin = Instant::now();
    stream.write_all(&bytes.to_be_bytes()).await?;
    fill(&mut stream, bytes).await?;
    stream.read_exact(&mut [0]).await?;
    let ms = ms_since(begin);
    stream.close().await?;
    Ok(ms)
}

/// Milliseconds until both ends have received `bytes` bytes.
///
/// # Errors
/// [`StreamFailure`].
pub async fn measure_both(net: &Net, peer: PeerId, bytes: u64) -> Result<f64, StreamFailure> {
    let (mut reader, mut writer) = net.open_stream(peer, BOTH).await?.split();
    let begin = Instant::now();
    writer.write_all(&bytes.to_be_bytes()).await?;
    try_join(fill(&mut writer, bytes), skip(&mut reader, bytes + 1)).await?;
    let ms = ms_since(begin);
    writer.close().await?;
    Ok(ms)
}

fn ms_since(begin: Instant) -> f64 {
    begin.elapsed().as_secs_f64() * 1e3
}

async fn announced(reader: &mut (impl AsyncRead + Unpin)) -> io::Result<u64> {
    let mut header = [0; 8];
    reader.read_exact(&mut header).await?;
    Ok(u64::from_be_bytes(header))
}

async fn fill(writer: &mut (impl AsyncWrite + Unpin), bytes: u64) -> io::Result<()> {
    let chunk = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let count = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        writer.write_all(&chunk[..count]).await?;
        left -= count as u64;
    }
    writer.flush().await
}

async fn skip(reader: &mut (impl AsyncRead + Unpin), bytes: u64) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    let mut left = bytes;
    while left > 0 {
        let most = usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK));
        match reader.read(&mut buffer[..most]).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => left -= count as u64,
        }
    }
    Ok(())
}
