//! How much was used in a span of time, which begins with the first use.

use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Window {
    span: Duration,
    begun: Option<Instant>,
    used: u64,
}

impl Window {
    pub(super) const fn new(span: Duration) -> Self {
        Self { span, begun: None, used: 0 }
    }

    pub(super) fn add(&mut self, amount: u64, now: Instant) {
        self.end_if_over(now);
        self.begun.get_or_insert(now);
        self.used = self.used.saturating_add(amount);
    }

    /// Until more can be used than `most`; `None`: now.
    pub(super) fn full_for(&mut self, most: u64, now: Instant) -> Option<Duration> {
        self.end_if_over(now);
        (self.used >= most).then(|| self.begun.map_or(self.span, |begun| (begun + self.span).duration_since(now)))
    }

    fn end_if_over(&mut self, now: Instant) {
        if self.begun.is_some_and(|begun| now.saturating_duration_since(begun) >= self.span) {
            (self.begun, self.used) = (None, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_fills_and_ends() {
        let (mut window, start) = (Window::new(Duration::from_secs(60)), Instant::now());
        assert_eq!(window.full_for(2, start), None);
        window.add(2, start);
        let later = start + Duration::from_secs(20);
        assert_eq!(window.full_for(2, later), Some(Duration::from_secs(40)));
        assert_eq!(window.full_for(3, later), None);
        assert_eq!(window.full_for(2, start + Duration::from_secs(60)), None, "it is over");
        assert_eq!(window.full_for(0, later), Some(Duration::from_secs(60)), "nothing is allowed");
    }
}
