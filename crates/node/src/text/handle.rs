//! The page's handle of the text half, which it starts when it first has something to ask.

use std::collections::HashSet;

use cdi_platform::port::{Port, PortError};
use cdi_types::Cid;
use futures::lock::Mutex;

use crate::call::{Caller, Gone};
use crate::compute::{Compute, ComputeError};
use crate::text::protocol::{Answer, Ask, VERSION};
use crate::view::Message;

/// Starts a text half and returns the port to it: a worker in a browser, [`super::start_thread`] natively.
pub type Start = fn() -> Result<Port, PortError>;

/// Why there is no prompt or no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TextError {
    /// It answered with a failure.
    #[error("{0}")]
    Failed(String),
    /// It could not be started.
    #[error("the text worker did not start: {0}; reload the page")]
    NotStarted(#[from] PortError),
    /// The worker or thread is gone, or was never there. The next question starts another.
    #[error("the text worker stopped or could not be loaded; ask again")]
    Gone,
    /// It answered something that does not belong to the request.
    #[error("the text worker gave an answer that does not fit; reload the page")]
    Mismatch,
    /// The compute half did not have the tokenizer.
    #[error(transparent)]
    Compute(#[from] ComputeError),
}

impl From<Gone> for TextError {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

/// The text half, started or not.
pub(crate) struct Text {
    start: Start,
    half: Mutex<Option<Half>>,
}

struct Half {
    caller: Caller<Ask, Answer>,
    opened: HashSet<Cid>,
}

impl Text {
    pub(crate) fn new(start: Start) -> Self {
        Self { start, half: Mutex::new(None) }
    }

    /// Starts the text half and gives it the model's tokenizer and template, unless it has them. One that has
    /// stopped is started again.
    pub(crate) async fn open(&self, compute: &Compute, model: Cid) -> Result<Reader, TextError> {
        let mut half = self.half.lock().await;
        if let Some(stopped) = &*half
            && stopped.caller.is_gone().await
        {
            *half = None;
        }
        let half = match &mut *half {
            Some(half) => half,
            // The worker is fetched and compiled while the tokenizer is read.
            none => none.insert(Half { caller: Caller::new((self.start)()?), opened: HashSet::new() }),
        };
        let reader = Reader { caller: half.caller.clone(), model };
        if !half.opened.contains(&model) {
            let (template, tokenizer) = compute.tokenizer(model).await?;
            let open = Ask::Open { version: VERSION, model, template };
            match reader.call(open, tokenizer).await? {
                Answer::Done => half.opened.insert(model),
                _ => return Err(TextError::Mismatch),
            };
        }
        Ok(reader)
    }
}

/// Turns conversations into tokens and tokens into text, for one model.
#[derive(Clone)]
pub(crate) struct Reader {
    caller: Caller<Ask, Answer>,
    model: Cid,
}

impl Reader {
    /// Renders and tokenises a conversation, or tokenises its bare text.
    pub(crate) async fn encode(&self, messages: Vec<Message>, raw: bool) -> Result<Vec<u32>, TextError> {
        match self.call(Ask::Encode { model: self.model, messages, raw }, Vec::new()).await? {
            Answer::Prompt { ids } => Ok(ids),
            _ => Err(TextError::Mismatch),
        }
    }

    /// The text of further tokens of answer `stream`.
    pub(crate) async fn decode(&self, stream: u64, ids: Vec<u32>, last: bool) -> Result<String, TextError> {
        match self.call(Ask::Decode { model: self.model, stream, ids, last }, Vec::new()).await? {
            Answer::Text { text } => Ok(text),
            _ => Err(TextError::Mismatch),
        }
    }

    async fn call(&self, ask: Ask, payload: Vec<u8>) -> Result<Answer, TextError> {
        match self.caller.call(ask, payload, None).await?.0 {
            Answer::Failed { message } => Err(TextError::Failed(message)),
            answer => Ok(answer),
        }
    }
}
