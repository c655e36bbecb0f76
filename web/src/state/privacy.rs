//! What strangers can see of a question, in one sentence.

use cdi_node::view::{Link, StageView};

/// Where the words of a question go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exposure {
    /// Nothing leaves this tab.
    Local,
    /// This tab keeps both ends of the model; others compute between.
    Boomerang,
    /// Others hold an end of the model: they get token ids.
    Light,
}

impl Exposure {
    /// Of a route, from who computes its ends.
    #[must_use]
    pub fn of(stages: &[StageView]) -> Option<Self> {
        let is_local = |stage: &StageView| stage.link == Link::Local;
        let (first, last) = (stages.first()?, stages.last()?);
        Some(if stages.iter().all(is_local) {
            Self::Local
        } else if is_local(first) && is_local(last) {
            Self::Boomerang
        } else {
            Self::Light
        })
    }

    /// The word shown and tested.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Boomerang => "boomerang",
            Self::Light => "light",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::fixtures::peer_id;

    #[test]
    fn the_ends_of_a_route_decide() {
        let route = |links: &[Link]| {
            let stage =
                |link: &Link| StageView { peer: peer_id(1), layers: "0-1".parse().expect("a range"), link: *link };
            Exposure::of(&links.iter().map(stage).collect::<Vec<_>>())
        };
        use Link::{Direct, Local, Relayed};
        assert_eq!(route(&[]), None);
        assert_eq!(route(&[Local]), Some(Exposure::Local));
        assert_eq!(route(&[Local, Direct, Local]), Some(Exposure::Boomerang));
        assert_eq!(route(&[Local, Relayed]), Some(Exposure::Light));
        assert_eq!(route(&[Direct]), Some(Exposure::Light));
    }
}
