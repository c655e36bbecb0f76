//! Access to JavaScript objects that differ between windows and workers, or that web-sys calls unstable.

use js_sys::{Array, Function, Promise, Reflect};
use wasm_bindgen::{JsCast as _, JsValue};
use wasm_bindgen_futures::JsFuture;

/// A member of the global object; nothing where it is missing, null or forbidden.
pub(crate) fn global(name: &str) -> Option<JsValue> {
    member(&js_sys::global(), name)
}

/// A member of `object`; nothing where it is missing, null or forbidden.
pub(crate) fn member(object: &JsValue, name: &str) -> Option<JsValue> {
    Reflect::get(object, &name.into()).ok().filter(|value| !value.is_undefined() && !value.is_null())
}

/// Calls the method `name` of `object`.
pub(crate) fn call(object: &JsValue, name: &str, arguments: &[JsValue]) -> Result<JsValue, JsValue> {
    let method: Function = Reflect::get(object, &name.into())?.dyn_into()?;
    Reflect::apply(&method, object, &arguments.iter().collect::<Array>())
}

/// Calls the method `name` of `object` and awaits the promise that it returns.
pub(crate) async fn call_async(object: &JsValue, name: &str, arguments: &[JsValue]) -> Result<JsValue, JsValue> {
    let promise: Promise = call(object, name, arguments)?.dyn_into()?;
    JsFuture::from(promise).await
}

/// A plain object with these members.
pub(crate) fn object<const N: usize>(members: [(&str, JsValue); N]) -> JsValue {
    let object = js_sys::Object::new();
    for (name, value) in members {
        // A fresh plain object takes every member.
        let _set = Reflect::set(&object, &name.into(), &value);
    }
    object.into()
}

/// What JavaScript says about an error, e.g. `TypeError: Failed to fetch`.
pub(crate) fn describe(error: &JsValue) -> String {
    let text = |name| member(error, name).and_then(|value| value.as_string());
    match (text("name"), text("message")) {
        (Some(name), Some(message)) => format!("{name}: {message}"),
        (None, Some(text)) | (Some(text), None) => text,
        (None, None) => error.as_string().unwrap_or_else(|| format!("{error:?}")),
    }
}
