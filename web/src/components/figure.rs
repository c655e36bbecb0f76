//! A figure with its label, and the figure that counts time.

use gloo_timers::callback::Interval;
use yew::prelude::*;

use crate::app::now_ms;
use crate::format;
use crate::messages as m;

/// Properties of [`Figure`].
#[derive(PartialEq, Properties)]
pub struct FigureProps {
    /// The figure.
    pub value: AttrValue,
    /// What it counts.
    pub label: AttrValue,
    /// For tests.
    #[prop_or_default]
    pub testid: Option<AttrValue>,
}

/// One figure of a definition list.
#[component]
pub fn Figure(props: &FigureProps) -> Html {
    html! {
        <div class="figure">
            <dt>{ &props.label }</dt>
            <dd data-testid={props.testid.clone()}>{ &props.value }</dd>
        </div>
    }
}

/// Properties of [`Uptime`].
#[derive(PartialEq, Properties)]
pub struct UptimeProps {
    /// Whether this tab serves now.
    pub hosting: bool,
}

/// For how long this tab has been serving without a break.
#[component]
pub fn Uptime(props: &UptimeProps) -> Html {
    let seconds = use_state_eq(|| None::<u64>);
    {
        let seconds = seconds.clone();
        use_effect_with(props.hosting, move |hosting| {
            let clock = hosting.then(|| {
                let (begun, seconds) = (now_ms(), seconds.clone());
                seconds.set(Some(0));
                Interval::new(1_000, move || seconds.set(Some(whole_seconds(now_ms() - begun))))
            });
            if !hosting {
                seconds.set(None);
            }
            // The clock stops with the hosting, and with the page.
            move || drop(clock)
        });
    }
    let value = seconds.map_or_else(|| m::DASH.to_owned(), format::duration);
    html! { <Figure {value} label={m::FIGURE_UPTIME} /> }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a positive time; casts saturate")]
fn whole_seconds(ms: f64) -> u64 {
    (ms / 1e3) as u64
}
