//! Who has a key, and what they have used.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::window::Window;
use crate::problem::Problem;

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What the holder of a key may use; `None`: as much as there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Requests in a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_a_minute: Option<u32>,
    /// Tokens in a day, of prompts and answers together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens_a_day: Option<u64>,
}

/// The holder of a key.
#[derive(Debug)]
pub(crate) struct Account {
    pub(crate) name: String,
    limits: Limits,
    used: Arc<Mutex<Used>>,
}

#[derive(Debug)]
struct Used {
    requests: Window,
    tokens: Window,
}

impl Account {
    /// An account of these limits, which goes on with what `before` has used.
    pub(super) fn new(name: String, limits: Limits, before: Option<&Self>) -> Self {
        let fresh = || Arc::new(Mutex::new(Used { requests: Window::new(MINUTE), tokens: Window::new(DAY) }));
        Self { name, limits, used: before.map_or_else(fresh, |before| before.used.clone()) }
    }

    /// Counts a request, or says that there were enough.
    pub(super) fn admit(&self, now: Instant) -> Result<(), Problem> {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(most) = self.limits.requests_a_minute
            && let Some(wait) = used.requests.full_for(most.into(), now)
        {
            return Err(Problem::too_often(most, wait));
        }
        if let Some(most) = self.limits.tokens_a_day
            && let Some(wait) = used.tokens.full_for(most, now)
        {
            return Err(Problem::quota(most, wait));
        }
        used.requests.add(1, now);
        Ok(())
    }

    /// Counts tokens, which are there already: who begins below the quota may end above it.
    pub(crate) fn charge(&self, tokens: u64, now: Instant) {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).tokens.add(tokens, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_tokens_end_at_their_limits() {
        let start = Instant::now();
        let limits = Limits { requests_a_minute: Some(2), tokens_a_day: Some(10) };
        let account = Account::new("a".to_owned(), limits, None);
        assert_eq!((account.admit(start), account.admit(start)), (Ok(()), Ok(())));
        let refused = account.admit(start + Duration::from_millis(500)).expect_err("a third");
        assert_eq!((refused.code, refused.retry_after), (Some("rate_limit_exceeded"), Some(60)));
        account.charge(10, start);
        let refused = account.admit(start + MINUTE).expect_err("no tokens");
        assert_eq!((refused.code, refused.retry_after), (Some("insufficient_quota"), Some(24 * 60 * 60 - 60)));
        let raised = Account::new("a".to_owned(), Limits { tokens_a_day: Some(11), ..limits }, Some(&account));
        assert_eq!(raised.admit(start + MINUTE), Ok(()));
        account.charge(1, start);
        assert!(raised.admit(start + MINUTE).is_err(), "an answer that is still running is charged to it as well");
        assert_eq!(account.admit(start + DAY), Ok(()));
    }
}
