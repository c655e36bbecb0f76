//! The wish to stop, seen by every part of the relay.

use tokio::sync::watch;

/// Sets the wish; dropping it does too.
#[derive(Debug)]
pub(crate) struct Stopper(watch::Sender<bool>);

/// Waits for the wish.
#[derive(Debug, Clone)]
pub(crate) struct Stop(watch::Receiver<bool>);

/// Both ends.
pub(crate) fn channel() -> (Stopper, Stop) {
    let (sender, receiver) = watch::channel(false);
    (Stopper(sender), Stop(receiver))
}

impl Stopper {
    /// Asks everybody to stop.
    pub(crate) fn stop(&self) {
        self.0.send_replace(true);
    }
}

impl Stop {
    /// Returns once somebody asked to stop.
    pub(crate) async fn requested(&mut self) {
        // An error says that the other end is gone, which means the same.
        let _ = self.0.wait_for(|stop| *stop).await;
    }
}
