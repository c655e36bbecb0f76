//! How answers are made: system prompt and sampling.

use std::rc::Rc;

use web_sys::{HtmlInputElement, HtmlTextAreaElement};
use yew::prelude::*;

use crate::messages as m;
use crate::state::parameters::{MAX_ANSWER_TOKENS, MAX_SYSTEM_CHARS, MAX_TEMPERATURE};
use crate::state::{Action, Parameters, Setting};

/// Properties of [`Settings`].
#[derive(PartialEq, Properties)]
pub struct SettingsProps {
    /// What is set.
    pub parameters: Rc<Parameters>,
    /// Where the user's choices go.
    pub act: Callback<Action>,
}

/// A field of numbers.
struct Field {
    id: &'static str,
    label: &'static str,
    help: &'static str,
    min: String,
    max: String,
    step: &'static str,
    value: String,
    set: fn(&str) -> Setting,
}

/// The panel above the question box. A choice holds from the next question on, and is kept.
#[component]
pub fn Settings(props: &SettingsProps) -> Html {
    let SettingsProps { parameters, act } = props;
    let on_system = {
        let act = act.clone();
        Callback::from(move |event: Event| {
            if let Some(field) = event.target_dyn_into::<HtmlTextAreaElement>() {
                act.emit(Action::Set(Setting::System(field.value().trim().to_owned())));
            }
        })
    };
    let reset = act.reform(|_: MouseEvent| Action::Set(Setting::Defaults));
    html! {
        <section class="settings" aria-label={m::SETTINGS}>
            <label class="field settings-system">
                <span>{ m::SYSTEM }</span>
                <textarea data-testid="system" rows="2" maxlength={MAX_SYSTEM_CHARS.to_string()} dir="auto" onchange={on_system}
                    placeholder={m::SYSTEM_HELP} value={parameters.system.clone()} />
            </label>
            { for fields(parameters).into_iter().map(|field| number(field, act)) }
            <button type="button" class="button-quiet" onclick={reset}>{ m::RESET }</button>
        </section>
    }
}

fn fields(parameters: &Parameters) -> [Field; 5] {
    let optional = |value: Option<String>| value.unwrap_or_default();
    [
        Field {
            id: "temperature",
            label: m::TEMPERATURE,
            help: m::TEMPERATURE_HELP,
            min: "0".into(),
            max: MAX_TEMPERATURE.to_string(),
            step: "0.1",
            value: parameters.temperature.to_string(),
            set: |text| Setting::Temperature(text.parse().unwrap_or(0.0)),
        },
        Field {
            id: "top-p",
            label: m::TOP_P,
            help: m::TOP_P_HELP,
            min: "0.01".into(),
            max: "1".into(),
            step: "any",
            value: parameters.top_p.to_string(),
            set: |text| Setting::TopP(text.parse().unwrap_or(1.0)),
        },
        Field {
            id: "top-k",
            label: m::TOP_K,
            help: m::TOP_K_HELP,
            min: "0".into(),
            max: "100000".into(),
            step: "1",
            value: parameters.top_k.to_string(),
            set: |text| Setting::TopK(text.parse().unwrap_or(0)),
        },
        Field {
            id: "seed",
            label: m::SEED,
            help: m::SEED_HELP,
            min: "0".into(),
            max: u64::MAX.to_string(),
            step: "1",
            value: optional(parameters.seed.map(|seed| seed.to_string())),
            set: |text| Setting::Seed(text.parse().ok()),
        },
        Field {
            id: "max-tokens",
            label: m::MAX_TOKENS,
            help: m::MAX_TOKENS_HELP,
            min: "1".into(),
            max: MAX_ANSWER_TOKENS.to_string(),
            step: "1",
            value: optional(parameters.max_tokens.map(|tokens| tokens.to_string())),
            set: |text| Setting::MaxTokens(text.parse().ok()),
        },
    ]
}

fn number(field: Field, act: &Callback<Action>) -> Html {
    let Field { id, label, help, min, max, step, value, set } = field;
    let act = act.clone();
    let onchange = Callback::from(move |event: Event| {
        if let Some(field) = event.target_dyn_into::<HtmlInputElement>() {
            act.emit(Action::Set(set(field.value().trim())));
        }
    });
    html! {
        <label class="field" title={help}>
            <span>{ label }</span>
            <input type="number" data-testid={id} inputmode="decimal" {min} {max} {step} {value} {onchange} aria-description={help} />
        </label>
    }
}
