use proptest::strategy::Strategy as _;

use super::*;
use crate::framing::{MAX_PAYLOAD_BYTES, encode_flag, encode_payload};

fn stream() -> StreamState {
    StreamState::new(UnreadBudget::default())
}

fn controls(state: &mut StreamState) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| state.next_control()).collect()
}

fn read_all(state: &mut StreamState) -> (Vec<u8>, ReadOutcome) {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 100]);
    loop {
        match state.read(&mut buffer) {
            ReadOutcome::Bytes(count) => bytes.extend_from_slice(&buffer[..count]),
            outcome => return (bytes, outcome),
        }
    }
}

#[test]
fn fin_is_acknowledged_and_both_sides_finish() {
    let (mut a, mut b) = (stream(), stream());
    let (frame, taken) = a.write(b"hello").unwrap();
    assert_eq!(taken, 5);
    b.receive(&frame);
    a.close_write();
    assert_eq!(a.write(b"more"), Err(StreamError::WriteAfterClose));
    assert_eq!(a.is_write_confirmed(), Ok(false));
    controls(&mut a).iter().for_each(|frame| b.receive(frame));
    assert_eq!(read_all(&mut b), (b"hello".to_vec(), ReadOutcome::EndOfStream));
    controls(&mut b).iter().for_each(|frame| a.receive(frame));
    assert_eq!(a.is_write_confirmed(), Ok(true));
    assert!(!a.is_done() && !b.is_done(), "half closed");

    b.receive(&[]);
    a.receive(&b.write(b"answer").unwrap().0);
    b.close_write();
    controls(&mut b).iter().for_each(|frame| a.receive(frame));
    controls(&mut a).iter().for_each(|frame| b.receive(frame));
    assert_eq!(read_all(&mut a), (b"answer".to_vec(), ReadOutcome::EndOfStream));
    assert!(a.is_done() && b.is_done());
}

#[test]
fn what_was_received_before_a_reset_is_delivered() {
    let mut state = stream();
    state.receive(&encode_payload(b"kept").0);
    state.receive(&encode_flag(Flag::Reset));
    state.receive(&encode_payload(b"ignored").0);
    assert_eq!(read_all(&mut state), (b"kept".to_vec(), ReadOutcome::Failed(StreamError::ResetByPeer)));
    assert_eq!(state.may_write(), Err(StreamError::ResetByPeer));
    assert!(state.is_done() && controls(&mut state).is_empty(), "a reset is not answered");
}

#[test]
fn stop_sending_ends_writes_but_not_the_closing_handshake() {
    let mut state = stream();
    state.receive(&encode_flag(Flag::StopSending));
    assert_eq!(state.may_write(), Err(StreamError::StoppedByPeer));
    state.close_write();
    assert_eq!(controls(&mut state), [encode_flag(Flag::Fin)]);
    state.receive(&encode_flag(Flag::FinAck));
    assert_eq!(state.is_write_confirmed(), Ok(true));
}

#[test]
fn dropping_a_stream_says_what_it_means() {
    let mut open = stream();
    open.detach();
    assert_eq!(controls(&mut open), [encode_flag(Flag::Reset)]);
    assert!(open.is_done());

    let mut we_finished = stream();
    we_finished.close_write();
    we_finished.detach();
    assert_eq!(controls(&mut we_finished), [encode_flag(Flag::Fin), encode_flag(Flag::StopSending)]);
    we_finished.receive(&encode_payload(b"discarded").0);
    we_finished.receive(&encode_flag(Flag::FinAck));
    we_finished.receive(&encode_flag(Flag::Fin));
    assert_eq!(controls(&mut we_finished), [encode_flag(Flag::FinAck)]);
    assert!(we_finished.is_done());

    let mut they_finished = stream();
    they_finished.receive(&encode_flag(Flag::Fin));
    they_finished.detach();
    assert_eq!(controls(&mut they_finished), [encode_flag(Flag::FinAck), encode_flag(Flag::Fin)]);
}

#[test]
fn violations_reset_the_stream_once() {
    let mut late = stream();
    late.receive(&encode_flag(Flag::Fin));
    assert_eq!(controls(&mut late), [encode_flag(Flag::FinAck)]);
    for _ in 0..3 {
        late.receive(&encode_payload(b"late").0);
    }
    assert_eq!(controls(&mut late), [encode_flag(Flag::Reset)]);
    assert_eq!(late.may_write(), Err(StreamError::DataAfterFin));

    let mut garbage = stream();
    garbage.receive(&[0xff; 300]);
    assert_eq!(controls(&mut garbage), [encode_flag(Flag::Reset)]);
    assert_eq!(read_all(&mut garbage).1, ReadOutcome::Failed(StreamError::Frame(FrameError::TooLong)));
}

#[test]
fn unread_bytes_are_bounded_per_stream_and_per_connection() {
    let frame = encode_payload(&[1; MAX_PAYLOAD_BYTES]).0;
    let frames_a_stream = MAX_UNREAD_BYTES / (MAX_PAYLOAD_BYTES + UNREAD_FRAME_OVERHEAD_BYTES);
    let budget = UnreadBudget::default();
    let mut first = StreamState::new(budget.clone());
    for _ in 0..frames_a_stream {
        first.receive(&frame);
        assert_eq!(first.may_write(), Ok(()));
    }
    first.receive(&frame);
    assert_eq!(first.may_write(), Err(StreamError::Unread));

    let mut others: Vec<_> = (0..4).map(|_| StreamState::new(budget.clone())).collect();
    for state in &mut others {
        (0..frames_a_stream).for_each(|_| state.receive(&frame));
    }
    assert!(budget.used_bytes() <= MAX_CONNECTION_UNREAD_BYTES);
    assert_eq!(others[3].may_write(), Err(StreamError::Unread), "the connection's budget is spent");
    let (bytes, outcome) = read_all(&mut first);
    assert_eq!(bytes.len(), frames_a_stream * MAX_PAYLOAD_BYTES, "what was accepted is delivered");
    assert_eq!(outcome, ReadOutcome::Failed(StreamError::Unread));
    drop((first, others));
    assert_eq!(budget.used_bytes(), 0);
}

#[test]
fn tiny_frames_are_charged_for_their_overhead() {
    let mut state = stream();
    let frame = encode_payload(&[1]).0;
    let message = frame.repeat(1000);
    for _ in 0..MAX_UNREAD_BYTES / (1 + UNREAD_FRAME_OVERHEAD_BYTES) / 1000 + 1 {
        state.receive(&message);
    }
    assert_eq!(state.may_write(), Err(StreamError::Unread));
}

#[test]
fn a_channel_that_closes_early_is_an_error_unless_the_stream_was_finished() {
    let mut cut = stream();
    cut.receive(&encode_payload(b"half").0);
    cut.close_write();
    cut.channel_closed();
    assert_eq!(read_all(&mut cut), (b"half".to_vec(), ReadOutcome::Failed(StreamError::ChannelClosed)));
    assert_eq!(cut.is_write_confirmed(), Err(StreamError::ChannelClosed));

    let mut finished = stream();
    finished.receive(&encode_flag(Flag::Fin));
    finished.close_write();
    finished.receive(&encode_flag(Flag::FinAck));
    finished.channel_closed();
    assert_eq!(read_all(&mut finished).1, ReadOutcome::EndOfStream);
    assert_eq!(finished.is_write_confirmed(), Ok(true));
}

proptest::proptest! {
    #[test]
    fn hostile_messages_never_panic_or_exceed_the_bounds(messages in proptest::collection::vec(
        proptest::prop_oneof![
            proptest::collection::vec(0_u8.., 0..40),
            (0..5_i32).prop_map(|flag| vec![2, 8, u8::try_from(flag).unwrap()]),
            proptest::collection::vec(0_u8.., 0..400).prop_map(|data| encode_payload(&data).0),
        ], 0..30,
    ), local in proptest::collection::vec(0..5_u8, 0..30)) {
        let mut state = stream();
        let mut resets = 0;
        for (message, action) in messages.iter().zip(local.iter().cycle().chain(std::iter::repeat(&0))) {
            state.receive(message);
            match action {
                1 => state.close_write(),
                2 => drop(read_all(&mut state)),
                3 => drop(state.write(&[1, 2, 3])),
                _ => {}
            }
            let sent = controls(&mut state);
            proptest::prop_assert!(sent.len() <= 4);
            resets += sent.iter().filter(|frame| **frame == encode_flag(Flag::Reset)).count();
        }
        proptest::prop_assert!(resets <= 1);
    }
}
