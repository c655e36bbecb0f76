//! Messages on a stream: an unsigned varint of the length in bytes, then the bytes.
//!
//! Source: <https://github.com/multiformats/unsigned-varint>; the framing that libp2p protocols use.

use std::io;

use futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use unsigned_varint::{decode, encode};

/// Bytes set aside before any byte of a message has come, however long it claims to be.
const FIRST_ALLOCATION_BYTES: usize = 64 * 1024;
/// Longest varint of a `u32`.
const MAX_PREFIX_BYTES: usize = 5;

/// Why a message was not read or written.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The message is longer than the caller allows.
    #[error("a message of {bytes} bytes is over the limit of {limit}")]
    TooLarge {
        /// Its length.
        bytes: usize,
        /// The most that the caller allows.
        limit: usize,
    },
    /// The length is not a minimal varint of at most 32 bits.
    #[error("the length of a message is malformed")]
    Prefix,
    /// The stream ended inside a message.
    #[error("the stream ended inside a message")]
    Truncated,
    /// The stream failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads one message of at most `limit` bytes; `None` when the stream ended before it.
///
/// Not cancel-safe: a dropped call may have read a part of the message.
///
/// # Errors
/// See [`FrameError`]. After an error the stream is out of step and must be closed.
pub async fn read_message<S>(stream: &mut S, limit: usize) -> Result<Option<Vec<u8>>, FrameError>
where
    S: AsyncRead + Unpin + ?Sized,
{
    let Some(bytes) = read_length(stream).await? else { return Ok(None) };
    if bytes > limit {
        return Err(FrameError::TooLarge { bytes, limit });
    }
    let mut message = Vec::with_capacity(bytes.min(FIRST_ALLOCATION_BYTES));
    stream.take(bytes as u64).read_to_end(&mut message).await?;
    if message.len() < bytes { Err(FrameError::Truncated) } else { Ok(Some(message)) }
}

/// Writes one message of at most `limit` bytes and flushes.
///
/// # Errors
/// See [`FrameError`].
pub async fn write_message<S>(stream: &mut S, message: &[u8], limit: usize) -> Result<(), FrameError>
where
    S: AsyncWrite + Unpin + ?Sized,
{
    let too_large = FrameError::TooLarge { bytes: message.len(), limit };
    if message.len() > limit {
        return Err(too_large);
    }
    let length = u32::try_from(message.len()).map_err(|_| too_large)?;
    // One write: the multiplexers make a frame of every write.
    let mut buffer = Vec::with_capacity(MAX_PREFIX_BYTES + message.len());
    buffer.extend_from_slice(encode::u32(length, &mut encode::u32_buffer()));
    buffer.extend_from_slice(message);
    stream.write_all(&buffer).await?;
    stream.flush().await?;
    Ok(())
}

/// Reads the varint before a message; `None` when the stream ends before its first byte.
async fn read_length<S>(stream: &mut S) -> Result<Option<usize>, FrameError>
where
    S: AsyncRead + Unpin + ?Sized,
{
    let mut prefix = [0; MAX_PREFIX_BYTES];
    for end in 1..=MAX_PREFIX_BYTES {
        if stream.read(&mut prefix[end - 1..end]).await? == 0 {
            return if end == 1 { Ok(None) } else { Err(FrameError::Truncated) };
        }
        if decode::is_last(prefix[end - 1]) {
            // Not `decode::u32`, which drops the bits above the 32nd without a word.
            let (length, _) = decode::u64(&prefix[..end]).map_err(|_| FrameError::Prefix)?;
            let length = u32::try_from(length).ok().and_then(|length| usize::try_from(length).ok());
            return length.map(Some).ok_or(FrameError::Prefix);
        }
    }
    Err(FrameError::Prefix)
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;
    use futures::io::Cursor;
    use proptest::prelude::*;

    use super::*;

    fn write(messages: &[Vec<u8>]) -> Vec<u8> {
        let mut stream = Cursor::new(Vec::new());
        for message in messages {
            block_on(write_message(&mut stream, message, usize::MAX)).expect("memory does not fail");
        }
        stream.into_inner()
    }

    fn read(bytes: &[u8], limit: usize) -> Result<Option<Vec<u8>>, FrameError> {
        block_on(read_message(&mut Cursor::new(bytes), limit))
    }

    proptest! {
        #[test]
        fn messages_round_trip(messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..8)) {
            let bytes = write(&messages);
            let mut stream = Cursor::new(bytes);
            for message in &messages {
                let read = block_on(read_message(&mut stream, 300)).expect("complete");
                prop_assert_eq!(read.as_ref(), Some(message));
            }
            prop_assert!(block_on(read_message(&mut stream, 300)).expect("the end").is_none());
        }

        #[test]
        fn any_bytes_are_read_without_panic_and_within_the_limit(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            if let Ok(Some(message)) = read(&bytes, 16) {
                prop_assert!(message.len() <= 16);
            }
        }

        #[test]
        fn a_cut_stream_is_an_error(message in proptest::collection::vec(any::<u8>(), 1..300), cut in any::<prop::sample::Index>()) {
            let bytes = write(&[message]);
            let end = 1 + cut.index(bytes.len() - 1);
            prop_assert!(matches!(read(&bytes[..end], 300), Err(FrameError::Truncated)));
        }
    }

    #[test]
    fn the_limit_holds_on_both_sides() {
        let bytes = write(&[vec![1; 17]]);
        assert!(matches!(read(&bytes, 16), Err(FrameError::TooLarge { bytes: 17, limit: 16 })));
        assert!(read(&bytes, 17).is_ok());
        let mut out = Cursor::new(Vec::new());
        assert!(matches!(block_on(write_message(&mut out, &[0; 17], 16)), Err(FrameError::TooLarge { .. })));
        assert!(out.into_inner().is_empty());
    }

    #[test]
    fn malformed_lengths_are_refused() {
        assert!(matches!(read(&[0x80, 0x00], 16), Err(FrameError::Prefix)), "not minimal");
        assert!(matches!(read(&[0xff; 8], 16), Err(FrameError::Prefix)), "too long");
        assert!(matches!(read(&[0xff, 0xff, 0xff, 0xff, 0x7f], 16), Err(FrameError::Prefix)), "over 32 bits");
    }

    /// A peer that claims much and sends nothing costs the first allocation only.
    #[test]
    fn a_claimed_length_is_not_allocated() {
        let mut prefix = encode::u32_buffer();
        let claim = encode::u32(u32::MAX, &mut prefix);
        assert!(matches!(read(claim, usize::MAX), Err(FrameError::Truncated)));
    }
}
