//! The node behind the gateway, and what it says of the swarm.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use cdi_node::Handle;
use cdi_node::view::{Ask, Event, Message, ModelView, RouteMode};
use cdi_platform::random;
use cdi_platform::time::unix_ms;
use cdi_types::sampling::Sampling;
use futures::StreamExt as _;
use futures::channel::mpsc;
use tokio::sync::Semaphore;

use crate::completion::Completion;
use crate::problem::Problem;

/// Answers at a time. Each is a session at every stage of its route, of which a stage serves a few dozen.
const MAX_ANSWERS: usize = 32;

/// A node that answers requests. Clones share it.
#[derive(Debug, Clone)]
pub struct Gateway(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    node: Handle,
    model: Mutex<Option<Model>>,
    places: Arc<Semaphore>,
}

/// A model that can be asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Model {
    pub(crate) view: ModelView,
    /// When the node learnt of it, in seconds since 1970.
    pub(crate) known_since: u64,
}

/// One answer that is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) prompt: Prompt,
    pub(crate) sampling: Sampling,
    pub(crate) max_tokens: u32,
    /// Texts before which the answer ends.
    pub(crate) stops: Vec<String>,
}

/// What the model reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Prompt {
    /// A conversation, through the model's chat template.
    Chat(Vec<Message>),
    /// A text to go on with.
    Text(String),
}

impl Gateway {
    /// Answers by `node`, whose events it reads from now on.
    #[must_use]
    pub fn start(node: Handle, events: mpsc::Receiver<Event>) -> Self {
        let inner = Inner { node, model: Mutex::default(), places: Arc::new(Semaphore::new(MAX_ANSWERS)) };
        let inner = Arc::new(inner);
        // Weakly: the node lives as long as somebody can ask it.
        tokio::spawn(follow(Arc::downgrade(&inner), events));
        Self(inner)
    }

    /// The models that can be asked.
    pub(crate) fn models(&self) -> Vec<Model> {
        self.0.model.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// The model that a client means: by its name, with or without Ollama's `:latest`, or by its CID.
    pub(crate) fn model(&self, name: &str) -> Result<Model, Problem> {
        let models = self.models();
        if models.is_empty() {
            return Err(Problem::starting());
        }
        let plain = name.strip_suffix(":latest").unwrap_or(name);
        let meant = |model: &Model| model.view.name == plain || model.view.id.to_string() == name;
        models.into_iter().find(meant).ok_or_else(|| Problem::no_model(name))
    }

    /// Asks the swarm. Dropping the result stops the answer on every stage.
    pub(crate) async fn complete(&self, order: Order) -> Result<Completion, Problem> {
        let place = self.0.places.clone().try_acquire_owned().map_err(|_| Problem::busy())?;
        let (messages, raw) = match order.prompt {
            Prompt::Chat(messages) => (messages, false),
            Prompt::Text(content) => (vec![Message { role: "user".to_owned(), content }], true),
        };
        let Order { sampling, max_tokens, stops, .. } = order;
        let ask = Ask { messages, raw, route: RouteMode::Swarm, sampling, max_tokens };
        Ok(Completion::new(self.0.node.ask(ask).await, place, stops))
    }

    /// Asks for several answers: all of them, or none.
    pub(crate) async fn complete_all(&self, orders: Vec<Order>) -> Result<Vec<Completion>, Problem> {
        let mut completions = Vec::new();
        for order in orders {
            completions.push(self.complete(order).await?);
        }
        Ok(completions)
    }

    /// How many tokens the model reads for `prompt`; a prompt that is longer than what it reads has a length as well.
    pub(crate) async fn count(&self, prompt: Prompt) -> Result<u32, Problem> {
        let order = Order { prompt, sampling: Sampling::GREEDY, max_tokens: 0, stops: Vec::new() };
        match self.complete(order).await?.whole().await {
            Ok((_, end)) => Ok(end.prompt_tokens),
            Err(problem) => problem.prompt_tokens.ok_or(problem),
        }
    }
}

async fn follow(inner: Weak<Inner>, mut events: mpsc::Receiver<Event>) {
    while let Some(event) = events.next().await {
        match event {
            Event::Model(view) => {
                let Some(inner) = inner.upgrade() else { return };
                let model = Model { view, known_since: unix_ms() / 1000 };
                *inner.model.lock().unwrap_or_else(PoisonError::into_inner) = Some(model);
            }
            Event::Error(error) => tracing::warn!(%error, "the gateway's node"),
            Event::Notice(notice) => tracing::info!(%notice, "the gateway's node"),
            _ => {}
        }
    }
}

/// A name that nothing else has, as the interfaces give to answers.
pub(crate) fn fresh_id(prefix: &str) -> String {
    random::id16().iter().fold(prefix.to_owned(), |id, byte| id + &format!("{byte:02x}"))
}
