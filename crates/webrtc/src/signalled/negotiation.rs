//! One handshake: carries the signalling machine's actions out on a peer connection.

use std::collections::VecDeque;
use std::task::Poll;
use std::time::Duration;

use asynchronous_codec::Framed;
use futures::future::{self, Either};
use futures::{SinkExt as _, Stream as _};
use futures_timer::Delay;
use libp2p_identity::PeerId;
use libp2p_swarm::Stream;

use super::backend::{Attempt, Connection};
use super::{Error, Shared};
use crate::signalling::{Action, IceCandidate, Role, Signal, SignalCodec, Signalling, SignallingError};

/// How long closing the signalling stream may hold up the new connection.
const CLOSE_GRACE: Duration = Duration::from_millis(500);

enum Event {
    Connected,
    Candidate(IceCandidate),
    Signal(Signal),
    /// The stream ended or failed.
    SignallingOver(Option<SignallingError>),
}

/// The signalling stream, until it is over.
type Signals = Option<Framed<Stream, SignalCodec>>;

/// Makes a direct connection with `peer`, who is at the other end of `stream`.
pub(super) async fn negotiate(peer: PeerId, stream: Stream, role: Role, shared: &Shared) -> Result<Connection, Error> {
    let servers = shared.ice_servers().clone();
    let mut attempt = Attempt::new(&servers, &shared.connections)?;
    let mut signals: Signals = Some(Framed::new(stream, SignalCodec));
    let mut machine = Signalling::new(role);
    let mut actions = VecDeque::new();
    if role == Role::Initiator {
        actions.extend(machine.local_description(attempt.offer().await?)?);
    }
    let mut is_described = false;
    loop {
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Send(signal) => send(&mut signals, signal, is_described).await?,
                Action::AcceptOffer(offer) => {
                    actions.extend(machine.local_description(attempt.answer(&offer).await?)?);
                }
                Action::AcceptAnswer(answer) => {
                    attempt.accept_answer(&answer).await?;
                    is_described = true;
                }
                Action::AddCandidate(candidate) => attempt.add_candidate(&candidate).await,
            }
        }
        match next_event(&mut attempt, &mut signals).await? {
            Event::Connected => break,
            Event::Candidate(candidate) => actions.extend(machine.local_candidate(candidate)),
            Event::Signal(signal) => {
                is_described |= role == Role::Responder;
                actions.extend(machine.received(signal)?);
            }
            // The peer may be connected already and have closed the stream, or even the relayed
            // connection under it. With both descriptions exchanged we may yet connect, too.
            Event::SignallingOver(error) if is_described && !is_violation(error.as_ref()) => signals = None,
            Event::SignallingOver(error) => {
                return Err(error
                    .unwrap_or_else(|| SignallingError::Io(std::io::ErrorKind::UnexpectedEof.into()))
                    .into());
            }
        }
    }
    let connection = attempt.finish(peer);
    if let Some(mut framed) = signals {
        // js-libp2p reads up to the end of the stream: close it, do not reset it.
        let _ = future::select(framed.close(), Delay::new(CLOSE_GRACE)).await;
    }
    Ok(connection)
}

fn is_violation(error: Option<&SignallingError>) -> bool {
    error.is_some_and(|error| !matches!(error, SignallingError::Io(_)))
}

/// Sends one signal; once both sides are described, a stream that is over is no error.
async fn send(signals: &mut Signals, signal: Signal, is_described: bool) -> Result<(), Error> {
    let Some(framed) = signals else { return Ok(()) };
    match framed.send(signal).await {
        Err(SignallingError::Io(error)) if is_described => {
            tracing::debug!(%error, "signalling stream over before the last candidate");
            *signals = None;
            Ok(())
        }
        result => Ok(result?),
    }
}

async fn next_event(attempt: &mut Attempt, signals: &mut Signals) -> Result<Event, Error> {
    future::poll_fn(|cx| {
        if let Poll::Ready(connected) = attempt.poll_connected(cx) {
            return Poll::Ready(connected.map(|()| Event::Connected).map_err(Error::from));
        }
        if let Poll::Ready(candidate) = attempt.poll_candidate(cx) {
            return Poll::Ready(Ok(Event::Candidate(candidate)));
        }
        let Some(framed) = signals else { return Poll::Pending };
        std::pin::Pin::new(framed).poll_next(cx).map(|item| {
            Ok(match item {
                Some(Ok(signal)) => Event::Signal(signal),
                Some(Err(error)) => Event::SignallingOver(Some(error)),
                None => Event::SignallingOver(None),
            })
        })
    })
    .await
}

/// Runs `handshake` within this time, or fails with `late`.
pub(crate) async fn within<T, E>(
    timeout: Duration,
    handshake: impl Future<Output = Result<T, E>>,
    late: E,
) -> Result<T, E> {
    match future::select(std::pin::pin!(handshake), Delay::new(timeout)).await {
        Either::Left((result, _)) => result,
        Either::Right(((), _)) => Err(late),
    }
}
