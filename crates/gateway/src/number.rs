//! Numbers of requests, checked.

use crate::problem::Problem;

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
