//! Browser locks: the Web Locks API, <https://w3c.github.io/web-locks/>.

use std::path::Path;
use std::rc::Rc;

use futures::channel::oneshot;
use js_sys::{Function, Promise};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::Closure;

use super::{Held, LocalLock};
use crate::db::DbError;
use crate::js;

pub(super) type SharedLock = Rc<GrantedLock>;

/// Resolving the promise that the browser waits for releases the lock.
#[derive(Debug)]
pub(super) struct GrantedLock {
    release: Function,
}

impl Drop for GrantedLock {
    fn drop(&mut self) {
        // Calling a resolver does not throw.
        let _released = self.release.call0(&JsValue::UNDEFINED);
    }
}

pub(super) async fn take(_place: &Path, name: &str) -> Result<Option<Held>, DbError> {
    let Some(locks) = js::global("navigator").and_then(|navigator| js::member(&navigator, "locks")) else {
        return Ok(LocalLock::take(name));
    };
    let (sender, receiver) = oneshot::channel();
    // The lock is held until the promise that this returns resolves.
    let granted = Closure::once_into_js(move |lock: JsValue| -> JsValue {
        if lock.is_null() {
            drop(sender.send(None));
            return JsValue::UNDEFINED;
        }
        let mut release = None;
        let held = Promise::new(&mut |resolve, _| release = Some(resolve));
        // When nobody waits any more, the lock comes back in the error, is dropped, and is so released.
        drop(sender.send(release.map(|release| Rc::new(GrantedLock { release }))));
        held.into()
    });
    let options = js::object([("ifAvailable", true.into())]);
    let request = js::call(&locks, "request", &[name.into(), options, granted]);
    request.map_err(|error| DbError::Failed(js::describe(&error)))?;
    // A canceled request drops the sender: storage is denied to this page, nobody shares anything with it.
    match receiver.await {
        Ok(lock) => Ok(lock.map(Held::Shared)),
        Err(oneshot::Canceled) => Ok(LocalLock::take(name)),
    }
}
