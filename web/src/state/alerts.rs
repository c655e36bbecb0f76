//! Errors and notices that stay until they are dismissed.

/// Most alerts on the page; the oldest makes room.
const MAX_ALERTS: usize = 4;

/// Something that the user should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Names it for dismissal.
    pub id: u32,
    /// How grave it is.
    pub kind: AlertKind,
    /// What happened and what to do.
    pub text: String,
}

/// How grave an alert is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertKind {
    /// Something failed.
    Error,
    /// It stops nothing.
    Notice,
}

/// The alerts on the page, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Alerts {
    shown: Vec<Alert>,
    next_id: u32,
}

impl Alerts {
    /// The alerts, oldest first.
    #[must_use]
    pub fn shown(&self) -> &[Alert] {
        &self.shown
    }

    /// Adds an alert. One that is already on the page is not shown twice.
    pub fn push(&mut self, kind: AlertKind, text: String) {
        if self.shown.iter().any(|a| a.kind == kind && a.text == text) {
            return;
        }
        if self.shown.len() == MAX_ALERTS {
            self.shown.remove(0);
        }
        self.shown.push(Alert { id: self.next_id, kind, text });
        self.next_id = self.next_id.wrapping_add(1);
    }

    /// Takes an alert off the page.
    pub fn dismiss(&mut self, id: u32) {
        self.shown.retain(|a| a.id != id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_are_bounded_and_not_repeated() {
        let mut alerts = Alerts::default();
        for n in 0..100 {
            alerts.push(AlertKind::Notice, format!("notice {}", n / 2));
        }
        let texts: Vec<&str> = alerts.shown().iter().map(|a| a.text.as_str()).collect();
        assert_eq!(texts, ["notice 46", "notice 47", "notice 48", "notice 49"]);
        alerts.dismiss(alerts.shown()[1].id);
        assert_eq!(alerts.shown().len(), 3);
        assert!(alerts.shown().iter().all(|a| a.text != "notice 47"));
    }
}
