//! The browser's storage manager, <https://storage.spec.whatwg.org/>.

use wasm_bindgen::JsValue;

use super::Estimate;
use crate::js;

/// Used and available room; nothing where it is not told, as natively.
pub async fn estimate() -> Option<Estimate> {
    let estimate = js::call_async(&manager()?, "estimate", &[]).await.ok()?;
    let bytes = |name| js::member(&estimate, name).and_then(|value| value.as_f64());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count of bytes; `as` saturates")]
    let whole = |bytes: f64| bytes as u64;
    Some(Estimate { usage_bytes: whole(bytes("usage")?), quota_bytes: whole(bytes("quota")?) })
}

/// Asks that data be kept until the user deletes it; whether that was granted. Ask when the user chooses to
/// host: some browsers show a question.
///
/// A worker can only learn whether it was granted before: asking is for the page.
pub async fn persist() -> bool {
    let Some(manager) = manager() else { return false };
    let method = if js::member(&manager, "persist").is_some() { "persist" } else { "persisted" };
    js::call_async(&manager, method, &[]).await.is_ok_and(|granted| granted.is_truthy())
}

fn manager() -> Option<JsValue> {
    js::member(&js::global("navigator")?, "storage")
}
