//! How tokens are chosen: what requests say of it, checked, and what the interfaces mean when they say nothing.

use cdi_platform::random;
use cdi_types::sampling::Sampling;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::problem::Problem;

/// What a request says.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct Given {
    pub(crate) temperature: Option<f32>,
    pub(crate) top_p: Option<f32>,
    /// Not in all interfaces, but many servers and clients have it.
    pub(crate) top_k: Option<u32>,
    pub(crate) seed: Option<i64>,
}

/// What an interface means.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Defaults {
    pub(crate) temperature: f32,
    /// Highest temperature that it takes.
    pub(crate) hottest: f32,
    pub(crate) top_p: f32,
    /// 0: all tokens.
    pub(crate) top_k: u32,
}

impl Given {
    /// What the swarm is told.
    pub(crate) fn sampling(&self, defaults: Defaults) -> Result<Sampling, Problem> {
        Ok(Sampling {
            temperature: between(
                "temperature",
                self.temperature.unwrap_or(defaults.temperature),
                0.0,
                defaults.hottest,
            )?,
            top_p: between("top_p", self.top_p.unwrap_or(defaults.top_p), f32::MIN_POSITIVE, 1.0)?,
            top_k: self.top_k.unwrap_or(defaults.top_k),
            seed: self.seed.map_or_else(fresh_seed, i64::cast_unsigned),
        })
    }
}

/// `sampling` for the answer of this number among several to one question.
pub(crate) fn varied(sampling: Sampling, number: u32) -> Sampling {
    Sampling { seed: sampling.seed.wrapping_add(number.into()), ..sampling }
}

/// `value`, or a problem with the parameter `name` when it is outside of `least..=most`.
pub(crate) fn between<T: Copy + PartialOrd + std::fmt::Display>(
    name: &'static str,
    value: T,
    least: T,
    most: T,
) -> Result<T, Problem> {
    if value >= least && value <= most {
        return Ok(value);
    }
    Err(Problem::parameter(name, format!("{name} is {value}; it must be between {least} and {most}")))
}

/// A seed for who named none.
fn fresh_seed() -> u64 {
    let bytes = random::id16();
    u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
}
