//! What the streams of tests carry.
#![allow(dead_code, reason = "each test program uses a part of it")]

use std::io;

use futures::future::join;
use futures::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::swarm::Stream;

use crate::swarm::patiently;

/// Bytes whose order can be told.
pub fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|index| (index * 7 % 251) as u8).collect()
}

/// Sends back what comes.
pub async fn echo(stream: Stream) {
    let (reader, mut writer) = stream.split();
    let _ = futures::io::copy(reader, &mut writer).await;
    let _ = writer.close().await;
}

/// `AsyncReadExt::read_to_end` clears its whole spare capacity again at every poll, which takes
/// seconds for megabytes in an unoptimised build.
pub async fn read_all(reader: &mut (impl AsyncRead + Unpin), received: &mut Vec<u8>) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer).await? {
            0 => return Ok(()),
            count => received.extend_from_slice(&buffer[..count]),
        }
    }
}

/// Sends `data` and reads until the peer closes.
pub async fn exchange(stream: Stream, data: &[u8]) -> io::Result<Vec<u8>> {
    let (mut reader, mut writer) = stream.split();
    let write = async {
        writer.write_all(data).await?;
        writer.close().await
    };
    let mut received = Vec::with_capacity(data.len());
    let (written, read) = patiently(join(write, read_all(&mut reader, &mut received))).await;
    written?;
    read?;
    Ok(received)
}
