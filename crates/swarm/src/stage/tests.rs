//! One stage against good and hostile neighbours.

use cdi_types::block::raw_cid;
use cdi_types::sampling::Sampling;
use cdi_types::session::{ActivationType, Transcript};

use super::*;

const ROW: usize = 4;

fn open(layers: &str, next: bool) -> Open {
    Open {
        session: [1; 16],
        attempt: 0,
        model: raw_cid(b"m"),
        layers: layers.parse().expect("a range"),
        next: next.then(|| vec![1]),
        max_positions: 8,
        prompt_len: 3,
        client_have: 3,
        sampling: Sampling::GREEDY,
        activations: ActivationType::F32,
        fork: Fork::default(),
    }
}

fn middle() -> Stage {
    let mut stage = Stage::new(open("2-3", true), ROW, 8).expect("in bounds");
    assert_eq!(
        stage.hello(&Hello { session: [1; 16], attempt: 0, layer: 2, fork: Fork::default(), channel: None }),
        Welcome::Have(0)
    );
    stage
}

fn frame(position: u32, rows: &[u8], sent_before: &[u8]) -> Frame {
    let payload: Vec<u8> = rows.iter().flat_map(|b| [*b; ROW]).collect();
    let mut transcript = Transcript::default();
    let before: Vec<u8> = sent_before.iter().flat_map(|b| [*b; ROW]).collect();
    transcript.push(0, u32::try_from(sent_before.len()).expect("few"), &before);
    let count = u32::try_from(rows.len()).expect("few");
    // The receiver's transcript covers each position once, however often a row is sent.
    let fresh = &payload[(sent_before.len() - position as usize) * ROW..];
    transcript.push(
        u32::try_from(sent_before.len()).expect("few"),
        u32::try_from(fresh.len() / ROW).expect("few"),
        fresh,
    );
    Frame { session: [1; 16], attempt: 0, branch: 0, position, rows: count, transcript: transcript.value(), payload }
}

fn failed(actions: &[Action]) -> bool {
    matches!(actions, [Action::Reply(Control::Failed { .. }), Action::End])
}

#[test]
fn a_row_already_held_is_never_applied_twice() {
    let mut stage = middle();
    let first = stage.frame(&frame(0, &[1, 2], &[]));
    assert!(matches!(&first[..], [Action::Compute(Work { start: 0, .. })]));
    stage.computed(Output::Rows(vec![0; 2 * ROW]));
    assert_eq!(stage.frame(&frame(0, &[1, 2], &[1, 2])), []);
    let overlap = stage.frame(&frame(1, &[2, 3], &[1, 2]));
    let rows = WorkInput::Rows(vec![3; ROW]);
    assert_eq!(overlap, [Action::Compute(Work { start: 2, input: rows, sample_from: None })]);
}

#[test]
fn hostile_frames_end_the_session() {
    let good = frame(0, &[1], &[]);
    for bad in [
        Frame { session: [2; 16], ..good.clone() },
        Frame { attempt: 1, ..good.clone() },
        Frame { position: 1, ..good.clone() },
        Frame { rows: 2, ..good.clone() },
        Frame { payload: vec![0; ROW + 1], ..good.clone() },
        Frame { transcript: [0; 32], ..good.clone() },
        frame(0, &[0; 9], &[]),
    ] {
        assert!(failed(&middle().frame(&bad)), "{bad:?}");
    }
    let mut unopened = Stage::new(open("2-3", true), ROW, 8).expect("in bounds");
    assert!(failed(&unopened.frame(&good)));
    assert!(failed(&middle().tokens(Fork::default(), 0, &[1])), "token ids in the middle");
    let mut first = Stage::new(open("0-1", true), ROW, 8).expect("in bounds");
    assert!(failed(&first.tokens(Fork::default(), 1, &[1])), "a gap");
    assert!(failed(&first.tokens(Fork::default(), 0, &[0; 9])), "more than reserved");
}

#[test]
fn requests_out_of_bounds_are_refused() {
    for bad in [
        Open { prompt_len: 0, ..open("0-1", true) },
        Open { prompt_len: 9, ..open("0-1", true) },
        Open { max_positions: 9, ..open("0-1", true) },
        Open { sampling: Sampling { top_p: f32::NAN, ..Sampling::GREEDY }, ..open("0-1", true) },
    ] {
        assert!(Stage::new(bad, ROW, 8).is_err());
    }
}

/// The first stage of a session of 400 positions, with all of a prompt computed and a successor that has none.
fn eager(hidden_bytes: usize) -> (Stage, Vec<Action>) {
    let long = Open { max_positions: 400, prompt_len: 400, client_have: 400, ..open("0-1", true) };
    let mut stage = Stage::new(long, hidden_bytes, 400).expect("in bounds");
    let mut actions = stage.tokens(Fork::default(), 0, &[1; 400]);
    while let [.., Action::Compute(work)] = &actions[..] {
        let WorkInput::Tokens(ids) = &work.input else { panic!("token ids") };
        let rows = vec![7; ids.len() * hidden_bytes];
        actions = stage.computed(Output::Rows(rows));
    }
    assert_eq!(stage.held(), 400);
    let actions = stage.next_welcome(&Welcome::Have(0));
    (stage, actions)
}

fn rows_sent(actions: &[Action]) -> u32 {
    let rows = |a: &Action| if let Action::SendNext(frame) = a { frame.rows } else { 0 };
    actions.iter().map(rows).sum()
}

#[test]
fn a_successor_that_returns_no_credit_gets_one_window() {
    let (mut stage, actions) = eager(ROW);
    assert_eq!(rows_sent(&actions), WINDOW_ROWS);
    assert_eq!(stage.next_credit(0), [], "no news");
    assert_eq!(rows_sent(&stage.next_credit(100)), 100);
    assert_eq!(stage.next_credit(50), [], "credit is never taken back");
    assert_eq!(rows_sent(&stage.next_credit(WINDOW_ROWS + 100)), WINDOW_ROWS);
    assert_eq!(rows_sent(&stage.next_credit(2 * WINDOW_ROWS + 100)), 400 - 2 * WINDOW_ROWS - 100);
    let lie = stage.next_credit(401);
    assert_eq!(lie, [Action::Reply(Control::NextLost { attempt: 0 })], "rows that were never sent");
}

#[test]
fn frames_of_wide_rows_stay_small() {
    let (_, actions) = eager(BULK_FRAME_BYTES / 4);
    let sizes: Vec<u32> =
        actions.iter().filter_map(|a| if let Action::SendNext(f) = a { Some(f.rows) } else { None }).collect();
    assert!(sizes.iter().all(|rows| *rows == 4), "{sizes:?}");
    assert_eq!(rows_sent(&actions), WINDOW_ROWS);
}

#[test]
fn credit_is_given_for_computed_rows_and_enforced() {
    let long = Open { max_positions: 400, prompt_len: 400, client_have: 400, ..open("2-3", true) };
    let mut stage = Stage::new(long, ROW, 400).expect("in bounds");
    stage.hello(&Hello { session: [1; 16], attempt: 0, layer: 2, fork: Fork::default(), channel: None });
    let rows = vec![1; WINDOW_ROWS as usize];
    let mut actions = Vec::new();
    for at in (0..WINDOW_ROWS as usize).step_by(16) {
        let one = stage.frame(&frame(u32::try_from(at).expect("few"), &rows[at..at + 16], &rows[..at]));
        actions.extend(one);
    }
    // The first frame was computed alone, the others together.
    let Some(Action::Compute(work)) = actions.pop() else { panic!("work") };
    assert_eq!(work.input, WorkInput::Rows(vec![1; 16 * ROW]));
    let actions = stage.computed(Output::Rows(vec![0; 16 * ROW]));
    let [.., Action::Compute(work)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!(work.input, WorkInput::Rows(vec![1; CHUNK_ROWS as usize * ROW]));
    assert!(!actions.iter().any(|a| matches!(a, Action::Credit(_))), "not for every frame");
    let beyond = frame(WINDOW_ROWS, &[1], &rows);
    let actions = stage.computed(Output::Rows(vec![0; CHUNK_ROWS as usize * ROW]));
    assert!(actions.contains(&Action::Credit(16 + CHUNK_ROWS)), "{actions:?}");
    assert!(!failed(&stage.frame(&beyond)), "there is credit now");

    let mut greedy = Stage::new(stage.open().clone(), ROW, 400).expect("in bounds");
    greedy.hello(&Hello { session: [1; 16], attempt: 0, layer: 2, fork: Fork::default(), channel: None });
    assert!(!failed(&greedy.frame(&frame(0, &rows, &[]))));
    assert!(failed(&greedy.frame(&beyond)), "more than the window");
}

#[test]
fn a_stale_stream_is_refused() {
    let mut stage = middle();
    assert_eq!(
        stage.hello(&Hello { session: [1; 16], attempt: 2, layer: 2, fork: Fork::default(), channel: None }),
        Welcome::Have(0)
    );
    assert_eq!(
        stage.hello(&Hello { session: [1; 16], attempt: 1, layer: 2, fork: Fork::default(), channel: None }),
        Welcome::Refused
    );
    assert_eq!(stage.frame(&frame(0, &[1], &[])), [], "a frame of the superseded stream is dropped");
}

/// A frame of branch 1 after `before`, which both ends keep.
fn forked(position: u32, rows: &[u8], before: &[u8]) -> Frame {
    Frame { branch: 1, ..frame(position, rows, before) }
}

#[test]
fn a_new_branch_voids_what_waits_and_what_is_computed() {
    let mut stage = middle();
    stage.frame(&frame(0, &[1, 2, 3], &[]));
    stage.frame(&frame(3, &[4, 5], &[1, 2, 3]));
    assert_eq!(stage.frame(&forked(2, &[9], &[1, 2])), [], "the kernels are busy");
    let actions = stage.computed(Output::Rows(vec![7; 3 * ROW]));
    assert_eq!(stage.held(), 2, "the third row was void before it was there");
    let next = Work { start: 2, input: WorkInput::Rows(vec![9; ROW]), sample_from: None };
    assert_eq!(actions.last(), Some(&Action::Compute(next)), "and what waited behind it was dropped");
    let hello = actions.iter().find_map(|a| if let Action::ConnectNext { hello, .. } = a { Some(hello) } else { None });
    assert_eq!(hello.map(|h| h.fork), Some(Fork { branch: 1, position: 2 }), "the successor hears of it");
}

#[test]
fn rows_of_an_earlier_branch_count_up_to_the_fork() {
    let mut stage = middle();
    stage.frame(&frame(0, &[1], &[]));
    let reopened = Open { attempt: 1, fork: Fork { branch: 1, position: 2 }, ..open("2-3", true) };
    assert!(matches!(&stage.reopen(reopened, "k")[..], [Action::Reply(Control::Granted { have: 1, .. })]));
    // On their way when the client spoke: the second row is good, the third is a draft that was wrong.
    assert!(!failed(&stage.frame(&frame(1, &[2, 3], &[1]))));
    assert_eq!(stage.frame(&frame(3, &[4], &[1, 2, 3])), []);
    assert!(!failed(&stage.frame(&forked(2, &[8], &[1, 2]))));
    stage.computed(Output::Rows(vec![7; ROW]));
    let actions = stage.computed(Output::Rows(vec![7; 2 * ROW]));
    assert_eq!(stage.held(), 3, "{actions:?}");
}

#[test]
fn a_sender_goes_back_with_its_successor() {
    let mut stage = Stage::new(open("0-1", true), ROW, 8).expect("in bounds");
    stage.tokens(Fork::default(), 0, &[1, 2, 3]);
    stage.computed(Output::Rows(vec![1; 3 * ROW]));
    assert_eq!(rows_sent(&stage.next_welcome(&Welcome::Have(0))), 3);
    let fork = Fork { branch: 1, position: 2 };
    assert!(matches!(&stage.tokens(fork, 2, &[9])[..], [Action::Compute(Work { start: 2, .. })]));
    let actions = stage.computed(Output::Rows(vec![2; ROW]));
    let [Action::SendNext(sent)] = &actions[..] else { panic!("{actions:?}") };
    assert_eq!((sent.branch, sent.position, sent.rows), (1, 2, 1));
    let mut straight = Transcript::default();
    straight.push(0, 3, &[[1; 2 * ROW].as_slice(), &[2; ROW]].concat());
    assert_eq!(sent.transcript, straight.value(), "the void row left no trace");
    assert!(failed(&stage.tokens(Fork::default(), 3, &[4])), "an earlier branch");
    assert_eq!(stage.next_credit(3), [], "credit for the void row is no lie");
}
