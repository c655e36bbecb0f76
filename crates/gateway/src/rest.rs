//! Fields of a request that no part of the gateway reads: what would change the answer is refused by name.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use crate::problem::Problem;

/// The fields, by name.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
pub(crate) struct Rest(HashMap<String, Value>);

impl Rest {
    /// Refuses parameters that are not there yet and say something.
    pub(crate) fn refuse(&self, names: &[&'static str]) -> Result<(), Problem> {
        let said = names.iter().find(|name| self.0.get(**name).is_some_and(|value| !says_nothing(value)));
        said.map_or(Ok(()), |name| Err(Problem::unsupported(name)))
    }

    /// Refuses a parameter that is not there yet, unless it has the value that changes nothing.
    pub(crate) fn refuse_unless(&self, name: &'static str, neutral: &Value) -> Result<(), Problem> {
        let is_neutral = |value: &Value| {
            value == neutral || matches!((value.as_f64(), neutral.as_f64()), (Some(a), Some(b)) if a == b)
        };
        match self.0.get(name) {
            Some(value) if !is_neutral(value) => self.refuse(&[name]),
            _ => Ok(()),
        }
    }

    /// A field that is only repeated.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }
}

fn says_nothing(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_says_nothing_is_let_pass() {
        let rest = |value: Value| serde_json::from_value::<Rest>(value).expect("an object");
        let harmless = rest(json!({ "a": null, "b": false, "c": "", "d": [], "e": {}, "f": 0 }));
        assert_eq!(harmless.refuse(&["a", "b", "c", "d", "e", "absent"]), Ok(()));
        assert_eq!(harmless.refuse_unless("f", &json!(0.0)), Ok(()));
        for value in [json!(true), json!("x"), json!([0]), json!({ "x": null }), json!(0)] {
            assert_eq!(rest(json!({ "a": value })).refuse(&["a"]).expect_err("refused").parameter, Some("a"));
        }
        assert!(rest(json!({ "a": 1 })).refuse_unless("a", &json!(0)).is_err());
    }
}
