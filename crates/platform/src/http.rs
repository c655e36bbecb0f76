//! Fetching over HTTP, bounded in bytes and in time.

use std::time::Duration;

use crate::task::MaybeSend;
use crate::time::timeout;

#[cfg(target_arch = "wasm32")]
#[path = "http/browser.rs"]
mod imp;
#[cfg(not(target_arch = "wasm32"))]
#[path = "http/native.rs"]
mod imp;

/// Why a resource was not fetched.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HttpError {
    /// The address is wrong, nobody answered, the connection broke, or (in a browser) the server does not
    /// allow this page to read from it. Browsers do not tell which.
    #[error("could not be reached: {0}")]
    Unreachable(String),
    /// The server answered with a status other than 2xx.
    #[error("the server answered with status {0}")]
    Status(u16),
    /// The body is larger than the caller allows.
    #[error("the answer is larger than {limit} bytes")]
    TooLarge {
        /// What the caller allows.
        limit: usize,
    },
    /// The answer was not complete in time.
    #[error("timed out")]
    TimedOut,
    /// The body is not UTF-8.
    #[error("the answer is not text")]
    NotText,
}

/// What a caller allows a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Most bytes of a body.
    pub max_bytes: usize,
    /// Longest time to the end of the body.
    pub timeout: Duration,
}

impl Limits {
    /// At most this many bytes, within a minute.
    #[must_use]
    pub const fn bytes(max_bytes: usize) -> Self {
        Self { max_bytes, timeout: Duration::from_secs(60) }
    }
}

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Received {
    /// Bytes so far.
    pub bytes: usize,
    /// Bytes altogether, where the server says. Of a compressed answer this is the compressed size.
    pub total: Option<u64>,
}

/// The body of `url`. `on_progress` hears of every chunk. Dropping the future cancels the request.
///
/// # Errors
/// [`HttpError`].
pub async fn get(
    url: &str,
    limits: Limits,
    mut on_progress: impl FnMut(Received) + MaybeSend,
) -> Result<Vec<u8>, HttpError> {
    let too_large = HttpError::TooLarge { limit: limits.max_bytes };
    let download = async {
        let mut response = imp::open(url).await?;
        let total = response.length();
        let announced = usize::try_from(total.unwrap_or(0)).unwrap_or(usize::MAX);
        if announced > limits.max_bytes {
            return Err(too_large);
        }
        let mut body = Vec::with_capacity(announced);
        while let Some(chunk) = response.next().await? {
            if chunk.len() > limits.max_bytes - body.len() {
                return Err(too_large);
            }
            body.extend_from_slice(&chunk);
            on_progress(Received { bytes: body.len(), total });
        }
        Ok(body)
    };
    timeout(limits.timeout, download).await.unwrap_or(Err(HttpError::TimedOut))
}

/// The body of `url` as text.
///
/// # Errors
/// [`HttpError`].
pub async fn get_text(url: &str, limits: Limits) -> Result<String, HttpError> {
    String::from_utf8(get(url, limits, |_| {}).await?).map_err(|_| HttpError::NotText)
}
