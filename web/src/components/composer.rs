//! The question box and how answers are computed.

use std::rc::Rc;

use cdi_node::view::RouteMode;
use web_sys::{HtmlSelectElement, HtmlTextAreaElement};
use yew::prelude::*;

use super::{Icon, Settings};
use crate::messages as m;
use crate::state::{Action, Parameters, Setting, Style};

/// Most characters of a question. Beyond it even a long context is full.
const MAX_PROMPT_CHARS: &str = "16000";

const ROUTES: [(RouteMode, &str, &str); 3] = [
    (RouteMode::Auto, "auto", m::ROUTES[0]),
    (RouteMode::Swarm, "swarm", m::ROUTES[1]),
    (RouteMode::ThisTab, "tab", m::ROUTES[2]),
];
const STYLES: [(Style, &str, &str); 3] = [
    (Style::Exact, "exact", m::STYLES[0]),
    (Style::Varied, "varied", m::STYLES[1]),
    (Style::Custom, "custom", m::STYLES[2]),
];

/// Properties of [`Composer`].
#[derive(PartialEq, Properties)]
pub struct ComposerProps {
    /// Whether an answer is being computed.
    pub running: bool,
    /// Whether a question can be asked now.
    pub can_ask: bool,
    /// Whether the next question replaces an earlier one.
    pub editing: bool,
    /// Text for the box, and how many times one was put there.
    pub draft: (u32, Rc<str>),
    /// Where answers are computed.
    pub route: RouteMode,
    /// How answers are made.
    pub parameters: Rc<Parameters>,
    /// Asks, and says whether the question was taken.
    pub ask: Callback<String, bool>,
    /// Where the user's other actions go.
    pub act: Callback<Action>,
}

/// Asks and stops.
#[component]
pub fn Composer(props: &ComposerProps) -> Html {
    let ComposerProps { running, can_ask, editing, parameters, act, .. } = props;
    let (running, can_ask) = (*running, *can_ask);
    let prompt = use_node_ref();
    let begun = use_mut_ref(|| false);
    let settings = use_state_eq(|| false);
    {
        let prompt = prompt.clone();
        use_effect_with(props.draft.clone(), move |(times, text)| {
            if let Some(field) = prompt.cast::<HtmlTextAreaElement>().filter(|_| *times > 0) {
                field.set_value(text);
                // Refused only for an element that cannot have it.
                let _ = field.focus();
            }
        });
    }
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
    let choose_style = act.reform(|style| Action::Set(Setting::Style(style)));
    let toggle = {
        let settings = settings.clone();
        Callback::from(move |_: MouseEvent| settings.set(!*settings))
    };
    html! {
        <form class="composer" {onsubmit}>
            if *settings {
                <Settings {parameters} {act} />
            }
            if *editing {
                <p class="editing fine" role="status">
                    { m::EDITING }{ " " }
                    <button type="button" class="button-quiet" onclick={act.reform(|_| Action::CancelEdit)}>{ m::CANCEL }</button>
                </p>
            }
            <div class="box">
                <label class="visually-hidden" for="prompt">{ m::YOUR_QUESTION }</label>
                <textarea ref={prompt} id="prompt" data-testid="prompt" rows="1" maxlength={MAX_PROMPT_CHARS} dir="auto"
                    placeholder={m::ASK_THE_SWARM} aria-describedby="prompt-help" {onkeydown} {oninput} />
                <div class="composer-row">
                    { select(m::ROUTE, "route-mode", &ROUTES, props.route, act.reform(Action::ChooseRoute)) }
                    { select(m::ANSWERS, "answer-style", &STYLES, parameters.style(), choose_style) }
                    <button type="button" class="button-quiet" data-testid="settings" aria-label={m::SETTINGS}
                        aria-expanded={settings.to_string()} onclick={toggle}>
                        { Icon::Settings.view() }
                    </button>
                    <span class="spring" />
                    <button type="submit" class="button button-primary" data-testid="send" hidden={running} disabled={!can_ask}>
                        { Icon::Send.view() }{ if can_ask || running { m::SEND } else { m::STOPPING } }
                    </button>
                    <button type="button" class="button button-stop" data-testid="stop" hidden={!running} onclick={stop}>
                        { Icon::Stop.view() }{ m::STOP }
                    </button>
                </div>
            </div>
            <p class="fine prompt-help" id="prompt-help">{ m::PROMPT_HELP }</p>
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
        <label class="pick">
            <span class="visually-hidden">{ label }</span>
            <select data-testid={testid} title={label} {onchange}>
                { for choices.iter().map(|(choice, name, text)| html! {
                    <option value={*name} selected={*choice == chosen}>{ *text }</option>
                }) }
            </select>
        </label>
    }
}
