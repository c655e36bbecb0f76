//! Answering: from a conversation to text, over whatever route there is.

use std::collections::HashMap;
use std::time::Duration;

use cdi_platform::task::{self, AbortOnDrop};
use cdi_platform::time::{Instant, Ticker, sleep};
use cdi_swarm::client::{Action, Client, Ended, Spec};
use cdi_swarm::route::Leg;
use cdi_types::session::Control;
use cdi_types::{LayerRange, PeerId};
use futures::channel::{mpsc, oneshot};
use futures::{FutureExt as _, SinkExt as _, StreamExt as _, select};

use crate::host;
use crate::planner::{Plan, plan};
use crate::shared::{Model, Node, Protocol};
use crate::text::{Reader, TextError};
use crate::view::{AnswerEvent, AnswerStats, Ask, Drafts, Event, Finish, Link, StageView};

/// How long a question, begun or asked, waits for the model.
const MODEL_WITHIN: Duration = Duration::from_secs(60);
/// How often lateness is looked for.
const TICK: Duration = Duration::from_millis(250);
/// Messages that wait for a link; more than the session ever has in flight.
const OUTGOING: usize = 256;
/// Messages that wait for the session.
const INCOMING: usize = 64;
/// Tokens that wait to become text.
const TEXT_QUEUE: usize = 1_024;

/// Why there is no answer. The texts say what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
enum AnswerError {
    /// Nothing is known of the model.
    #[error("The model is not loaded yet. Wait until the page is connected, then ask again.")]
    NoModel,
    /// The user stopped it before it began.
    #[error("Stopped before the question was read.")]
    Stopped,
    /// There is nothing to answer.
    #[error("The question is empty.")]
    Empty,
    /// More tokens than the model can read.
    #[error(
        "This conversation has {tokens} tokens; the model reads at most {context}. Shorten it or start a new chat."
    )]
    TooLong {
        /// Of the conversation.
        tokens: usize,
        /// Of the model.
        context: u32,
    },
    /// Parameters out of range.
    #[error("The sampling parameters are out of range.")]
    Sampling,
    /// The text half failed.
    #[error("{0}")]
    Text(#[from] TextError),
    /// The session failed.
    #[error("{0}")]
    Session(String),
}

/// Who is told of an answer.
#[derive(Clone)]
pub(crate) enum Asker {
    /// The user of this node, who sees one answer at a time.
    User(Node),
    /// Whoever holds the other end.
    Caller(mpsc::Sender<AnswerEvent>),
}

impl Asker {
    async fn tell(&mut self, event: AnswerEvent) {
        match self {
            Self::User(node) => node.emit(Event::Answer(event)).await,
            // A caller that hung up has dropped `stop` as well.
            Self::Caller(sender) => drop(sender.send(event).await),
        }
    }
}

/// Answers `ask` and tells `asker`; `stop` ends it early.
pub(crate) async fn answer(node: Node, ask: Ask, mut asker: Asker, stop: oneshot::Receiver<()>) {
    node.state().answers += 1;
    let failed = try_answer(&node, ask, &mut asker, stop).await.err();
    let last = {
        let mut state = node.state();
        state.answers -= 1;
        state.answers == 0
    };
    if last {
        host::release_others(&node).await;
    }
    if let Some(error) = failed {
        asker.tell(AnswerEvent::Failed { message: error.to_string() }).await;
    }
}

async fn try_answer(
    node: &Node,
    ask: Ask,
    asker: &mut Asker,
    mut stop: oneshot::Receiver<()>,
) -> Result<(), AnswerError> {
    let asked = Instant::now();
    // A question typed while the page still starts is answered when the model is there.
    select! {
        _known = node.model_known.clone().fuse() => {}
        () = Box::pin(sleep(MODEL_WITHIN).fuse()) => {}
        _stopped = (&mut stop).fuse() => return Err(AnswerError::Stopped),
    }
    let model = node.state().model.clone().ok_or(AnswerError::NoModel)?;
    if ask.messages.last().is_none_or(|m| m.content.trim().is_empty()) || ask.max_tokens == 0 {
        return Err(AnswerError::Empty);
    }
    if !ask.sampling.is_valid() {
        return Err(AnswerError::Sampling);
    }
    let reader = node.text.open(&node.compute, model.id);
    let reader = select! {
        reader = Box::pin(reader.fuse()) => reader?,
        _stopped = (&mut stop).fuse() => return Err(AnswerError::Stopped),
    };
    let prompt = reader.encode(ask.messages).await?;
    if prompt.len() >= model.info.context as usize {
        return Err(AnswerError::TooLong { tokens: prompt.len(), context: model.info.context });
    }
    let spec = Spec {
        session: cdi_platform::random::id16(),
        model: model.id,
        layers: LayerRange::whole(model.info.layers).ok_or(AnswerError::NoModel)?,
        context: model.info.context,
        prompt,
        max_tokens: ask.max_tokens,
        end_of_text: model.info.end_of_text.clone(),
        sampling: ask.sampling,
        me: node.me,
        speculate: true,
    };
    let prompt_tokens = u32::try_from(spec.prompt.len()).unwrap_or(u32::MAX);
    asker.tell(AnswerEvent::Started { prompt_tokens }).await;
    let (text, ids) = mpsc::channel(TEXT_QUEUE);
    let (spoken, writer) = speak(asker.clone(), node.number(), reader, ids);
    let (inputs, mut input_queue) = mpsc::channel(INCOMING);
    let start = node.now_ms();
    let (client, first) = Client::start(spec, start);
    let mut session = Session {
        node,
        asker: asker.clone(),
        model,
        mode: ask.route,
        client,
        conns: HashMap::new(),
        inputs,
        text,
        first: None,
        why: String::new(),
    };
    let mut ticker = Ticker::every(TICK);
    let mut end = session.apply(first).await;
    while end.is_none() {
        let now_ms = node.now_ms();
        let actions = select! {
            input = input_queue.select_next_some() => match input {
                (conn, Some(message)) => session.client.message(conn, message, now_ms),
                (conn, None) => session.client.lost(conn, now_ms),
            },
            () = ticker.tick().fuse() => session.client.tick(now_ms),
            _stopped = (&mut stop).fuse() => {
                let actions = session.client.stop();
                session.apply(actions).await;
                end = Some(Ok(Finish::Stopped));
                break;
            }
        };
        end = session.apply(actions).await;
    }
    let finish = end.unwrap_or(Ok(Finish::Stopped)).map_err(AnswerError::Session)?;
    let tokens = u32::try_from(session.client.tokens()).unwrap_or(u32::MAX);
    let (first, failovers, drafts) = (session.first, session.client.failovers(), session.client.drafts());
    let ended = Instant::now();
    drop(session);
    // All text is out before the figures are.
    if let Ok(written) = spoken.await {
        written?;
    }
    drop(writer);
    let first = first.unwrap_or(ended);
    let seconds = ended.duration_since(first).as_secs_f64();
    let after_first = f64::from(tokens.saturating_sub(1));
    let stats = AnswerStats {
        tokens,
        prompt_tokens,
        first_token_ms: first.duration_since(asked).as_secs_f64() * 1e3,
        tokens_per_s: if seconds > 0.0 { after_first / seconds } else { 0.0 },
        finish,
        failovers,
        drafts: Drafts { offered: drafts.0, accepted: drafts.1 },
    };
    asker.tell(AnswerEvent::Done(stats)).await;
    Ok(())
}

/// Fetches and starts the text half before the question is asked. When that fails, the question says so.
pub(crate) async fn prepare(node: Node) {
    select! {
        _known = node.model_known.clone().fuse() => {}
        () = Box::pin(sleep(MODEL_WITHIN).fuse()) => {}
    }
    let model = node.state().model.as_ref().map(|m| m.id);
    if let Some(model) = model
        && let Err(error) = node.text.open(&node.compute, model).await
    {
        tracing::warn!(%error, "not prepared to ask");
    }
}

/// Turns tokens into text beside the session, so that the ring never waits for it. Ends early when the text half
/// fails: an answer with holes is none.
fn speak(
    mut asker: Asker,
    stream: u64,
    reader: Reader,
    mut ids: mpsc::Receiver<u32>,
) -> (oneshot::Receiver<Result<(), TextError>>, AbortOnDrop) {
    let (done, spoken) = oneshot::channel();
    let task = task::spawn(async move {
        let mut tokens = 0;
        loop {
            let first = ids.next().await;
            let last = first.is_none();
            let mut batch: Vec<u32> = first.into_iter().collect();
            while let Ok(id) = ids.try_recv() {
                batch.push(id);
            }
            tokens += u32::try_from(batch.len()).unwrap_or(0);
            let written = match reader.decode(stream, batch, last).await {
                Ok(text) => {
                    if !last || !text.is_empty() {
                        asker.tell(AnswerEvent::Text { text, tokens }).await;
                    }
                    Ok(())
                }
                Err(error) => Err(error),
            };
            if last || written.is_err() {
                // The session may have been dropped.
                let _gone = done.send(written);
                return;
            }
        }
    });
    (spoken, task.abort_on_drop())
}

struct Session<'a> {
    node: &'a Node,
    asker: Asker,
    model: Model,
    mode: crate::view::RouteMode,
    client: Client,
    conns: HashMap<u64, Conn>,
    inputs: mpsc::Sender<(u64, Option<Control>)>,
    text: mpsc::Sender<u32>,
    /// When the first token came.
    first: Option<Instant>,
    why: String,
}

/// A control link to a stage.
struct Conn {
    outgoing: mpsc::Sender<Control>,
    /// Ends by itself when `outgoing` is dropped, after what is queued was sent.
    _task: task::Task,
}

impl Session<'_> {
    /// Does what the session asks for; how it ended, once it has.
    async fn apply(&mut self, actions: Vec<Action>) -> Option<Result<Finish, String>> {
        let mut todo: std::collections::VecDeque<Action> = actions.into();
        while let Some(action) = todo.pop_front() {
            match action {
                Action::Route(layers) => {
                    let Plan { route, why } = plan(self.node, &self.model, layers, self.mode, &self.client);
                    self.why = why;
                    let more = self.client.routed(route, self.node.now_ms());
                    more.into_iter().rev().for_each(|a| todo.push_front(a));
                }
                Action::Connect { conn, peer } => {
                    let (outgoing, queue) = mpsc::channel(OUTGOING);
                    let task = task::spawn(control(self.node.clone(), peer, conn, queue, self.inputs.clone()));
                    self.conns.insert(conn, Conn { outgoing, _task: task });
                }
                Action::Send { conn, message } => {
                    let sent = self.conns.get_mut(&conn).map(|c| c.outgoing.try_send(message));
                    if matches!(sent, Some(Err(_))) {
                        let more = self.client.lost(conn, self.node.now_ms());
                        todo.extend(more);
                    }
                }
                Action::Disconnect { conn } => {
                    self.conns.remove(&conn);
                }
                Action::RouteChanged => self.show_route().await,
                Action::Token(id) => {
                    self.first.get_or_insert_with(Instant::now);
                    if self.text.send(id).await.is_err() {
                        // The writer ended early, and says why.
                        return Some(Ok(Finish::Stopped));
                    }
                }
                Action::Finished(Ended::EndOfText) => return Some(Ok(Finish::EndOfText)),
                Action::Finished(Ended::Length) => return Some(Ok(Finish::Length)),
                Action::Failed(message) => return Some(Err(message)),
            }
        }
        None
    }

    async fn show_route(&mut self) {
        let stage = |leg: Leg| StageView {
            peer: leg.peer,
            layers: leg.layers,
            link: self.node.link(&leg.peer).unwrap_or(Link::Relayed),
        };
        let stages = merged(self.client.legs()).into_iter().map(stage).collect();
        self.asker.tell(AnswerEvent::Route { stages, why: self.why.clone() }).await;
    }
}

/// Adjacent parts of one peer as one: a replacement that already computes the layers beside the gap is still one node.
fn merged(legs: impl Iterator<Item = Leg>) -> Vec<Leg> {
    let mut merged: Vec<Leg> = Vec::new();
    for leg in legs {
        let before = merged.last_mut().filter(|before| before.peer == leg.peer);
        match before.and_then(|before| Some((before.layers.union(leg.layers)?, before))) {
            Some((union, before)) => before.layers = union,
            None => merged.push(leg),
        }
    }
    merged
}

/// Carries control messages to a stage and back until either side ends the link.
async fn control(
    node: Node,
    peer: PeerId,
    conn: u64,
    mut outgoing: mpsc::Receiver<Control>,
    mut inputs: mpsc::Sender<(u64, Option<Control>)>,
) {
    if let Ok(mut wire) = node.connect(peer, Protocol::Session).await {
        loop {
            select! {
                message = outgoing.next() => {
                    let Some(message) = message else { return };
                    let Ok(bytes) = message.encode() else { break };
                    if wire.send(bytes).await.is_err() {
                        break;
                    }
                }
                message = wire.recv().fuse() => {
                    let Some(Ok(message)) = message.map(|m| Control::decode(&m)) else { break };
                    if inputs.send((conn, Some(message))).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
    // A session that is over needs no news.
    let _over = inputs.send((conn, None)).await;
}

#[cfg(test)]
mod tests {
    use cdi_types::Keypair;

    use super::*;

    #[test]
    fn adjacent_parts_of_one_peer_are_shown_as_one() {
        let leg = |n: u8, layers: &str| Leg {
            peer: Keypair::from_seed(&[n; 32]).public().peer_id(),
            layers: layers.parse().expect("a range"),
            fetch: false,
        };
        let legs = [leg(1, "0-2"), leg(1, "3-3"), leg(1, "4-4"), leg(2, "5-6"), leg(1, "7-7")];
        assert_eq!(merged(legs.into_iter()), [leg(1, "0-4"), leg(2, "5-6"), leg(1, "7-7")]);
    }
}
