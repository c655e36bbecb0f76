//! How the user wants answers made.

use cdi_types::sampling::Sampling;
use serde::{Deserialize, Serialize};

/// Most characters of a system prompt: more leaves no room for a question in a small context.
pub const MAX_SYSTEM_CHARS: usize = 4_000;
/// Most tokens of an answer that can be asked for; the model's context bounds it further.
pub const MAX_ANSWER_TOKENS: u32 = 8_192;
/// Highest temperature offered: above it nothing but noise comes.
pub const MAX_TEMPERATURE: f32 = 2.0;

/// What the user set, kept between visits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Parameters {
    /// What the model is told before the conversation; empty for nothing.
    pub system: String,
    /// 0 chooses the most likely token.
    pub temperature: f32,
    /// Only that many of the most likely tokens; 0 for all.
    pub top_k: u32,
    /// Only the smallest set of tokens with that much probability; 1 for all.
    pub top_p: f32,
    /// Makes a varied answer repeatable; a fresh one for every question when there is none.
    pub seed: Option<u64>,
    /// Most tokens of an answer; half the context, up to 256, when nothing is said.
    pub max_tokens: Option<u32>,
}

impl Default for Parameters {
    fn default() -> Self {
        Self { system: String::new(), temperature: 0.0, top_k: 0, top_p: 1.0, seed: None, max_tokens: None }
    }
}

/// How tokens are chosen, in the user's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// The most likely token: the same question gets the same answer.
    Exact,
    /// Drawn at random among the likely ones.
    Varied,
    /// As the user set it.
    Custom,
}

/// One setting, as the user changes it.
#[derive(Debug, Clone, PartialEq)]
pub enum Setting {
    /// The system prompt.
    System(String),
    /// The temperature.
    Temperature(f32),
    /// How many of the most likely tokens.
    TopK(u32),
    /// How much probability.
    TopP(f32),
    /// The seed, if it is to stay.
    Seed(Option<u64>),
    /// Most tokens of an answer.
    MaxTokens(Option<u32>),
    /// Several at once, by their name; [`Style::Custom`] changes nothing.
    Style(Style),
    /// All as they were at the first visit.
    Defaults,
}

/// Temperature, top-k and top-p of [`Style::Varied`].
const VARIED: (f32, u32, f32) = (0.8, 40, 0.95);

impl Parameters {
    /// The same with every value in its range: what was stored, or typed, is not trusted.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        let finite = |value: f32, low: f32, high: f32, other: f32| {
            if value.is_finite() { value.clamp(low, high) } else { other }
        };
        self.temperature = finite(self.temperature, 0.0, MAX_TEMPERATURE, 0.0);
        self.top_p = finite(self.top_p, 0.01, 1.0, 1.0);
        self.max_tokens = self.max_tokens.map(|most| most.clamp(1, MAX_ANSWER_TOKENS));
        if let Some((end, _)) = self.system.char_indices().nth(MAX_SYSTEM_CHARS) {
            self.system.truncate(end);
        }
        self
    }

    /// What the stages are told; `drawn` is the seed when the user set none.
    #[must_use]
    pub fn sampling(&self, drawn: u64) -> Sampling {
        if self.temperature == 0.0 {
            return Sampling::GREEDY;
        }
        let Self { temperature, top_k, top_p, .. } = *self;
        Sampling { temperature, top_k, top_p, seed: self.seed.unwrap_or(drawn) }
    }

    /// The words for what is set.
    #[must_use]
    pub fn style(&self) -> Style {
        if self.temperature == 0.0 {
            Style::Exact
        } else if (self.temperature, self.top_k, self.top_p) == VARIED {
            Style::Varied
        } else {
            Style::Custom
        }
    }

    /// The same with one setting changed, every value in its range.
    #[must_use]
    pub fn with(&self, setting: Setting) -> Self {
        let mut changed = self.clone();
        match setting {
            Setting::System(text) => changed.system = text,
            Setting::Temperature(temperature) => changed.temperature = temperature,
            Setting::TopK(top_k) => changed.top_k = top_k,
            Setting::TopP(top_p) => changed.top_p = top_p,
            Setting::Seed(seed) => changed.seed = seed,
            Setting::MaxTokens(most) => changed.max_tokens = most,
            Setting::Style(Style::Exact) => changed.temperature = 0.0,
            Setting::Style(Style::Varied) => (changed.temperature, changed.top_k, changed.top_p) = VARIED,
            Setting::Style(Style::Custom) => {}
            Setting::Defaults => changed = Self::default(),
        }
        changed.bounded()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_stored_is_not_trusted() {
        let stored = Parameters {
            temperature: f32::NAN,
            top_p: -3.0,
            max_tokens: Some(0),
            system: "ä".repeat(MAX_SYSTEM_CHARS + 9),
            ..Parameters::default()
        };
        let bounded = stored.bounded();
        assert_eq!((bounded.temperature, bounded.top_p, bounded.max_tokens), (0.0, 0.01, Some(1)));
        assert_eq!(bounded.system.chars().count(), MAX_SYSTEM_CHARS);
        assert!(bounded.sampling(7).is_valid());
    }

    #[test]
    fn styles_are_names_of_settings() {
        let exact = Parameters::default();
        assert_eq!((exact.style(), exact.sampling(7)), (Style::Exact, Sampling::GREEDY));
        let varied = exact.with(Setting::Style(Style::Varied));
        assert_eq!((varied.style(), varied.sampling(7).seed), (Style::Varied, 7));
        let custom = varied.with(Setting::TopK(3)).with(Setting::Seed(Some(11)));
        assert_eq!((custom.style(), custom.sampling(7).seed), (Style::Custom, 11));
        assert_eq!(custom.with(Setting::Style(Style::Exact)).style(), Style::Exact);
        assert_eq!(custom.with(Setting::Temperature(f32::INFINITY)).temperature, 0.0);
        assert_eq!(custom.with(Setting::Defaults), exact);
    }

    #[test]
    fn settings_of_an_older_page_are_read() {
        let read: Parameters = serde_json::from_str(r#"{"temperature":0.5,"forgotten":1}"#).expect("reads");
        assert_eq!((read.temperature, read.top_p), (0.5, 1.0));
    }
}
