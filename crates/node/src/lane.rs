//! Whose turn it is to write to a peer: the row of a token goes before the bulk of a prompt or a replay.
//!
//! All links to one peer share one connection, and what is written first is sent first. So bulk is written one small
//! frame at a time, and only while nothing urgent waits.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Poll, Waker};

use cdi_types::PeerId;

/// The lanes of all peers that have links.
#[derive(Debug, Default)]
pub(crate) struct Lanes(HashMap<PeerId, Weak<Lane>>);

impl Lanes {
    /// The lane of a peer.
    pub(crate) fn to(&mut self, peer: PeerId) -> Arc<Lane> {
        self.0.retain(|_, lane| lane.strong_count() > 0);
        let known = self.0.get(&peer).and_then(Weak::upgrade);
        known.unwrap_or_else(|| {
            let lane = Arc::new(Lane::default());
            self.0.insert(peer, Arc::downgrade(&lane));
            lane
        })
    }
}

/// The links to one peer.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Urgent messages being written.
    urgent: usize,
    /// Whether bulk is being written.
    bulk: bool,
    /// Bulk that waits: at most one task a link.
    waiting: Vec<Waker>,
}

/// Until it is dropped, the message may be written.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    lane: &'a Lane,
    bulk: bool,
}

impl Lane {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the turn of a message. Urgent ones do not wait.
    pub(crate) async fn turn(&self, bulk: bool) -> Turn<'_> {
        if bulk {
            poll_fn(|cx| {
                let mut state = self.state();
                if state.urgent == 0 && !state.bulk {
                    state.bulk = true;
                    return Poll::Ready(());
                }
                state.waiting.retain(|waker| !waker.will_wake(cx.waker()));
                state.waiting.push(cx.waker().clone());
                Poll::Pending
            })
            .await;
        } else {
            self.state().urgent += 1;
        }
        Turn { lane: self, bulk }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.lane.state();
        if self.bulk {
            state.bulk = false;
        } else {
            state.urgent -= 1;
        }
        let waiting = if state.urgent == 0 { std::mem::take(&mut state.waiting) } else { Vec::new() };
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn a_token_goes_before_the_rest_of_a_prompt() {
        let mut lanes = Lanes::default();
        let (peer, other) = (PeerId::random(), PeerId::random());
        let (prompt, token) = (lanes.to(peer), lanes.to(peer));
        let writing = prompt.turn(true).now_or_never().expect("the lane is free");
        assert!(prompt.turn(true).now_or_never().is_none(), "one frame of bulk at a time");
        let urgent = token.turn(false).now_or_never().expect("a token does not wait");
        drop(writing);
        let mut next = Box::pin(prompt.turn(true));
        assert!((&mut next).now_or_never().is_none(), "bulk waits for the token");
        assert!(lanes.to(other).turn(true).now_or_never().is_some(), "that of another peer does not");
        drop(urgent);
        assert!(next.now_or_never().is_some());
    }

    #[test]
    fn lanes_go_with_their_links() {
        let mut lanes = Lanes::default();
        drop(lanes.to(PeerId::random()));
        let _kept = lanes.to(PeerId::random());
        assert_eq!(lanes.0.len(), 1);
    }
}
