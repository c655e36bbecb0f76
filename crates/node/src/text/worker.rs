//! The text half: answers the requests of [`super::protocol`], one after the other.

use std::collections::{BTreeMap, HashMap};

use cdi_model::chat::{ChatError, ChatTemplate};
use cdi_model::tokenizer::{StreamDecoder, Tokenizer, TokenizerError};
use cdi_platform::port::{Packet, Port, PortError};
use cdi_platform::task;
use cdi_types::Cid;

use crate::call::{Request, reply, unpack};
use crate::text::protocol::{Answer, Ask, VERSION};
use crate::view::Message;

/// Most answers that are being turned into text at once; the page has one.
const MAX_DECODERS: usize = 16;

/// Why a request failed.
#[derive(Debug, PartialEq, thiserror::Error)]
enum WorkError {
    /// The page is of another build.
    #[error("the page and its text worker come from different builds; reload the page")]
    Version,
    /// [`Ask::Open`] was not asked, or failed.
    #[error("the model's tokenizer has not been opened")]
    NoModel,
    /// The tokenizer is malformed, or cannot do this.
    #[error(transparent)]
    Tokenizer(#[from] TokenizerError),
    /// The chat template is malformed, or refuses.
    #[error(transparent)]
    Chat(#[from] ChatError),
}

/// Serves `port` until it closes.
pub async fn run(port: Port) {
    let (sender, mut receiver) = port.split();
    let mut half = Half::default();
    while let Some(packet) = receiver.recv().await {
        let Request { id, ask } = match unpack(&packet) {
            Ok(request) => request,
            Err(error) => {
                tracing::warn!(%error, "request dropped");
                continue;
            }
        };
        let answer = half.answer(ask, &packet);
        let answer = answer.unwrap_or_else(|error| Answer::Failed { message: error.to_string() });
        reply(&sender, id, answer, Vec::new());
    }
}

/// Starts the text half on a thread of this process, which is what a native node does.
///
/// # Errors
/// None; the type is that of [`super::Start`].
pub fn start_thread() -> Result<Port, PortError> {
    let (here, there) = Port::pair();
    task::spawn_dedicated("text", move || run(there));
    Ok(here)
}

#[derive(Default)]
struct Half {
    models: HashMap<Cid, Model>,
    /// Answers by number; numbers grow.
    decoders: BTreeMap<u64, StreamDecoder>,
}

struct Model {
    tokenizer: Tokenizer,
    template: ChatTemplate,
}

impl Half {
    fn answer(&mut self, ask: Ask, packet: &Packet) -> Result<Answer, WorkError> {
        match ask {
            Ask::Open { version, .. } if version != VERSION => Err(WorkError::Version),
            Ask::Open { model, template, .. } => {
                let template = ChatTemplate::new(template.as_deref())?;
                let tokenizer = Tokenizer::from_json(&packet.payload)?;
                self.models.insert(model, Model { tokenizer, template });
                Ok(Answer::Done)
            }
            Ask::Encode { model, messages } => Ok(Answer::Prompt { ids: self.encode(model, &messages)? }),
            Ask::Decode { model, stream, ids, last } => {
                Ok(Answer::Text { text: self.decode(model, stream, &ids, last)? })
            }
        }
    }

    fn encode(&self, model: Cid, messages: &[Message]) -> Result<Vec<u32>, WorkError> {
        let Model { tokenizer, template } = self.models.get(&model).ok_or(WorkError::NoModel)?;
        let prompt = template.render(messages, true)?;
        Ok(tokenizer.encode(&prompt, false)?)
    }

    fn decode(&mut self, model: Cid, stream: u64, ids: &[u32], last: bool) -> Result<String, WorkError> {
        let Model { tokenizer, .. } = self.models.get(&model).ok_or(WorkError::NoModel)?;
        if self.decoders.len() >= MAX_DECODERS && !self.decoders.contains_key(&stream) {
            // An answer that was abandoned without an end.
            self.decoders.pop_first();
        }
        let decoder = self.decoders.entry(stream).or_insert_with(|| StreamDecoder::new(tokenizer.clone()));
        let mut text = String::new();
        for id in ids {
            text += &decoder.push(*id)?;
        }
        if last {
            text += &decoder.flush()?;
            self.decoders.remove(&stream);
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENIZER: &[u8] = include_bytes!("../../../model/genesis/tokenizer.json");
    const TEMPLATE: &str = "{% for m in messages %}{{ m['content'] }}{% endfor %}";

    fn model() -> Cid {
        cdi_types::block::raw_cid(b"model")
    }

    fn open(half: &mut Half, version: u32, template: Option<&str>, tokenizer: &[u8]) -> Result<Answer, WorkError> {
        let packet = Packet { payload: tokenizer.to_vec(), ..Packet::default() };
        half.answer(Ask::Open { version, model: model(), template: template.map(str::to_owned) }, &packet)
    }

    fn opened() -> Half {
        let mut half = Half::default();
        assert_eq!(open(&mut half, VERSION, Some(TEMPLATE), TOKENIZER), Ok(Answer::Done));
        half
    }

    #[test]
    fn what_was_asked_is_what_is_read_and_answers_do_not_mix() {
        let mut half = opened();
        let ids = half.encode(model(), &[Message { role: "user".into(), content: "a🦀b".into() }]).expect("ids");
        let (first, rest) = ids.split_at(3);
        // The crab has four tokens; its first two wait while another answer goes on.
        assert_eq!(half.decode(model(), 1, first, false).as_deref(), Ok("a"));
        assert_eq!(half.decode(model(), 2, &ids, true).as_deref(), Ok("a🦀b"));
        assert_eq!(half.decode(model(), 1, rest, true).as_deref(), Ok("🦀b"));
        assert!(half.decoders.is_empty());
    }

    #[test]
    fn abandoned_answers_are_forgotten_oldest_first() {
        let mut half = opened();
        for stream in 0..=MAX_DECODERS as u64 {
            half.decode(model(), stream, &[], false).expect("text");
        }
        assert_eq!(half.decoders.len(), MAX_DECODERS);
        assert!(!half.decoders.contains_key(&0));
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        let mut half = Half::default();
        assert_eq!(half.encode(model(), &[]), Err(WorkError::NoModel));
        assert_eq!(half.decode(model(), 1, &[5], true), Err(WorkError::NoModel));
        assert_eq!(open(&mut half, VERSION + 1, Some(TEMPLATE), TOKENIZER), Err(WorkError::Version));
        assert_eq!(open(&mut half, VERSION, None, TOKENIZER), Err(WorkError::Chat(ChatError::NoTemplate)));
        assert!(matches!(open(&mut half, VERSION, Some(TEMPLATE), b"{}"), Err(WorkError::Tokenizer(_))));
        assert!(half.models.is_empty());
    }
}
