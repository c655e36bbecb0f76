//! A question and its answer.

use std::rc::Rc;

use cdi_node::view::{AnswerStats, Finish};
use yew::prelude::*;

use super::{Copy, Icon, Pipeline};
use crate::app::{now_ms, seed};
use crate::format;
use crate::markdown::Markdown;
use crate::messages as m;
use crate::state::{Action, AnswerState, Route, Turn};

/// Properties of [`PastTurn`] and [`CurrentTurn`].
#[derive(PartialEq, Properties)]
pub struct TurnProps {
    /// What to show.
    pub turn: Rc<Turn>,
    /// Its place in the conversation.
    pub index: usize,
    /// Whether a question can be asked now.
    pub can_ask: bool,
    /// Where the user's actions go.
    pub act: Callback<Action>,
}

/// An earlier turn.
#[component]
pub fn PastTurn(props: &TurnProps) -> Html {
    let turn = &props.turn;
    html! {
        <article class="turn">
            { question(props) }
            <div class="answer md" dir="auto" data-testid="past-answer" data-state={turn.state.name()}>
                <Markdown text={turn.answer.clone()} />
            </div>
            <div class="meta-row">
                <p class="meta">{ turn.stats.as_ref().map_or_else(|| m::ENDED_EARLY.to_owned(), |stats| describe(turn, stats)) }</p>
                <Copy text={turn.answer.clone()} of={m::ANSWER} />
            </div>
        </article>
    }
}

/// The current turn. Its answer element is always in the document, empty before the first question.
#[component]
pub fn CurrentTurn(props: &TurnProps) -> Html {
    let TurnProps { turn, can_ask, act, .. } = props;
    let running = turn.state == AnswerState::Running;
    let begun = use_mut_ref(|| None::<(u32, f64, u32)>);
    let rate = live_rate(turn, &mut begun.borrow_mut());
    html! {
        <article class={classes!("turn", "turn-current", turn.state.name())}>
            { question(props) }
            // Busy until it is complete: assistive tools then read it once, not token by token.
            <div class="answer md" dir="auto" data-testid="answer" data-state={turn.state.name()}
                data-tokens={turn.tokens.to_string()} role="log" aria-label={m::ANSWER} aria-live="polite"
                aria-busy={running.to_string()}>
                // A new question gets new elements: the old ones were emptied by hand, see `app::show_running`.
                <Markdown key={turn.number} text={turn.answer.clone()} />
            </div>
            <div class="meta-row">
                { stats(turn, rate) }
                if turn.state == AnswerState::Done {
                    <Copy text={turn.answer.clone()} of={m::ANSWER} />
                    <button type="button" class="button-quiet" data-testid="again" disabled={!can_ask}
                        onclick={act.reform(|_| Action::Retry { seed: seed() })}>
                        { Icon::Again.view() }<span>{ m::TRY_AGAIN }</span>
                    </button>
                }
            </div>
            if let Some(message) = &turn.error {
                <div class="alert alert-error" role="alert">
                    <p data-testid="error">{ message }</p>
                    <button type="button" class="button" data-testid="retry"
                        onclick={act.reform(|_| Action::Retry { seed: seed() })}>
                        { m::TRY_AGAIN }
                    </button>
                </div>
            }
            if let Some(route) = turn.route.clone() {
                <Pipeline {route} {running} />
            }
        </article>
    }
}

/// Tokens a second since the first token was shown, while an answer runs.
fn live_rate(turn: &Turn, begun: &mut Option<(u32, f64, u32)>) -> Option<f64> {
    if turn.state != AnswerState::Running || turn.tokens == 0 {
        return None;
    }
    let now = now_ms();
    let (_, since, first) =
        *begun.insert(begun.filter(|b| b.0 == turn.number).unwrap_or((turn.number, now, turn.tokens)));
    // In the first moments the figure is noise.
    (now > since + 250.0).then(|| f64::from(turn.tokens - first.min(turn.tokens)) * 1e3 / (now - since))
}

fn question(props: &TurnProps) -> Html {
    let TurnProps { turn, index, can_ask, act } = props;
    if turn.question.is_empty() {
        return Html::default();
    }
    let index = *index;
    html! {
        <div class="asked">
            <p class="question" dir="auto">
                <span class="visually-hidden">{ m::YOU_ASKED }</span>{ turn.question.clone() }
            </p>
            <button type="button" class="button-quiet" data-testid="edit" aria-label={format!("{}: {}", m::EDIT, turn.question)}
                disabled={!can_ask} onclick={act.reform(move |_| Action::Edit(index))}>
                { Icon::Edit.view() }
            </button>
        </div>
    }
}

fn stats(turn: &Turn, rate: Option<f64>) -> Html {
    let text = match (turn.state, &turn.stats) {
        (AnswerState::Running, _) if turn.tokens == 0 => m::WAITING.to_owned(),
        (AnswerState::Running, _) => {
            let tokens = format!("{} so far", format::counted(turn.tokens as usize, "token"));
            rate.map_or(tokens.clone(), |rate| format!("{tokens} · {rate:.1} tokens/s"))
        }
        (_, Some(stats)) => describe(turn, stats),
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

fn describe(turn: &Turn, stats: &AnswerStats) -> String {
    let mut parts = vec![
        format!("{:.1} tokens/s", stats.tokens_per_s),
        format!("first token after {}", format::milliseconds(stats.first_token_ms)),
        format::counted(stats.tokens as usize, "token"),
        format::counted(stats.failovers as usize, "failover"),
    ];
    let peers = turn.route.as_ref().map_or(turn.peers, Route::peers);
    if peers > 0 {
        parts.push(format!("with {}", format::counted(peers as usize, "peer")));
    }
    if stats.drafts.offered > 0 {
        parts.push(format!("{} of {} drafts right", stats.drafts.accepted, stats.drafts.offered));
    }
    match stats.finish {
        Finish::EndOfText => {}
        Finish::Length => parts.push(m::CUT_AT_LIMIT.to_owned()),
        Finish::Stopped => parts.push(m::STOPPED_BY_YOU.to_owned()),
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
