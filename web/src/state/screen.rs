//! The five screens.

/// What the page shows. The address names it, so that links and the back button work.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Screen {
    /// The conversation; the landing when it is empty.
    #[default]
    Chat,
    /// Lending this tab.
    Host,
    /// Who is there.
    Swarm,
    /// What can be asked.
    Models,
    /// Keys and storage.
    Identity,
}

impl Screen {
    /// All, in the order of the navigation.
    pub const ALL: [Self; 5] = [Self::Chat, Self::Host, Self::Swarm, Self::Models, Self::Identity];

    /// The word in the address.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Host => "host",
            Self::Swarm => "swarm",
            Self::Models => "models",
            Self::Identity => "identity",
        }
    }

    /// The screen of an address's fragment, `#host`; nothing for any other fragment.
    #[must_use]
    pub fn of_hash(hash: &str) -> Option<Self> {
        match hash.trim_start_matches('#') {
            "" => Some(Self::Chat),
            name => Self::ALL.into_iter().find(|screen| screen.name() == name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_screens() {
        for screen in Screen::ALL {
            assert_eq!(Screen::of_hash(&format!("#{}", screen.name())), Some(screen));
        }
        assert_eq!(Screen::of_hash(""), Some(Screen::Chat));
        assert_eq!(Screen::of_hash("#prompt"), None, "the skip link is no screen");
    }
}
