//! Line icons, drawn for this page on a grid of 24.

use yew::prelude::*;

/// What an icon shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Icon {
    /// A speech bubble.
    Chat,
    /// Stacked layers.
    Host,
    /// Linked nodes.
    Swarm,
    /// A cube.
    Models,
    /// A key.
    Identity,
    /// Sliders.
    Settings,
    /// A plus.
    Plus,
    /// A list.
    List,
    /// An arrow into a tray.
    Save,
    /// A pencil.
    Edit,
    /// Two sheets.
    Copy,
    /// An arrow around.
    Again,
    /// A cross.
    Close,
    /// An arrow up.
    Send,
    /// A square.
    Stop,
}

impl Icon {
    const fn path(self) -> &'static str {
        match self {
            Self::Chat => "M4 5.5h16v11H9.5L5 20v-3.5H4z",
            Self::Host => "M12 3.5 21 8l-9 4.5L3 8zM3 12l9 4.5 9-4.5M3 16l9 4.5 9-4.5",
            Self::Swarm => {
                "M12 12 5.5 6M12 12l6.5-6M12 12v7M5.5 6h13M14.2 12a2.2 2.2 0 1 1-4.4 0 2.2 2.2 0 0 1 4.4 0ZM7.3 \
                5.5a1.8 1.8 0 1 1-3.6 0 1.8 1.8 0 0 1 3.6 0ZM20.3 5.5a1.8 1.8 0 1 1-3.6 0 1.8 1.8 0 0 1 3.6 0ZM13.8 \
                19.5a1.8 1.8 0 1 1-3.6 0 1.8 1.8 0 0 1 3.6 0Z"
            }
            Self::Models => "M12 3 20 7.5v9L12 21l-8-4.5v-9zM4 7.5l8 4.5 8-4.5M12 12v9",
            Self::Identity => "M12 12a4.5 4.5 0 1 1-9 0 4.5 4.5 0 0 1 9 0ZM12 12h9v4M17 12v3",
            Self::Settings => {
                "M4 7h9M17 7h3M4 17h3M11 17h9M17 7a2 2 0 1 1-4 0 2 2 0 0 1 4 0ZM11 17a2 2 0 1 1-4 0 2 2 0 0 1 4 0Z"
            }
            Self::Plus => "M12 5v14M5 12h14",
            Self::List => "M4 6.5h16M4 12h16M4 17.5h10",
            Self::Save => "M12 4v11M7 10.5l5 5 5-5M4.5 19.5h15",
            Self::Edit => "M4 20l1-4.5L16 4.5l3.5 3.5L8.5 19zM13.5 7l3.5 3.5",
            Self::Copy => "M9 9h11v11H9zM5 15H4V4h11v1",
            Self::Again => "M19.5 12a7.5 7.5 0 1 1-2.2-5.3L20 9M20 4v5h-5",
            Self::Close => "M6 6l12 12M18 6 6 18",
            Self::Send => "M12 19V5M6 11l6-6 6 6",
            Self::Stop => "M7 7h10v10H7z",
        }
    }

    /// The drawing, hidden from assistive tools: a name stands beside it.
    pub fn view(self) -> Html {
        html! {
            <svg class="icon" viewBox="0 0 24 24" width="20" height="20" aria-hidden="true">
                <path d={self.path()} />
            </svg>
        }
    }
}
