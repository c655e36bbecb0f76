//! Conversations as requests write them: roles, and content that is a text or a list of parts.

use cdi_node::view::Message;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::problem::Problem;

/// A message of a request.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "Message")]
pub(crate) struct Turn {
    role: String,
    content: Option<Content>,
}

/// What a message says.
#[derive(Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Content {
    Text(String),
    Parts(Vec<Part>),
}

/// A part of a message.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "ContentPart")]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Part {
    #[serde(alias = "input_text", alias = "output_text")]
    Text { text: String },
    /// Pictures, sound, files, calls of tools.
    #[serde(other)]
    Other,
}

impl Content {
    /// The text; `parameter` is where the content stands.
    pub(crate) fn text(self, parameter: &'static str) -> Result<String, Problem> {
        let parts = match self {
            Self::Text(text) => return Ok(text),
            Self::Parts(parts) => parts,
        };
        parts.into_iter().try_fold(String::new(), |text, part| match part {
            Part::Text { text: more } => Ok(text + &more),
            Part::Other => {
                let message = format!("{parameter} has a part that is not text; the models here read text only");
                Err(Problem::parameter(parameter, message))
            }
        })
    }
}

impl Turn {
    /// The message; `parameter` is the list that it stands in.
    pub(crate) fn message(self, parameter: &'static str) -> Result<Message, Problem> {
        let content = self.content.map_or(Ok(String::new()), |content| content.text(parameter))?;
        Ok(Message { role: role(self.role, parameter)?, content })
    }
}

/// A role that models know.
pub(crate) fn role(name: String, parameter: &'static str) -> Result<String, Problem> {
    match name.as_str() {
        "system" | "user" | "assistant" => Ok(name),
        // OpenAI's newer name of the same thing.
        "developer" => Ok("system".to_owned()),
        "tool" | "function" => Err(Problem::unsupported("tools")),
        _ => {
            let message = format!("{parameter} has a role `{name}`; there are system, user and assistant");
            Err(Problem::parameter(parameter, message))
        }
    }
}

/// `messages`, if they end with one that can be answered.
pub(crate) fn answerable(messages: Vec<Message>, parameter: &'static str) -> Result<Vec<Message>, Problem> {
    if messages.last().is_none_or(|last| last.content.trim().is_empty()) {
        return Err(Problem::parameter(parameter, format!("{parameter} must end with a message that has text")));
    }
    Ok(messages)
}
