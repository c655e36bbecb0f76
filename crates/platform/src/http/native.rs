//! Native HTTP: reqwest.

use std::sync::LazyLock;

use super::HttpError;

/// One client a process: it holds the connection pool. Building fails only without a TLS back end.
static CLIENT: LazyLock<Result<reqwest::Client, String>> =
    LazyLock::new(|| reqwest::Client::builder().build().map_err(|error| error.to_string()));

pub(super) struct Response(reqwest::Response);

pub(super) async fn open(url: &str) -> Result<Response, HttpError> {
    let client = CLIENT.as_ref().map_err(|error| HttpError::Unreachable(error.clone()))?;
    let response = client.get(url).send().await.map_err(unreachable)?;
    if response.status().is_success() {
        Ok(Response(response))
    } else {
        Err(HttpError::Status(response.status().as_u16()))
    }
}

impl Response {
    pub(super) fn length(&self) -> Option<u64> {
        self.0.content_length()
    }

    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, HttpError> {
        Ok(self.0.chunk().await.map_err(unreachable)?.map(Into::into))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreachable(error: reqwest::Error) -> HttpError {
    // The cause says more than reqwest's own words, which only repeat the address.
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    HttpError::Unreachable(cause.to_string())
}
