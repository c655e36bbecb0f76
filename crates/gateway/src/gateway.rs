//! The node behind the gateway, and what it says of the swarm.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use cdi_node::Handle;
use cdi_node::view::{Ask, Event, Message, ModelView, RouteMode};
use cdi_platform::random;
use cdi_platform::time::unix_ms;
use cdi_types::sampling::Sampling;
use data_encoding::HEXLOWER;
use futures::StreamExt as _;
use futures::channel::mpsc;
use prometheus_client::registry::Registry;

use crate::completion::Completion;
use crate::meter::Meter;
use crate::observe::Figures;
use crate::places::{Place, Places};
use crate::problem::Problem;

/// A node that answers requests. Clones share it.
#[derive(Debug, Clone)]
pub struct Gateway {
    inner: Arc<Inner>,
    /// Counts for the request that this clone serves.
    meter: Meter,
}

#[derive(Debug)]
struct Inner {
    node: Handle,
    model: Mutex<Option<Model>>,
    places: Arc<Places>,
    figures: Figures,
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
        let inner =
            Arc::new(Inner { node, model: Mutex::default(), places: Arc::default(), figures: Figures::default() });
        // Weakly: the node lives as long as somebody can ask it.
        tokio::spawn(follow(Arc::downgrade(&inner), events));
        Self { inner, meter: Meter::default() }
    }

    /// Has its figures told with those of `registry`.
    pub fn register(&self, registry: &mut Registry) {
        self.inner.figures.register(registry, self.inner.places.clone());
    }

    pub(crate) fn figures(&self) -> Figures {
        self.inner.figures.clone()
    }

    /// The models that can be asked.
    pub(crate) fn models(&self) -> Vec<Model> {
        self.inner.model.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
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
        let mut answers = self.complete_all(vec![order]).await?;
        answers.pop().ok_or_else(Problem::stopped)
    }

    /// Asks for several answers: all of them, or none.
    pub(crate) async fn complete_all(&self, orders: Vec<Order>) -> Result<Vec<Completion>, Problem> {
        let count = u32::try_from(orders.len()).unwrap_or(u32::MAX);
        let places = self.inner.places.take(count).await?;
        let mut completions = Vec::new();
        for (order, place) in orders.into_iter().zip(places) {
            completions.push(self.begin(order, place).await);
        }
        Ok(completions)
    }

    async fn begin(&self, order: Order, place: Place) -> Completion {
        let (messages, raw) = match order.prompt {
            Prompt::Chat(messages) => (messages, false),
            Prompt::Text(content) => (vec![Message { role: "user".to_owned(), content }], true),
        };
        let Order { sampling, max_tokens, stops, .. } = order;
        let ask = Ask { messages, raw, route: RouteMode::Swarm, sampling, max_tokens };
        Completion::new(self.inner.node.ask(ask).await, place, self.meter.clone(), stops)
    }

    /// How many tokens the model reads for `prompt`; a prompt that is longer than what it reads has a length as well.
    pub(crate) async fn count(&self, prompt: Prompt) -> Result<u32, Problem> {
        let order = Order { prompt, sampling: Sampling::GREEDY, max_tokens: 0, stops: Vec::new() };
        // Nobody is charged for it: nothing is computed.
        let free = Self { meter: Meter::default(), ..self.clone() };
        match free.complete(order).await?.whole().await {
            Ok((_, end)) => Ok(end.prompt_tokens),
            Err(problem) => problem.prompt_tokens.ok_or(problem),
        }
    }
}

impl FromRequestParts<Self> for Gateway {
    type Rejection = Infallible;

    /// The gateway, counting for this request.
    async fn from_request_parts(parts: &mut Parts, gateway: &Self) -> Result<Self, Infallible> {
        let meter = parts.extensions.get::<Meter>().cloned().unwrap_or_default();
        Ok(Self { meter, ..gateway.clone() })
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
    prefix.to_owned() + &HEXLOWER.encode(&random::id16())
}
