//! What is read of session descriptions beside what the WebRTC stack reads.

/// A description that the stack is not given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a session description of something else than one data section")]
pub struct NotData;

/// Whether a description holds exactly one section, which is for data channels. Media sections would make the stack
/// set up what nobody here uses.
///
/// # Errors
/// [`NotData`].
pub fn check(sdp: &str) -> Result<(), NotData> {
    let mut sections = sdp.lines().filter_map(|line| line.strip_prefix("m="));
    let is_data = sections.next().is_some_and(|section| {
        section.starts_with("application ") && section.trim_end().ends_with(" webrtc-datachannel")
    });
    (is_data && sections.next().is_none()).then_some(()).ok_or(NotData)
}

/// The name of the data section.
#[must_use]
pub fn section(sdp: &str) -> Option<String> {
    sdp.lines().find_map(|line| line.trim_end().strip_prefix("a=mid:")).map(str::to_owned)
}

#[cfg(test)]
#[cfg(not(target_arch = "wasm32"))]
mod tests {
    use super::*;

    const DATA: &str = "v=0\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\na=mid:x7\r\n";

    #[test]
    fn one_data_section_and_nothing_else() {
        assert_eq!(check(DATA), Ok(()));
        assert_eq!(section(DATA).as_deref(), Some("x7"));
        for other in [
            String::new(),
            "v=0\r\n".to_owned(),
            format!("{DATA}m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"),
            format!("{DATA}m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n"),
            "v=0\r\nm=application 9 DTLS/SCTP 5000\r\n".to_owned(),
        ] {
            assert_eq!(check(&other), Err(NotData), "{other}");
        }
    }
}
