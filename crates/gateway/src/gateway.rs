//! The node behind the gateway, and what it says of the swarm.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use cdi_node::view::{Ask, Event, ModelView};
use cdi_node::{Answering, Handle};
use cdi_platform::random;
use cdi_platform::time::unix_ms;
use futures::StreamExt as _;
use futures::channel::mpsc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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

/// An answer and its place among [`MAX_ANSWERS`]; both are given back when it is dropped.
pub(crate) struct Running {
    pub(crate) answering: Answering,
    _place: OwnedSemaphorePermit,
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
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Running, Problem> {
        let place = self.0.places.clone().try_acquire_owned().map_err(|_| Problem::busy())?;
        Ok(Running { answering: self.0.node.ask(ask).await, _place: place })
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

/// A name that nothing else has, as both interfaces give to answers.
pub(crate) fn fresh_id(prefix: &str) -> String {
    random::id16().iter().fold(prefix.to_owned(), |id, byte| id + &format!("{byte:02x}"))
}

/// A seed for who named none.
pub(crate) fn fresh_seed() -> u64 {
    let bytes = random::id16();
    u64::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6], bytes[7]])
}

/// Fields of a request that no part of the gateway reads.
pub(crate) type Rest = HashMap<String, serde_json::Value>;
