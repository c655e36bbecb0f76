//! The way to the five screens.

use yew::prelude::*;

use super::Icon;
use crate::messages as m;
use crate::state::Screen;

/// Properties of [`Nav`].
#[derive(PartialEq, Properties)]
pub struct NavProps {
    /// The shown screen.
    pub screen: Screen,
    /// Whether this tab serves layers, which a dot tells on every screen.
    pub hosting: bool,
}

/// Links whose addresses name the screens: the keyboard, the back button and a new tab work by themselves.
#[component]
pub fn Nav(props: &NavProps) -> Html {
    html! {
        <nav class="nav" aria-label={m::SCREENS}>
            <ul>{ for Screen::ALL.into_iter().zip(m::NAV).map(|(screen, name)| item(screen, name, props)) }</ul>
        </nav>
    }
}

fn item(screen: Screen, name: &'static str, props: &NavProps) -> Html {
    let icon = match screen {
        Screen::Chat => Icon::Chat,
        Screen::Host => Icon::Host,
        Screen::Swarm => Icon::Swarm,
        Screen::Models => Icon::Models,
        Screen::Identity => Icon::Identity,
    };
    let current = (screen == props.screen).then_some("page");
    html! {
        <li>
            <a class="nav-item" href={format!("#{}", screen.name())} data-nav={screen.name()} aria-current={current}>
                { icon.view() }
                <span>{ name }</span>
                if screen == Screen::Host && props.hosting {
                    <span class="dot dot-good"><span class="visually-hidden">{ m::HOSTING_STATES[3] }</span></span>
                }
            </a>
        </li>
    }
}
