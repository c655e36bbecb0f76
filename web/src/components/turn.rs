//! A question and its answer.

use std::rc::Rc;

use cdi_node::view::{AnswerStats, Finish};
use yew::prelude::*;

use super::Pipeline;
use crate::app::seed;
use crate::format;
use crate::state::{Action, AnswerState, Turn};

/// Properties of [`PastTurn`].
#[derive(PartialEq, Properties)]
pub struct PastTurnProps {
    /// What to show.
    pub turn: Rc<Turn>,
}

/// An earlier turn.
#[component]
pub fn PastTurn(props: &PastTurnProps) -> Html {
    let turn = &props.turn;
    html! {
        <article class="turn">
            { question(&turn.question) }
            <div class="answer" data-testid="past-answer" data-state={turn.state.name()}>{ &turn.answer }</div>
            <p class="meta">{ turn.stats.as_ref().map_or_else(|| "Ended early".to_owned(), describe) }</p>
        </article>
    }
}

/// Properties of [`CurrentTurn`].
#[derive(PartialEq, Properties)]
pub struct CurrentTurnProps {
    /// What to show.
    pub turn: Rc<Turn>,
    /// Where the user's actions go.
    pub act: Callback<Action>,
}

/// The current turn. Its answer element is always in the document, empty before the first question.
#[component]
pub fn CurrentTurn(props: &CurrentTurnProps) -> Html {
    let CurrentTurnProps { turn, act } = props;
    let running = turn.state == AnswerState::Running;
    html! {
        <article class={classes!("turn", "turn-current", turn.state.name())}>
            { question(&turn.question) }
            // Busy until it is complete: assistive tools then read it once, not token by token.
            <div class="answer" data-testid="answer" data-state={turn.state.name()} data-tokens={turn.tokens.to_string()}
                role="log" aria-label="Answer" aria-live="polite" aria-busy={running.to_string()}>
                { &turn.answer }
            </div>
            { stats(turn) }
            if let Some(message) = &turn.error {
                <div class="alert alert-error" role="alert">
                    <p data-testid="error">{ message }</p>
                    <button type="button" class="button" data-testid="retry"
                        onclick={act.reform(|_| Action::Retry { seed: seed() })}>
                        { "Try again" }
                    </button>
                </div>
            }
            if let Some(route) = turn.route.clone() {
                <Pipeline {route} {running} />
            }
        </article>
    }
}

fn question(text: &str) -> Html {
    if text.is_empty() {
        return Html::default();
    }
    html! { <p class="question"><span class="visually-hidden">{ "You asked: " }</span>{ text.to_owned() }</p> }
}

fn stats(turn: &Turn) -> Html {
    let text = match (turn.state, &turn.stats) {
        (AnswerState::Running, _) if turn.tokens == 0 => "Waiting for the first token…".to_owned(),
        (AnswerState::Running, _) => format!("{} so far", format::counted(turn.tokens as usize, "token")),
        (_, Some(stats)) => describe(stats),
        _ => String::new(),
    };
    let figures = turn.stats.as_ref();
    html! {
        <p class="meta" data-testid="answer-stats"
            data-tokens-per-s={figures.map(|s| format!("{:.2}", s.tokens_per_s))}
            data-first-token-ms={figures.map(|s| format!("{:.1}", s.first_token_ms))}
            data-prompt-tokens={figures.map(|s| s.prompt_tokens.to_string())}
            data-drafts={figures.map(|s| format!("{}/{}", s.drafts.accepted, s.drafts.offered))}
            data-failovers={figures.map(|s| s.failovers.to_string())}
            data-finish={figures.map(|s| finish(s.finish))}>
            { text }
        </p>
    }
}

fn describe(stats: &AnswerStats) -> String {
    let mut parts = vec![
        format!("{:.1} tokens/s", stats.tokens_per_s),
        format!("first token after {}", format::milliseconds(stats.first_token_ms)),
        format::counted(stats.tokens as usize, "token"),
        format::counted(stats.failovers as usize, "failover"),
    ];
    if stats.drafts.offered > 0 {
        parts.push(format!("{} of {} drafts right", stats.drafts.accepted, stats.drafts.offered));
    }
    match stats.finish {
        Finish::EndOfText => {}
        Finish::Length => parts.push("cut at the length limit".to_owned()),
        Finish::Stopped => parts.push("stopped by you".to_owned()),
    }
    parts.join(" · ")
}

const fn finish(finish: Finish) -> &'static str {
    match finish {
        Finish::EndOfText => "end",
        Finish::Length => "length",
        Finish::Stopped => "stopped",
    }
}
