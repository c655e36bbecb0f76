//! The question box and how answers are computed.

use cdi_node::view::RouteMode;
use web_sys::{HtmlSelectElement, HtmlTextAreaElement};
use yew::prelude::*;

use crate::state::{Action, Style};

/// Most characters of a question. Beyond it even a long context is full.
const MAX_PROMPT_CHARS: &str = "16000";

const ROUTES: [(RouteMode, &str, &str); 3] = [
    (RouteMode::Auto, "auto", "Auto"),
    (RouteMode::Swarm, "swarm", "Swarm hosts"),
    (RouteMode::ThisTab, "tab", "This tab alone"),
];
const STYLES: [(Style, &str, &str); 2] = [(Style::Exact, "exact", "Exact"), (Style::Varied, "varied", "Varied")];

/// Properties of [`Composer`].
#[derive(PartialEq, Properties)]
pub struct ComposerProps {
    /// Whether an answer is being computed.
    pub running: bool,
    /// Whether a question can be asked now.
    pub can_ask: bool,
    /// Whether nothing was asked yet.
    pub fresh: bool,
    /// Where answers are computed.
    pub route: RouteMode,
    /// How tokens are chosen.
    pub style: Style,
    /// Asks, and says whether the question was taken.
    pub ask: Callback<String, bool>,
    /// Where the user's other actions go.
    pub act: Callback<Action>,
}

/// Asks and stops.
#[component]
pub fn Composer(props: &ComposerProps) -> Html {
    let ComposerProps { running, can_ask, act, .. } = props;
    let (running, can_ask) = (*running, *can_ask);
    let prompt = use_node_ref();
    let begun = use_mut_ref(|| false);

    let ask = {
        let (prompt, ask) = (prompt.clone(), props.ask.clone());
        Callback::from(move |()| {
            let Some(field) = prompt.cast::<HtmlTextAreaElement>() else { return };
            // What is not taken stays in the box.
            if ask.emit(field.value()) {
                field.set_value("");
            }
            // Pressing Send hides it, and the focus must not be lost with it.
            let _ = field.focus();
        })
    };
    let onkeydown = {
        let (ask, act) = (ask.clone(), act.clone());
        Callback::from(move |event: KeyboardEvent| match event.key().as_str() {
            // Enter may also confirm a character of an input method.
            "Enter" if !event.shift_key() && !event.is_composing() => {
                event.prevent_default();
                ask.emit(());
            }
            "Escape" if running => act.emit(Action::Stop),
            _ => {}
        })
    };
    let oninput = {
        let act = act.clone();
        Callback::from(move |_: InputEvent| {
            // Once for all questions: what is prepared stays.
            if !begun.replace(true) {
                act.emit(Action::BeginQuestion);
            }
        })
    };
    let onsubmit = Callback::from(move |event: SubmitEvent| {
        event.prevent_default();
        ask.emit(());
    });
    let stop = {
        let (prompt, act) = (prompt.clone(), act.clone());
        Callback::from(move |_: MouseEvent| {
            act.emit(Action::Stop);
            if let Some(field) = prompt.cast::<HtmlTextAreaElement>() {
                let _ = field.focus();
            }
        })
    };
    html! {
        <form class="composer" {onsubmit}>
            <label class="visually-hidden" for="prompt">{ "Your question" }</label>
            <textarea ref={prompt} id="prompt" data-testid="prompt" rows="2" maxlength={MAX_PROMPT_CHARS}
                placeholder="Ask the swarm…" aria-describedby="prompt-help" {onkeydown} {oninput} />
            <div class="composer-row">
                { select("Route", "route-mode", &ROUTES, props.route, act.reform(Action::ChooseRoute)) }
                { select("Answers", "answer-style", &STYLES, props.style, act.reform(Action::ChooseStyle)) }
                <button type="submit" class="button button-primary" data-testid="send" hidden={running} disabled={!can_ask}>
                    { if can_ask || running { "Send" } else { "Stopping…" } }
                </button>
                <button type="button" class="button button-stop" data-testid="stop" hidden={!running} onclick={stop}>
                    { "Stop" }
                </button>
            </div>
            <div class="composer-foot">
                <p class="fine" id="prompt-help">
                    <span class="keys">
                        <kbd>{ "Enter" }</kbd>{ " sends, " }<kbd>{ "Shift" }</kbd>{ "+" }<kbd>{ "Enter" }</kbd>{ " starts a line. " }
                    </span>
                    { "Tabs that compute your answer see your IP address and could partly read it: send no secrets." }
                </p>
                if !props.fresh {
                    <button type="button" class="button-quiet" data-testid="new-chat" onclick={act.reform(|_| Action::NewChat)}>
                        { "New chat" }
                    </button>
                }
            </div>
        </form>
    }
}

/// A labelled choice among named values.
fn select<T: Copy + PartialEq + 'static>(
    label: &'static str,
    testid: &'static str,
    choices: &'static [(T, &'static str, &'static str)],
    chosen: T,
    on_choice: Callback<T>,
) -> Html {
    let onchange = Callback::from(move |event: Event| {
        let Some(value) = event.target_dyn_into::<HtmlSelectElement>().map(|s| s.value()) else { return };
        if let Some((choice, ..)) = choices.iter().find(|(_, name, _)| *name == value) {
            on_choice.emit(*choice);
        }
    });
    html! {
        <label class="field">
            <span>{ label }</span>
            <select data-testid={testid} {onchange}>
                { for choices.iter().map(|(choice, name, text)| html! {
                    <option value={*name} selected={*choice == chosen}>{ *text }</option>
                }) }
            </select>
        </label>
    }
}
