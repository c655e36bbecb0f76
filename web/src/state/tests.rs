use cdi_node::view::{AnswerStats, Drafts, Finish, Link, Progress, StageView};

use super::fixtures::{model, peer_id};
use super::*;

fn ask(state: &mut State, prompt: &str) -> Option<Command> {
    state.act(Action::Ask { prompt: prompt.to_owned(), seed: 7 })
}

fn text(state: &mut State, text: &str, tokens: u32) {
    state.apply(Event::Answer(AnswerEvent::Text { text: text.to_owned(), tokens }));
}

fn done(state: &mut State, finish: Finish) {
    state.apply(Event::Answer(AnswerEvent::Done(AnswerStats {
        tokens: 2,
        prompt_tokens: 5,
        first_token_ms: 30.0,
        tokens_per_s: 60.0,
        finish,
        failovers: 0,
        drafts: Drafts::default(),
    })));
}

fn fail(state: &mut State) {
    state.apply(Event::Answer(AnswerEvent::Failed { message: "No host. Try again.".to_owned() }));
}

fn route(state: &mut State, peers: &[u8]) {
    let stages = peers
        .iter()
        .map(|&n| StageView { peer: peer_id(n), layers: "0-3".parse().expect("a range"), link: Link::Direct })
        .collect();
    state.apply(Event::Answer(AnswerEvent::Route { stages, why: "fastest".to_owned() }));
}

#[test]
fn asking_empties_the_answer_and_keeps_the_earlier_one() {
    let mut state = State::default();
    ask(&mut state, "  What is a shard?\n");
    assert_eq!(state.current.question, "What is a shard?");
    text(&mut state, "A part", 2);
    text(&mut state, " of a model.", 5);
    done(&mut state, Finish::EndOfText);
    assert_eq!((state.current.state, state.current.answer.as_str()), (AnswerState::Done, "A part of a model."));

    let Some(Command::Ask(second)) = ask(&mut state, "And a stage?") else { panic!("a command") };
    assert_eq!(second.messages.len(), 3);
    assert_eq!(second.messages[1].content, "A part of a model.");
    assert_eq!((state.current.state, state.current.answer.as_str()), (AnswerState::Running, ""));
    assert_eq!(state.current.route, None);
    assert_eq!(state.past.len(), 1);
}

#[test]
fn one_answer_at_a_time() {
    let mut state = State::default();
    assert_eq!(ask(&mut state, " \n "), None);
    assert_eq!(state.act(Action::Stop), None);
    assert!(ask(&mut state, "first").is_some());
    assert_eq!(ask(&mut state, "second"), None);
    assert_eq!(state.act(Action::Stop), Some(Command::StopAnswer));
    assert_eq!(ask(&mut state, "second"), None, "the stopped answer has not ended yet");
    done(&mut state, Finish::Stopped);
    assert!(ask(&mut state, "second").is_some());
}

#[test]
fn an_abandoned_answer_never_reaches_the_next_conversation() {
    let mut state = State::default();
    ask(&mut state, "old");
    assert_eq!(state.act(Action::NewChat), Some(Command::StopAnswer));
    assert_eq!(state.current.state, AnswerState::Idle);
    text(&mut state, "late text", 1);
    assert_eq!(ask(&mut state, "new"), None, "the node is still busy with the old answer");
    fail(&mut state);
    assert_eq!(*state.current, Turn::default());
    ask(&mut state, "new");
    text(&mut state, "new text", 1);
    assert_eq!(state.current.answer, "new text");
    assert!(state.past.is_empty());
}

#[test]
fn a_new_chat_without_an_answer_tells_the_node_nothing() {
    let mut state = State::default();
    ask(&mut state, "old");
    done(&mut state, Finish::EndOfText);
    assert_eq!(state.act(Action::NewChat), None);
    assert!(state.can_ask());
}

#[test]
fn events_of_no_answer_are_ignored() {
    let mut state = State::default();
    text(&mut state, "stray", 1);
    done(&mut state, Finish::EndOfText);
    assert_eq!(*state.current, Turn::default());
}

#[test]
fn a_failed_answer_can_be_retried_in_place() {
    let mut state = State::default();
    ask(&mut state, "question");
    text(&mut state, "half an ans", 4);
    fail(&mut state);
    assert_eq!(state.current.state, AnswerState::Error);
    let Some(Command::Ask(again)) = state.act(Action::Retry { seed: 8 }) else { panic!("a command") };
    assert_eq!(again.messages.len(), 1);
    assert_eq!((state.past.len(), state.current.answer.as_str()), (0, ""));
    assert_eq!(state.act(Action::Retry { seed: 9 }), None);
}

#[test]
fn the_choices_of_the_user_reach_the_node() {
    let mut state = State::default();
    state.apply(Event::Model(model(128)));
    state.act(Action::ChooseRoute(RouteMode::Swarm));
    let Some(Command::Ask(exact)) = ask(&mut state, "a") else { panic!("a command") };
    assert_eq!((exact.route, exact.sampling, exact.max_tokens), (RouteMode::Swarm, Sampling::GREEDY, 64));
    fail(&mut state);
    state.act(Action::ChooseStyle(Style::Varied));
    let Some(Command::Ask(varied)) = ask(&mut state, "a") else { panic!("a command") };
    assert!(varied.sampling.is_valid() && varied.sampling.temperature > 0.0);
    assert_eq!(varied.sampling.seed, 7);

    state.act(Action::ChooseHostLayers(HostLayers::Exactly(4)));
    assert_eq!(state.act(Action::Host), Some(Command::Host(HostLayers::Exactly(4))));
}

#[test]
fn route_changes_are_counted_once_each() {
    let mut state = State::default();
    ask(&mut state, "question");
    route(&mut state, &[1, 2]);
    route(&mut state, &[1, 2]);
    route(&mut state, &[1, 3]);
    let route = state.current.route.as_ref().expect("a route");
    assert_eq!((route.changes, route.stages[1].peer), (1, peer_id(3)));
}

#[test]
fn fetched_bytes_outlive_the_load() {
    let mut state = State::default();
    let hosting = |state, fetched: Option<u64>| {
        Event::Hosting(HostingView {
            state,
            progress: fetched.map(|fetched_bytes| Progress { fetched_bytes, ..Progress::default() }),
            ..HostingView::default()
        })
    };
    state.apply(hosting(HostingState::Fetching, Some(700)));
    state.apply(hosting(HostingState::Fetching, None));
    state.apply(hosting(HostingState::Hosting, None));
    assert_eq!(state.fetched_bytes, 700);
    state.apply(hosting(HostingState::Off, None));
    state.apply(hosting(HostingState::Fetching, None));
    assert_eq!(state.fetched_bytes, 0, "the second load came from the store");
}

#[test]
fn the_end_of_the_node_ends_the_answer() {
    let mut state = State::default();
    ask(&mut state, "question");
    state.node_ended();
    assert_eq!(state.current.state, AnswerState::Error);
    assert!(matches!(state.connection, Connection::Offline { .. }));
    assert_eq!(state.alerts.shown().len(), 1);
}

#[test]
fn the_page_keeps_a_bounded_history() {
    let mut state = State::default();
    for n in 0..150 {
        ask(&mut state, &format!("question {n}"));
        done(&mut state, Finish::EndOfText);
    }
    assert_eq!(state.past.len(), 100);
    assert_eq!(state.past[99].question, "question 148");
}
