//! Keys: who may ask, how often and how much. The file is read again when it changes, so that a key that was added or
//! revoked counts within a second.

mod account;
mod file;
mod window;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::Response;

pub(crate) use self::account::Account;
pub use self::account::Limits;
pub use self::file::{Entry, KeyFile, KeysError};
use crate::dialect::Dialect;
use crate::meter::Meter;
use crate::problem::Problem;

/// How long the file is taken to be unchanged.
const FRESH: Duration = Duration::from_secs(1);

/// The keys that count. Clones share them.
#[derive(Debug, Clone)]
pub struct Keys(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    state: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    file: KeyFile,
    accounts: HashMap<String, Arc<Account>>,
    looked: Instant,
}

impl Keys {
    /// The keys of the file at `path`, none if there is no file yet.
    ///
    /// # Errors
    /// See [`KeysError`].
    pub fn open(path: PathBuf) -> Result<Self, KeysError> {
        let file = KeyFile::read(&path)?;
        let accounts = accounts(&file, &HashMap::new());
        Ok(Self(Arc::new(Inner { path, state: Mutex::new(Known { file, accounts, looked: Instant::now() }) })))
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the file again, at most once in [`FRESH`]. One that makes no sense changes nothing.
    async fn refresh(&self) {
        {
            let mut known = self.known();
            if known.looked.elapsed() < FRESH {
                return;
            }
            known.looked = Instant::now();
        }
        let path = self.0.path.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || KeyFile::read(&path)).await else { return };
        match read {
            Ok(file) => {
                let mut known = self.known();
                if known.file != file {
                    known.accounts = accounts(&file, &known.accounts);
                    tracing::info!(keys = file.keys.len(), "the keys of the API have changed");
                    known.file = file;
                }
            }
            Err(error) => tracing::warn!(%error, "the keys of the API stay as they were"),
        }
    }

    async fn admit(&self, headers: &HeaderMap) -> Result<Arc<Account>, Problem> {
        self.refresh().await;
        let key = presented(headers).ok_or_else(Problem::no_key)?;
        let account = self.known().accounts.get(&file::hash(key)).cloned().ok_or_else(Problem::wrong_key)?;
        account.admit(Instant::now())?;
        Ok(account)
    }
}

fn accounts(file: &KeyFile, before: &HashMap<String, Arc<Account>>) -> HashMap<String, Arc<Account>> {
    let account = |entry: &Entry| {
        let hash = entry.sha256.to_ascii_lowercase();
        let account = Account::new(entry.name.clone(), entry.limits, before.get(&hash).map(AsRef::as_ref));
        (hash, Arc::new(account))
    };
    file.keys.iter().map(account).collect()
}

/// The key of a request: as OpenAI's clients send it, and as Anthropic's do.
fn presented(headers: &HeaderMap) -> Option<&str> {
    let bearer = || {
        let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
        let (scheme, key) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(key)
    };
    let key = headers.get("x-api-key").and_then(|value| value.to_str().ok()).or_else(bearer)?;
    Some(key.trim()).filter(|key| !key.is_empty())
}

/// Lets requests with a key pass, and has their tokens counted.
pub(crate) async fn admit(State(keys): State<Keys>, mut request: Request, next: Next) -> Response {
    match keys.admit(request.headers()).await {
        Ok(account) => {
            let meter = request.extensions().get::<Meter>().cloned().unwrap_or_default();
            request.extensions_mut().insert(meter.charged_to(account));
            next.run(request).await
        }
        Err(problem) => Dialect::of(request.uri().path()).respond(&problem),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn both_headers_are_read() {
        let read = |name: &'static str, value: &'static str| {
            let name = HeaderName::from_static(name);
            presented(&HeaderMap::from_iter([(name, HeaderValue::from_static(value))])).map(str::to_owned)
        };
        assert_eq!(read("authorization", "Bearer sk-1").as_deref(), Some("sk-1"));
        assert_eq!(read("authorization", "bearer  sk-1").as_deref(), Some("sk-1"));
        assert_eq!(read("x-api-key", "sk-1").as_deref(), Some("sk-1"));
        assert_eq!(
            (read("authorization", "Basic eDp5"), read("authorization", "Bearer "), read("x-api-key", "")),
            (None, None, None)
        );
    }
}
