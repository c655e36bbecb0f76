use proptest::prelude::*;

use super::*;

fn candidate(text: &str) -> IceCandidate {
    IceCandidate {
        candidate: text.to_owned(),
        sdp_mid: Some("0".to_owned()),
        sdp_m_line_index: Some(0),
        username_fragment: None,
    }
}

fn encode(signal: Signal) -> BytesMut {
    let mut buffer = BytesMut::new();
    SignalCodec.encode(signal, &mut buffer).unwrap();
    buffer
}

fn decode(bytes: &[u8]) -> Result<Option<Signal>, SignallingError> {
    SignalCodec.decode(&mut BytesMut::from(bytes))
}

#[test]
fn wire_snapshot() {
    assert_eq!(encode(Signal::Offer("v=0".to_owned()))[..], [7, 8, 0, 18, 3, b'v', b'=', b'0']);
    assert_eq!(encode(Signal::Answer("x".to_owned()))[..], [5, 8, 1, 18, 1, b'x']);
    let wire = encode(Signal::Candidate(candidate("c")));
    let json = r#"{"candidate":"c","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":null}"#;
    assert_eq!(wire[..5], [76, 8, 2, 18, 72]);
    assert_eq!(&wire[5..], json.as_bytes());
    assert!(encode(Signal::EndOfCandidates).is_empty(), "never sent");
}

/// What Chromium's `RTCIceCandidate.toJSON()` gives, and the ways peers say "no more".
#[test]
fn candidates_as_peers_write_them() {
    let message = |json: &str| Envelope { kind: Some(2), data: Some(json.to_owned()) }.encode_length_delimited_to_vec();
    let json = r#"{"candidate":"candidate:1 1 udp 2113937151 a.local 5 typ host","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"qk","extra":1}"#;
    let Ok(Some(Signal::Candidate(parsed))) = decode(&message(json)) else { panic!("not a candidate") };
    assert_eq!(parsed.username_fragment.as_deref(), Some("qk"));
    for end in ["", "null", "\"\"", r#"{"candidate":""}"#, r#"{"candidate":"","sdpMid":"0","sdpMLineIndex":0}"#] {
        assert_eq!(decode(&message(end)).unwrap(), Some(Signal::EndOfCandidates), "{end}");
    }
    for bad in ["{", "[]", "7", r#"{"candidate":5}"#, r#"{"sdpMid":"0"}"#] {
        assert!(matches!(decode(&message(bad)), Err(SignallingError::Malformed(_))), "{bad}");
    }
}

#[test]
fn sizes_are_limited_both_ways() {
    let mut buffer = BytesMut::new();
    let long = "x".repeat(MAX_SDP_BYTES + 1);
    assert!(matches!(SignalCodec.encode(Signal::Offer(long.clone()), &mut buffer), Err(SignallingError::TooLong)));
    assert!(matches!(Signalling::new(Role::Initiator).local_description(long), Err(SignallingError::TooLong)));
    let longest = Signal::Answer("x".repeat(MAX_SDP_BYTES));
    assert_eq!(decode(&encode(longest.clone())).unwrap(), Some(longest));
    let oversized = Envelope { kind: Some(2), data: Some(" ".repeat(MAX_CANDIDATE_BYTES + 1)) };
    assert!(matches!(decode(&oversized.encode_length_delimited_to_vec()), Err(SignallingError::TooLong)));
    for prefix in [&[0xff, 0xff, 0x7f][..], &[0x80, 0x80, 0x80], &[0xff, 0xff, 0xff]] {
        assert!(matches!(decode(prefix), Err(SignallingError::TooLong)), "{prefix:?}");
    }
    assert!(matches!(decode(&[0xff, 0xff]), Ok(None)), "the prefix is not complete");
}

#[test]
fn the_initiator_offers_then_trickles() {
    let mut machine = Signalling::new(Role::Initiator);
    assert!(machine.local_candidate(candidate("early")).is_empty(), "held back until the offer is out");
    assert!(machine.local_candidate(candidate("")).is_empty(), "end of candidates is never sent");
    let actions = machine.local_description("offer".to_owned()).unwrap();
    let expected =
        [Action::Send(Signal::Offer("offer".to_owned())), Action::Send(Signal::Candidate(candidate("early")))];
    assert_eq!(actions, expected);
    assert_eq!(machine.local_candidate(candidate("late")), [Action::Send(Signal::Candidate(candidate("late")))]);
    assert!(machine.received(Signal::Candidate(candidate("theirs"))).unwrap().is_empty());
    let actions = machine.received(Signal::Answer("answer".to_owned())).unwrap();
    assert_eq!(actions, [Action::AcceptAnswer("answer".to_owned()), Action::AddCandidate(candidate("theirs"))]);
    assert!(matches!(machine.received(Signal::Answer("again".to_owned())), Err(SignallingError::OutOfTurn(_))));
    assert!(matches!(machine.local_description("again".to_owned()), Err(SignallingError::OutOfTurn(_))));
}

#[test]
fn messages_out_of_turn_are_refused() {
    let mut initiator = Signalling::new(Role::Initiator);
    assert!(matches!(initiator.received(Signal::Answer(String::new())), Err(SignallingError::OutOfTurn(_))));
    assert!(matches!(initiator.received(Signal::Offer(String::new())), Err(SignallingError::OutOfTurn(_))));
    let mut responder = Signalling::new(Role::Responder);
    assert!(matches!(responder.received(Signal::Answer(String::new())), Err(SignallingError::OutOfTurn(_))));
    assert!(matches!(responder.local_description(String::new()), Err(SignallingError::OutOfTurn(_))));
}

#[test]
fn candidates_are_counted() {
    let mut machine = Signalling::new(Role::Responder);
    for _ in 0..MAX_CANDIDATES {
        assert!(machine.received(Signal::Candidate(candidate("c"))).unwrap().is_empty());
    }
    let one_more = machine.received(Signal::Candidate(candidate("c")));
    assert!(matches!(one_more, Err(SignallingError::TooManyCandidates)));
    let actions = machine.received(Signal::Offer("o".to_owned())).unwrap();
    assert_eq!(actions.len(), 1 + MAX_CANDIDATES);
    let sent = (0..2 * MAX_CANDIDATES).map(|_| machine.local_candidate(candidate("c")).len()).sum::<usize>();
    assert_eq!(sent, 0);
    assert_eq!(machine.local_description("a".to_owned()).unwrap().len(), 1 + MAX_CANDIDATES);
}

/// What a browser would refuse: a candidate before the remote description, an answer before the offer.
#[derive(Default)]
struct FakePeerConnection {
    has_remote_description: bool,
    candidates: Vec<IceCandidate>,
}

impl FakePeerConnection {
    fn carry_out(&mut self, action: Action, outbox: &mut Vec<Signal>) -> bool {
        match action {
            Action::Send(signal) => outbox.push(signal),
            Action::AcceptOffer(_) | Action::AcceptAnswer(_) => {
                assert!(!std::mem::replace(&mut self.has_remote_description, true));
                return true;
            }
            Action::AddCandidate(candidate) => {
                assert!(self.has_remote_description, "InvalidStateError in a browser");
                self.candidates.push(candidate);
            }
        }
        false
    }
}

proptest! {
    #[test]
    fn any_interleaving_exchanges_everything(
        counts in (0..MAX_CANDIDATES, 0..MAX_CANDIDATES),
        schedule in proptest::collection::vec(0_u8..5, 300),
    ) {
        let mut machines = [Signalling::new(Role::Initiator), Signalling::new(Role::Responder)];
        let mut connections = [FakePeerConnection::default(), FakePeerConnection::default()];
        let mut wires = [BytesMut::new(), BytesMut::new()];
        let mut left = [counts.0, counts.1];
        let mut pending_answer = false;
        let tail = [0_u8, 1, 2, 3, 4].into_iter().cycle().take(5 * 4 * MAX_CANDIDATES);
        for step in schedule.into_iter().chain(tail) {
            let (side, actions) = match step {
                0 if !machines[0].is_description_sent => (0, machines[0].local_description("o".to_owned()).unwrap()),
                0 if std::mem::take(&mut pending_answer) => (1, machines[1].local_description("a".to_owned()).unwrap()),
                1 | 2 if left[usize::from(step - 1)] > 0 => {
                    let side = usize::from(step - 1);
                    left[side] -= 1;
                    (side, machines[side].local_candidate(candidate(&format!("{side}"))))
                }
                3 | 4 => {
                    let side = usize::from(step - 3);
                    match SignalCodec.decode(&mut wires[side]).unwrap() {
                        Some(signal) => (side, machines[side].received(signal).unwrap()),
                        None => continue,
                    }
                }
                _ => continue,
            };
            for action in actions {
                let mut outbox = Vec::new();
                let accepted = connections[side].carry_out(action, &mut outbox);
                pending_answer |= accepted && side == 1;
                for signal in outbox {
                    SignalCodec.encode(signal, &mut wires[1 - side]).unwrap();
                }
            }
        }
        prop_assert!(connections.iter().all(|connection| connection.has_remote_description));
        prop_assert_eq!(connections[0].candidates.len(), counts.1);
        prop_assert_eq!(connections[1].candidates.len(), counts.0);
    }

    #[test]
    fn garbage_is_an_error_never_a_panic(bytes in proptest::collection::vec(0_u8.., 0..400)) {
        let mut buffer = BytesMut::from(&bytes[..]);
        let mut machine = Signalling::new(Role::Responder);
        while let Ok(Some(signal)) = SignalCodec.decode(&mut buffer) {
            if machine.received(signal).is_err() {
                break;
            }
        }
    }

    #[test]
    fn messages_survive_the_wire(text in ".{1,300}", kind in 0..3_u8) {
        let signal = match kind {
            0 => Signal::Offer(text),
            1 => Signal::Answer(text),
            _ => Signal::Candidate(candidate(&text)),
        };
        let wire = encode(signal.clone());
        prop_assert!(decode(&wire[..wire.len() - 1]).unwrap().is_none(), "incomplete");
        prop_assert_eq!(decode(&wire).unwrap(), Some(signal));
    }
}
