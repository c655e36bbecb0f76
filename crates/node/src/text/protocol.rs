//! What the page asks of the text half and what it answers.

use cdi_types::Cid;
use serde::{Deserialize, Serialize};

use crate::call::Part;
use crate::view::Message;

/// Version of these messages.
pub const VERSION: u32 = 2;

/// What the page asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// Take a model's `tokenizer.json`, which is the payload, and its chat template. Answered by [`Answer::Done`].
    Open {
        /// [`VERSION`].
        version: u32,
        /// CID of the model's manifest.
        model: Cid,
        /// Jinja source; none for a model that does not chat.
        template: Option<String>,
    },
    /// Render and tokenise a conversation. Answered by [`Answer::Prompt`].
    Encode {
        /// CID of an opened model.
        model: Cid,
        /// The conversation.
        messages: Vec<Message>,
        /// Whether their text is tokenised as it is, without the template.
        raw: bool,
    },
    /// The text of further tokens of an answer. Answered by [`Answer::Text`].
    Decode {
        /// CID of an opened model.
        model: Cid,
        /// The answer: half a character waits for the next call with the same number.
        stream: u64,
        /// The tokens.
        ids: Vec<u32>,
        /// Whether these are the last.
        last: bool,
    },
}

/// What the text half answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// To [`Ask::Open`].
    Done,
    /// To [`Ask::Encode`].
    Prompt {
        /// Token ids.
        ids: Vec<u32>,
    },
    /// To [`Ask::Decode`].
    Text {
        /// The text.
        text: String,
    },
    /// It failed.
    Failed {
        /// For people.
        message: String,
    },
}

impl Part for Answer {
    fn is_last(&self) -> bool {
        true
    }
}
