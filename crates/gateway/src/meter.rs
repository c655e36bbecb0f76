//! What a request costs: its answers tell, wherever they are read to their end or dropped.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::keys::Account;
use crate::observe::Figures;

/// Counts for one request. The default counts for nobody.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter {
    figures: Option<Figures>,
    request: String,
    account: Option<Arc<Account>>,
}

impl Meter {
    /// For the request of this name.
    pub(crate) fn new(figures: Figures, request: String) -> Self {
        Self { figures: Some(figures), request, account: None }
    }

    /// The same, at the expense of `account`.
    pub(crate) fn charged_to(self, account: Arc<Account>) -> Self {
        Self { account: Some(account), ..self }
    }

    /// An answer had its first text so long after it was asked for.
    pub(crate) fn first_text(&self, after: Duration) {
        if let Some(figures) = &self.figures {
            figures.first_token.observe(after.as_secs_f64());
        }
    }

    /// An answer is over, read or not.
    pub(crate) fn answer(&self, prompt_tokens: u32, tokens: u32, took: Duration) {
        if let Some(figures) = &self.figures {
            figures.tokens("prompt").inc_by(prompt_tokens.into());
            figures.tokens("answer").inc_by(tokens.into());
            figures.answers.observe(took.as_secs_f64());
        }
        if let Some(account) = &self.account {
            account.charge(u64::from(prompt_tokens) + u64::from(tokens), Instant::now());
        }
        let account = self.account.as_ref().map(|account| account.name.as_str());
        let ms = took.as_millis();
        tracing::info!(request = self.request, account, prompt_tokens, tokens, ms, "API answer");
    }
}
