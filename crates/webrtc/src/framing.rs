//! Message framing of libp2p data channels (libp2p specs, webrtc/README.md, "Multiplexing").
//!
//! A data channel can neither be half-closed nor reset, so every message is a small protobuf
//! with an optional flag, prefixed with its length as an unsigned varint. Peers usually send one
//! frame a data-channel message, but nothing in the specification forbids splitting or coalescing
//! them: [`FrameDecoder`] takes any chunking.

use bytes::{Buf as _, BytesMut};
use prost::Message as _;
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::frame_size::FrameSize;

/// Largest encoded frame, its length prefix included, in bytes, towards peers that have not said that they take more.
pub const MAX_FRAME_BYTES: usize = FrameSize::SPECIFIED.bytes();

/// Largest payload of such a frame.
pub const MAX_PAYLOAD_BYTES: usize = FrameSize::SPECIFIED.payload_bytes();

/// Begins the field `message`: number 2, length-delimited.
const MESSAGE_TAG: u8 = 2 << 3 | 2;

/// What a frame says about the stream besides carrying bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub enum Flag {
    /// The sender will send no more bytes.
    Fin = 0,
    /// The sender will read no more bytes; what still comes is discarded.
    StopSending = 1,
    /// The sender gave the stream up; bytes may be missing.
    Reset = 2,
    /// The sender has received everything up to and including the peer's [`Flag::Fin`].
    FinAck = 3,
}

/// The protobuf message on the wire.
#[derive(Clone, PartialEq, Eq, prost::Message)]
struct Envelope {
    #[prost(enumeration = "Flag", optional, tag = "1")]
    flag: Option<i32>,
    #[prost(bytes = "vec", optional, tag = "2")]
    message: Option<Vec<u8>>,
}

/// One decoded frame. When it carries both, the payload precedes the flag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Bytes of the stream; empty when the frame only carries a flag.
    pub payload: Vec<u8>,
    /// The flag, if any. Values that this version does not know are ignored.
    pub flag: Option<Flag>,
}

/// Why received bytes were not a frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The length prefix announces more than the [`FrameSize`] of the stream.
    #[error("frame longer than agreed")]
    TooLong,
    /// The body is not the protobuf message of the specification.
    #[error("malformed frame: {0}")]
    Malformed(String),
}

/// Encodes the leading part of `data` that fits one frame of [`MAX_FRAME_BYTES`].
///
/// Returns the frame and how many bytes of `data` it carries.
#[must_use]
pub fn encode_payload(data: &[u8]) -> (Vec<u8>, usize) {
    encode_payload_within(FrameSize::SPECIFIED, data)
}

/// Encodes the leading part of `data` that fits one frame of that size.
///
/// Written out by hand, where prost would copy the payload twice: into the message, and from there.
#[must_use]
pub fn encode_payload_within(size: FrameSize, data: &[u8]) -> (Vec<u8>, usize) {
    let taken = data.len().min(size.payload_bytes());
    let body = 1 + encoded_len_varint(taken as u64) + taken;
    let mut frame = Vec::with_capacity(size.prefix_bytes() + body);
    encode_varint(body as u64, &mut frame);
    frame.push(MESSAGE_TAG);
    encode_varint(taken as u64, &mut frame);
    frame.extend_from_slice(&data[..taken]);
    (frame, taken)
}

/// Encodes a frame that carries nothing but `flag`.
#[must_use]
pub fn encode_flag(flag: Flag) -> Vec<u8> {
    Envelope { flag: Some(flag.into()), message: None }.encode_length_delimited_to_vec()
}

/// Turns arbitrarily chunked bytes into frames, holding less than one frame between calls.
#[derive(Debug, Default)]
pub struct FrameDecoder {
    size: FrameSize,
    partial: BytesMut,
}

impl FrameDecoder {
    /// From now on takes frames of that size.
    pub fn allow(&mut self, size: FrameSize) {
        self.size = size;
    }

    /// Takes bytes off the front of `chunk` and returns the next complete frame, or `None` once
    /// `chunk` is used up.
    ///
    /// # Errors
    /// [`FrameError`]; the decoder is then out of step and must not be used again.
    pub fn next_frame(&mut self, chunk: &mut &[u8]) -> Result<Option<Frame>, FrameError> {
        // Usually a chunk is a frame, and need not be put together.
        if self.partial.is_empty()
            && let Some((prefix, body)) = length_prefix(self.size, chunk)?
            && let Some(whole) = chunk.get(prefix..prefix + body)
        {
            let frame = decode_body(whole);
            *chunk = &chunk[prefix + body..];
            return frame.map(Some);
        }
        loop {
            let wanted = match length_prefix(self.size, &self.partial)? {
                Some((prefix, body)) if self.partial.len() == prefix + body => {
                    self.partial.advance(prefix);
                    let frame = decode_body(&self.partial);
                    self.partial.clear();
                    return frame.map(Some);
                }
                Some((prefix, body)) => prefix + body - self.partial.len(),
                None => 1,
            };
            if chunk.is_empty() {
                return Ok(None);
            }
            let (head, rest) = chunk.split_at(wanted.min(chunk.len()));
            self.partial.extend_from_slice(head);
            *chunk = rest;
        }
    }
}

/// Length of the prefix and of the body it announces, or `None` if the prefix is incomplete.
fn length_prefix(size: FrameSize, bytes: &[u8]) -> Result<Option<(usize, usize)>, FrameError> {
    let mut value = 0_usize;
    for (index, byte) in bytes.iter().take(size.prefix_bytes()).enumerate() {
        value |= usize::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let prefix = index + 1;
            return if prefix + value > size.bytes() { Err(FrameError::TooLong) } else { Ok(Some((prefix, value))) };
        }
    }
    if bytes.len() >= size.prefix_bytes() { Err(FrameError::TooLong) } else { Ok(None) }
}

fn decode_body(body: &[u8]) -> Result<Frame, FrameError> {
    let envelope = Envelope::decode(body).map_err(|error| FrameError::Malformed(error.to_string()))?;
    Ok(Frame {
        payload: envelope.message.unwrap_or_default(),
        flag: envelope.flag.and_then(|flag| Flag::try_from(flag).ok()),
    })
}

#[cfg(test)]
#[cfg(not(target_arch = "wasm32"))]
mod tests {
    use super::*;

    fn decode_all(decoder: &mut FrameDecoder, mut chunk: &[u8]) -> Result<Vec<Frame>, FrameError> {
        let mut frames = Vec::new();
        while let Some(frame) = decoder.next_frame(&mut chunk)? {
            frames.push(frame);
        }
        Ok(frames)
    }

    /// The bytes that js-libp2p and the specification's example produce for these frames.
    #[test]
    fn wire_snapshot() {
        assert_eq!(encode_flag(Flag::Fin), [2, 8, 0]);
        assert_eq!(encode_flag(Flag::StopSending), [2, 8, 1]);
        assert_eq!(encode_flag(Flag::Reset), [2, 8, 2]);
        assert_eq!(encode_flag(Flag::FinAck), [2, 8, 3]);
        assert_eq!(encode_payload(b"abc"), (vec![5, 18, 3, b'a', b'b', b'c'], 3));
    }

    #[test]
    fn a_full_frame_stays_within_the_limit() {
        let data = vec![7; 3 * MAX_FRAME_BYTES];
        let (frame, taken) = encode_payload(&data);
        assert_eq!(taken, MAX_PAYLOAD_BYTES);
        assert!(frame.len() <= MAX_FRAME_BYTES);
        let frames = decode_all(&mut FrameDecoder::default(), &frame).unwrap();
        assert_eq!(frames, [Frame { payload: data[..taken].to_vec(), flag: None }]);
    }

    #[test]
    fn larger_frames_are_taken_where_they_are_agreed_and_refused_elsewhere() {
        let data = vec![7; 3 * FrameSize::OURS.bytes()];
        let (frame, taken) = encode_payload_within(FrameSize::OURS, &data);
        assert_eq!((frame.len(), taken), (FrameSize::OURS.bytes() - 2, FrameSize::OURS.payload_bytes()));
        assert_eq!(decode_all(&mut FrameDecoder::default(), &frame), Err(FrameError::TooLong));
        let mut decoder = FrameDecoder::default();
        decoder.allow(FrameSize::OURS);
        let expected = Frame { payload: data[..taken].to_vec(), flag: None };
        assert_eq!(decode_all(&mut decoder, &frame).unwrap(), std::slice::from_ref(&expected));
        let (first, rest) = frame.split_at(frame.len() / 2);
        assert_eq!(decode_all(&mut decoder, first).unwrap(), []);
        assert_eq!(decode_all(&mut decoder, rest).unwrap(), [expected]);
        assert_eq!(decode_all(&mut decoder, &[0x80, 0x80, 0x04, 0]), Err(FrameError::TooLong));
    }

    #[test]
    fn a_frame_may_carry_payload_and_flag() {
        let frames = decode_all(&mut FrameDecoder::default(), &[6, 8, 0, 18, 2, 1, 2, 0]).unwrap();
        assert_eq!(frames[0], Frame { payload: vec![1, 2], flag: Some(Flag::Fin) });
        assert_eq!(frames[1], Frame { payload: vec![], flag: None }, "an empty message is legal");
    }

    #[test]
    fn unknown_flags_are_ignored_and_long_prefixes_refused() {
        let frames = decode_all(&mut FrameDecoder::default(), &[2, 8, 9]).unwrap();
        assert_eq!(frames, [Frame { payload: vec![], flag: None }]);
        for prefix in [&[0xff, 0x7f][..], &[0x80, 0x80, 0x01], &[0xff, 0xff]] {
            assert_eq!(decode_all(&mut FrameDecoder::default(), prefix), Err(FrameError::TooLong));
        }
    }

    proptest::proptest! {
        #[test]
        fn any_chunking_gives_the_same_frames(
            payloads in proptest::collection::vec(proptest::collection::vec(0_u8.., 0..600), 0..20),
            cuts in proptest::collection::vec(1_usize..700, 1..200),
        ) {
            let mut wire: Vec<u8> = payloads.iter().flat_map(|payload| encode_payload(payload).0).collect();
            wire.extend(encode_flag(Flag::FinAck));
            let mut decoder = FrameDecoder::default();
            let mut frames = Vec::new();
            let mut rest = &wire[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (chunk, tail) = rest.split_at((*cut).min(rest.len()));
                frames.extend(decode_all(&mut decoder, chunk).unwrap());
                rest = tail;
            }
            let last = frames.pop().unwrap();
            proptest::prop_assert_eq!(last.flag, Some(Flag::FinAck));
            let received: Vec<_> = frames.into_iter().map(|frame| frame.payload).collect();
            proptest::prop_assert_eq!(received, payloads);
        }

        #[test]
        fn garbage_is_an_error_or_frames_never_a_panic(chunks in proptest::collection::vec(
            proptest::collection::vec(0_u8.., 0..300), 0..20,
        )) {
            let mut decoder = FrameDecoder::default();
            for chunk in &chunks {
                if decode_all(&mut decoder, chunk).is_err() {
                    break;
                }
                proptest::prop_assert!(decoder.partial.len() < MAX_FRAME_BYTES);
            }
        }
    }
}
