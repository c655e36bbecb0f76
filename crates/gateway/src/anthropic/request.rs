//! What the messages of a request become.

use cdi_node::view::Message;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use crate::conversation::{Content, Turn, answerable};
use crate::gateway::Prompt;
use crate::problem::Problem;
use crate::rest::Rest;

/// What both requests of the interface have.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "CountTokensRequest")]
pub(super) struct Conversation {
    pub(super) model: String,
    messages: Vec<Turn>,
    system: Option<Content>,
    #[serde(flatten)]
    rest: Rest,
}

impl Conversation {
    /// What the model reads.
    pub(super) fn prompt(self) -> Result<Prompt, Problem> {
        let Self { messages, system, rest, .. } = self;
        rest.refuse(&["tools", "mcp_servers", "container", "output_config", "output_format", "context_management"])?;
        rest.refuse_unless("thinking", &json!({ "type": "disabled" }))?;
        let system = system.map_or(Ok(String::new()), |system| system.text("system"))?;
        let turns = messages.into_iter().map(|turn| turn.message("messages")).collect::<Result<Vec<_>, _>>()?;
        if turns.last().is_some_and(|last| last.role == "assistant") {
            return Err(Problem::unsupported_form("messages", "a beginning of the assistant's answer at their end"));
        }
        let mut all = Vec::new();
        if !system.trim().is_empty() {
            all.push(Message { role: "system".to_owned(), content: system });
        }
        for turn in answerable(turns, "messages")? {
            match all.last_mut() {
                // The interface takes several messages of one speaker as one; chat templates often refuse them.
                Some(before) if before.role == turn.role => {
                    before.content.push('\n');
                    before.content += &turn.content;
                }
                _ => all.push(turn),
            }
        }
        Ok(Prompt::Chat(all))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn read(value: Value) -> Result<Prompt, Problem> {
        serde_json::from_value::<Conversation>(value).expect("a request").prompt()
    }

    #[test]
    fn a_system_prompt_comes_first_and_one_speaker_speaks_once() {
        let Ok(Prompt::Chat(messages)) = read(json!({
            "model": "m",
            "system": [{ "type": "text", "text": "Be short.", "cache_control": { "type": "ephemeral" } }],
            "messages": [
                { "role": "user", "content": "a" },
                { "role": "user", "content": [{ "type": "text", "text": "b" }] },
                { "role": "assistant", "content": "c" },
                { "role": "user", "content": "d" },
            ],
            "thinking": { "type": "disabled" }, "metadata": { "user_id": "x" },
        })) else {
            unreachable!("it is whole")
        };
        let texts: Vec<_> = messages.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect();
        assert_eq!(texts, [("system", "Be short."), ("user", "a\nb"), ("assistant", "c"), ("user", "d")]);
    }

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        let user = json!({ "role": "user", "content": "hi" });
        for (name, value, status) in [
            ("tools", json!([{ "name": "f" }]), 501),
            ("thinking", json!({ "type": "enabled", "budget_tokens": 1024 }), 501),
            ("messages", json!([user, { "role": "assistant", "content": "He said" }]), 501),
            ("messages", json!([]), 400),
            ("messages", json!([{ "role": "user", "content": [{ "type": "image", "source": {} }] }]), 400),
            ("system", json!([{ "type": "image" }]), 400),
        ] {
            let mut request = json!({ "model": "m", "messages": [user] });
            request[name] = value;
            let problem = read(request).expect_err(name);
            assert_eq!((problem.parameter, problem.status.as_u16()), (Some(name), status));
        }
    }
}
