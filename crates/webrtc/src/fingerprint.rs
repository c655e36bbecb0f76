//! Fingerprints of DTLS certificates: in addresses, in session descriptions and in the Noise prologue.

use libp2p_core::multiaddr::multihash::Multihash;

/// Code of SHA-256 in the table of multihashes.
const SHA2_256: u64 = 0x12;

/// What the specification puts before the two fingerprints of the Noise prologue.
const PROLOGUE_PREFIX: &[u8] = b"libp2p-webrtc-noise:";

/// The name of SHA-256 in session descriptions (RFC 8122, section 5).
const SDP_NAME: &str = "sha-256";

/// SHA-256 of a certificate in DER: the only hash that every implementation knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// From the hash itself.
    #[must_use]
    pub const fn new(digest: [u8; 32]) -> Self {
        Self(digest)
    }

    /// From a multihash; `None` unless it is a SHA-256 of 32 bytes.
    #[must_use]
    pub fn from_multihash(hash: &Multihash<64>) -> Option<Self> {
        if hash.code() != SHA2_256 {
            return None;
        }
        hash.digest().try_into().ok().map(Self)
    }

    /// As `/certhash` holds it.
    #[must_use]
    pub fn to_multihash(self) -> Multihash<64> {
        Multihash::wrap(SHA2_256, &self.0).expect("32 bytes fit into 64")
    }

    /// The first `a=fingerprint:sha-256` of a session description.
    #[must_use]
    pub fn from_sdp(sdp: &str) -> Option<Self> {
        sdp.lines().find_map(|line| {
            let (name, value) = line.trim_end().strip_prefix("a=fingerprint:")?.split_once(' ')?;
            if !name.eq_ignore_ascii_case(SDP_NAME) {
                return None;
            }
            let mut digest = [0; 32];
            let mut parts = value.trim().split(':');
            for byte in &mut digest {
                // `from_str_radix` would take a sign.
                let is_hex = |part: &&str| part.len() == 2 && part.bytes().all(|c| c.is_ascii_hexdigit());
                let part = parts.next().filter(is_hex)?;
                *byte = u8::from_str_radix(part, 16).ok()?;
            }
            parts.next().is_none().then_some(Self(digest))
        })
    }

    /// As session descriptions hold it: `sha-256 AB:CD:…`.
    #[must_use]
    pub fn to_sdp(self) -> String {
        let pairs: Vec<String> = self.0.iter().map(|byte| format!("{byte:02X}")).collect();
        format!("{SDP_NAME} {}", pairs.join(":"))
    }

    /// The hash itself.
    #[must_use]
    pub const fn digest(&self) -> &[u8; 32] {
        &self.0
    }
}

/// The prologue of the Noise handshake of `/webrtc-direct`: it ties the identities that the handshake proves
/// to the two certificates of the connection under it.
#[must_use]
pub fn noise_prologue(client: Fingerprint, server: Fingerprint) -> Vec<u8> {
    let mut prologue = PROLOGUE_PREFIX.to_vec();
    prologue.extend(client.to_multihash().to_bytes());
    prologue.extend(server.to_multihash().to_bytes());
    prologue
}

#[cfg(test)]
#[cfg(not(target_arch = "wasm32"))]
mod tests {
    use super::*;

    fn from_hex(text: &str) -> Vec<u8> {
        (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
    }

    /// The test vector of the specification.
    #[test]
    fn the_prologue_is_that_of_the_specification() {
        let client = from_hex("3e79af40d6059617a0d83b83a52ce73b0c1f37a72c6043ad2969e2351bdca870");
        let server = from_hex("30fc9f469c207419dfdd0aab5f27a86c973c94e40548db9375cca2e915973b99");
        let prologue = from_hex(
            "6c69627032702d7765627274632d6e6f6973653a12203e79af40d6059617a0d83b83a52ce73b0c1f37a72c6043ad2969e2351bdca870122030fc9f469c207419dfdd0aab5f27a86c973c94e40548db9375cca2e915973b99",
        );
        let fingerprint = |bytes: Vec<u8>| Fingerprint::new(bytes.try_into().unwrap());
        assert_eq!(noise_prologue(fingerprint(client), fingerprint(server)), prologue);
    }

    #[test]
    fn other_hashes_are_no_fingerprints() {
        assert_eq!(Fingerprint::from_multihash(&Multihash::wrap(0x11, &[1; 20]).unwrap()), None);
        assert_eq!(Fingerprint::from_multihash(&Multihash::wrap(SHA2_256, &[1; 31]).unwrap()), None);
        assert_eq!(Fingerprint::from_sdp("a=fingerprint:sha-1 AB:CD"), None);
        assert_eq!(Fingerprint::from_sdp(&format!("a=fingerprint:sha-256 {}", ["AB"; 33].join(":"))), None);
        assert_eq!(Fingerprint::from_sdp(&format!("a=fingerprint:sha-256 {}", ["+B"; 32].join(":"))), None);
    }

    proptest::proptest! {
        #[test]
        fn every_form_leads_back(digest in proptest::array::uniform32(0_u8..)) {
            let fingerprint = Fingerprint::new(digest);
            proptest::prop_assert_eq!(Fingerprint::from_multihash(&fingerprint.to_multihash()), Some(fingerprint));
            let sdp = format!("v=0\r\na=fingerprint:{}\r\na=mid:0\r\n", fingerprint.to_sdp());
            proptest::prop_assert_eq!(Fingerprint::from_sdp(&sdp), Some(fingerprint));
        }

        #[test]
        fn any_text_is_read_without_a_panic(text in "(a=fingerprint:[ -~é]{0,120}\r?\n){0,4}[^a]{0,40}") {
            let _ = Fingerprint::from_sdp(&text);
        }
    }
}
