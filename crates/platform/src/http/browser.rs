//! Browser HTTP: `fetch` of the window or worker.

use js_sys::Uint8Array;
use wasm_bindgen::{JsCast as _, JsValue};

use web_sys::AbortController;

use super::HttpError;
use crate::js;

pub(super) struct Response {
    /// Of the body; nothing for an empty one.
    reader: Option<JsValue>,
    length: Option<u64>,
    _cancel: CancelOnDrop,
}

/// Cancels the request, which does nothing to one that is complete.
struct CancelOnDrop(AbortController);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

pub(super) async fn open(url: &str) -> Result<Response, HttpError> {
    let cancel = CancelOnDrop(AbortController::new().map_err(unreachable)?);
    let options = js::object([("signal", cancel.0.signal().into())]);
    let response = js::call_async(&js_sys::global(), "fetch", &[url.into(), options]).await.map_err(unreachable)?;
    let response: web_sys::Response = response.unchecked_into();
    if !response.ok() {
        return Err(HttpError::Status(response.status()));
    }
    let length = response.headers().get("content-length").ok().flatten().and_then(|length| length.parse().ok());
    let body = js::member(&response, "body");
    let reader = body.map(|body| js::call(&body, "getReader", &[]).map_err(unreachable)).transpose()?;
    Ok(Response { reader, length, _cancel: cancel })
}

impl Response {
    pub(super) const fn length(&self) -> Option<u64> {
        self.length
    }

    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, HttpError> {
        let Some(reader) = &self.reader else { return Ok(None) };
        let result = js::call_async(reader, "read", &[]).await.map_err(unreachable)?;
        let chunk = js::member(&result, "value").and_then(|chunk| chunk.dyn_into::<Uint8Array>().ok());
        Ok(chunk.map(|chunk| chunk.to_vec()))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreachable(error: JsValue) -> HttpError {
    HttpError::Unreachable(js::describe(&error))
}
