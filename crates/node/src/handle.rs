//! How a node is driven: by its user's commands, and by programs that ask.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures::channel::{mpsc, oneshot};
use futures::lock::Mutex;
use futures::{SinkExt as _, Stream, StreamExt as _};

use crate::view::{AnswerEvent, Ask, Command};

/// Events of one answer that wait for the program that asked.
const ANSWER_EVENTS: usize = 64;

/// A handle of a running node. The node stops when the last one is dropped.
#[derive(Debug, Clone)]
pub struct Handle(Arc<Mutex<mpsc::Sender<Order>>>);

/// What a handle sends.
pub(crate) enum Order {
    /// Of the user, who is told by events.
    Command(Command),
    /// Of a program, which is told by the answer itself.
    Ask(Ask, mpsc::Sender<AnswerEvent>, oneshot::Receiver<()>),
}

/// One answer, beside any number of others. Dropping it stops the answer and frees its sessions.
#[derive(Debug)]
pub struct Answering {
    events: mpsc::Receiver<AnswerEvent>,
    _stop: oneshot::Sender<()>,
}

impl Stream for Answering {
    type Item = AnswerEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<AnswerEvent>> {
        self.events.poll_next_unpin(cx)
    }
}

impl Handle {
    /// The handle that fills this queue.
    pub(crate) fn new(orders: mpsc::Sender<Order>) -> Self {
        Self(Arc::new(Mutex::new(orders)))
    }

    /// Sends a command; waits while the engine is busy. A node that has stopped ignores it.
    pub async fn send(&self, command: Command) {
        self.order(Order::Command(command)).await;
    }

    /// Asks for an answer of its own: it is neither the user's current one nor ended by another question. A node that
    /// has stopped gives an answer without events.
    pub async fn ask(&self, ask: Ask) -> Answering {
        let (sender, events) = mpsc::channel(ANSWER_EVENTS);
        let (_stop, stopped) = oneshot::channel();
        self.order(Order::Ask(ask, sender, stopped)).await;
        Answering { events, _stop }
    }

    async fn order(&self, order: Order) {
        // One sender for all clones: every further one would add a place to the queue.
        let _stopped = self.0.lock().await.send(order).await;
    }
}
