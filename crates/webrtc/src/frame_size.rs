//! How large frames may be: 16 KiB by the specification, more between two of our own nodes.
//!
//! A node says what it takes in an attribute of its session description, which others ignore (RFC 8866, section 5.13);
//! who does not say takes what the specification says. Every message costs a browser about the same, whatever its size,
//! so larger frames carry more (docs/performance.md).

/// The attribute's name and colon, as a line of a session description begins.
const ATTRIBUTE: &str = "a=x-cdi-frame-bytes:";

/// The largest frame, its length prefix included, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FrameSize(usize);

impl FrameSize {
    /// What every libp2p peer takes.
    pub const SPECIFIED: Self = Self(16 * 1024);
    /// What we take: the largest message that every browser takes (RFC 8841, section 6.1), and what a bare channel is
    /// fastest with.
    pub const OURS: Self = Self(64 * 1024);

    /// The number of bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        self.0
    }

    /// Bytes of the longest length prefix that announces a legal frame.
    pub(crate) const fn prefix_bytes(self) -> usize {
        if self.0 <= 1 << 14 { 2 } else { 3 }
    }

    /// Bytes that are left for a payload by the prefix, a flag (2), and the payload's own tag and length.
    #[must_use]
    pub const fn payload_bytes(self) -> usize {
        self.0 - 2 * self.prefix_bytes() - 3
    }

    /// A session description that tells the peer what we take.
    #[must_use]
    pub fn announce(sdp: &str) -> String {
        format!("{}\r\n{ATTRIBUTE}{}\r\n", sdp.trim_end(), Self::OURS.0)
    }

    /// What both take, by the description that the peer sent.
    #[must_use]
    pub fn agreed(sdp: &str) -> Self {
        let said = sdp.lines().find_map(|line| line.trim_end().strip_prefix(ATTRIBUTE)?.parse().ok());
        said.map_or(Self::SPECIFIED, |theirs| Self(theirs).clamp(Self::SPECIFIED, Self::OURS))
    }
}

impl Default for FrameSize {
    fn default() -> Self {
        Self::SPECIFIED
    }
}

#[cfg(test)]
#[cfg(not(target_arch = "wasm32"))]
mod tests {
    use super::*;

    #[test]
    fn two_of_us_agree_and_a_stranger_gets_what_is_specified() {
        let sdp = "v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=max-message-size:262144\r\n";
        assert_eq!(FrameSize::agreed(sdp), FrameSize::SPECIFIED);
        let announced = FrameSize::announce(sdp);
        assert!(announced.starts_with(sdp) && announced.ends_with("\r\n"), "{announced}");
        assert_eq!(FrameSize::agreed(&announced), FrameSize::OURS);
    }

    #[test]
    fn whatever_a_peer_claims_stays_between_the_specified_and_ours() {
        let claimed = |text: &str| FrameSize::agreed(&format!("v=0\r\n{ATTRIBUTE}{text}\r\n"));
        for low in ["0", "1", "-1", "x", "", "99999999999999999999999"] {
            assert_eq!(claimed(low), FrameSize::SPECIFIED, "{low}");
        }
        assert_eq!(claimed("32768").bytes(), 32768);
        assert_eq!(claimed("4294967295"), FrameSize::OURS);
    }

    #[test]
    fn what_is_left_for_a_payload() {
        assert_eq!(FrameSize::SPECIFIED.payload_bytes(), 16 * 1024 - 7);
        assert_eq!(FrameSize::OURS.payload_bytes(), 64 * 1024 - 9);
    }
}
