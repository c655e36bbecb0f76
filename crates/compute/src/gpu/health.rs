//! Whether a device can still be trusted: loss and errors that no error scope caught.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cdi_model::compute::ComputeError;

/// Shared with the callbacks of the device. The first report wins, later ones are consequences of it.
#[derive(Clone, Default)]
pub(crate) struct Health(Arc<Mutex<Reports>>);

#[derive(Default)]
struct Reports {
    lost: Option<String>,
    uncaptured: Option<String>,
}

impl Health {
    /// Registers the callbacks. wgpu's own handler of uncaptured errors panics.
    pub(crate) fn watch(device: &wgpu::Device) -> Self {
        let health = Self::default();
        let lost = health.clone();
        device.set_device_lost_callback(move |reason, message| {
            lost.reports().lost.get_or_insert(format!("{reason:?}: {message}"));
        });
        let uncaptured = health.clone();
        device.on_uncaptured_error(Arc::new(move |error| uncaptured.report(error.to_string())));
        health
    }

    /// Records an error after which results cannot be trusted.
    pub(crate) fn report(&self, message: String) {
        self.reports().uncaptured.get_or_insert(message);
    }

    /// Forgets errors that an allocation failure explains.
    pub(crate) fn forgive(&self) {
        self.reports().uncaptured = None;
    }

    pub(crate) fn check(&self) -> Result<(), ComputeError> {
        let reports = self.reports();
        match reports.lost.as_ref().or(reports.uncaptured.as_ref()) {
            Some(message) => Err(ComputeError::DeviceLost(message.clone())),
            None => Ok(()),
        }
    }

    fn reports(&self) -> MutexGuard<'_, Reports> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_report_wins_and_can_be_forgiven() {
        let health = Health::default();
        assert_eq!(health.check(), Ok(()));
        health.report("one".to_owned());
        health.report("two".to_owned());
        assert_eq!(health.check(), Err(ComputeError::DeviceLost("one".to_owned())));
        health.forgive();
        assert_eq!(health.check(), Ok(()));
    }
}
