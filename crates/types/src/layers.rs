//! Contiguous ranges of transformer layers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Layers `first ..= last`, zero-based, never empty. Written `0-3`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "(u32, u32)", into = "(u32, u32)")]
pub struct LayerRange {
    first: u32,
    last: u32,
}

/// The bounds are not a range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a layer range: {0:?}")]
pub struct BadLayerRange(pub String);

impl LayerRange {
    /// The layers `first ..= last`.
    ///
    /// # Errors
    /// [`BadLayerRange`] when `last < first`.
    pub fn new(first: u32, last: u32) -> Result<Self, BadLayerRange> {
        if first <= last { Ok(Self { first, last }) } else { Err(BadLayerRange(format!("{first}-{last}"))) }
    }

    /// All layers of a model of `layers` layers; `None` for a model without layers.
    #[must_use]
    pub fn whole(layers: u32) -> Option<Self> {
        Some(Self { first: 0, last: layers.checked_sub(1)? })
    }

    /// The first layer.
    #[must_use]
    pub const fn first(self) -> u32 {
        self.first
    }

    /// The last layer, inclusive.
    #[must_use]
    pub const fn last(self) -> u32 {
        self.last
    }

    /// The layer after the last one.
    #[must_use]
    pub const fn end(self) -> u32 {
        self.last.saturating_add(1)
    }

    /// Number of layers, at least 1.
    #[must_use]
    pub const fn count(self) -> u32 {
        (self.last - self.first).saturating_add(1)
    }

    /// The layers in order.
    #[must_use]
    pub fn iter(self) -> std::ops::RangeInclusive<u32> {
        self.first..=self.last
    }

    /// Whether `layer` is in the range.
    #[must_use]
    pub const fn contains(self, layer: u32) -> bool {
        self.first <= layer && layer <= self.last
    }

    /// Whether every layer of `other` is in the range.
    #[must_use]
    pub const fn covers(self, other: Self) -> bool {
        self.first <= other.first && other.last <= self.last
    }

    /// The layers in both ranges, if any.
    #[must_use]
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::new(self.first.max(other.first), self.last.min(other.last)).ok()
    }

    /// The layers in either range, if they are adjacent or overlap.
    #[must_use]
    pub fn union(self, other: Self) -> Option<Self> {
        let joined = self.first <= other.end() && other.first <= self.end();
        joined.then(|| Self { first: self.first.min(other.first), last: self.last.max(other.last) })
    }
}

impl fmt::Display for LayerRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for LayerRange {
    type Err = BadLayerRange;

    fn from_str(text: &str) -> Result<Self, BadLayerRange> {
        let bad = || BadLayerRange(text.to_owned());
        let (first, last) = text.split_once('-').ok_or_else(bad)?;
        Self::new(first.parse().map_err(|_| bad())?, last.parse().map_err(|_| bad())?).map_err(|_| bad())
    }
}

impl TryFrom<(u32, u32)> for LayerRange {
    type Error = BadLayerRange;

    fn try_from((first, last): (u32, u32)) -> Result<Self, BadLayerRange> {
        Self::new(first, last)
    }
}

impl From<LayerRange> for (u32, u32) {
    fn from(range: LayerRange) -> Self {
        (range.first, range.last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(text: &str) -> LayerRange {
        text.parse().expect("a range")
    }

    #[test]
    fn text_form() {
        assert_eq!(range("0-3").to_string(), "0-3");
        assert_eq!(range("0-3").count(), 4);
        for bad in ["", "3", "3-1", "a-b", "-1-2", "0-99999999999"] {
            assert!(bad.parse::<LayerRange>().is_err(), "{bad}");
        }
    }

    #[test]
    fn set_operations() {
        assert_eq!(range("0-3").intersection(range("2-7")), Some(range("2-3")));
        assert_eq!(range("0-3").intersection(range("4-7")), None);
        assert_eq!(range("0-2").union(range("3-5")), Some(range("0-5")));
        assert_eq!(range("3-5").union(range("0-3")), Some(range("0-5")));
        assert_eq!(range("0-2").union(range("4-5")), None);
        assert!(range("0-7").covers(range("2-7")));
        assert!(!range("0-6").covers(range("2-7")));
        assert_eq!(LayerRange::whole(8), Some(range("0-7")));
        assert_eq!(LayerRange::whole(0), None);
    }

    #[test]
    fn the_largest_range_does_not_overflow() {
        let all = LayerRange::new(0, u32::MAX).expect("a range");
        assert_eq!(all.count(), u32::MAX);
        assert_eq!(all.end(), u32::MAX);
    }
}
