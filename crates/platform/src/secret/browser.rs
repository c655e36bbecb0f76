//! Browser secrets: sealed by WebCrypto with a key that scripts can use and not read.

use std::path::Path;

use idb::TransactionMode;
use idb::builder::{DatabaseBuilder, ObjectStoreBuilder};
use js_sys::{Array, Uint8Array};
use wasm_bindgen::JsValue;

use super::Protection;
use crate::db::DbError;
use crate::kv::KeyValue;
use crate::{Place, js};

pub(super) const PROTECTION: Protection = Protection::SealedByBrowser;

/// Bytes of an AES-GCM nonce, which stand before the sealed bytes.
const NONCE_BYTES: usize = 12;
const KEY_STORE: &str = "key";
const KEY_NAME: &str = "seal";

#[derive(Debug, Clone)]
pub(super) struct Secrets {
    sealed: KeyValue,
    /// `crypto.subtle`.
    subtle: JsValue,
    /// A `CryptoKey` that is not extractable.
    key: JsValue,
}

impl Secrets {
    /// Nothing without a secure context, where WebCrypto is missing.
    pub(super) async fn open(place: &Path, name: &str) -> Result<Option<Self>, DbError> {
        let Some(subtle) = js::global("crypto").and_then(|crypto| js::member(&crypto, "subtle")) else {
            return Ok(None);
        };
        let sealed = KeyValue::open(&Place::disk(place), name).await?;
        let key = load_or_create_key(&subtle, &format!("{name}-key")).await?;
        Ok(Some(Self { sealed, subtle, key }))
    }

    pub(super) async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, DbError> {
        let Some(stored) = self.sealed.get(key).await? else { return Ok(None) };
        let Some((nonce, sealed)) = stored.split_at_checked(NONCE_BYTES) else {
            return Err(DbError::Damaged("a sealed secret is too short".to_owned()));
        };
        let opened = self.transform("decrypt", nonce, sealed, key).await;
        opened.map(Some).map_err(|error| DbError::Damaged(js::describe(&error)))
    }

    pub(super) async fn put(&self, key: &str, secret: &[u8]) -> Result<(), DbError> {
        let mut stored = vec![0; NONCE_BYTES];
        crate::random::fill(&mut stored);
        let sealed = self.transform("encrypt", &stored, secret, key).await;
        stored.extend(sealed.map_err(|error| DbError::Failed(js::describe(&error)))?);
        self.sealed.put(key, &stored).await
    }

    pub(super) async fn delete(&self, key: &str) -> Result<(), DbError> {
        self.sealed.delete(key).await
    }

    pub(super) async fn keys(&self) -> Result<Vec<String>, DbError> {
        self.sealed.keys().await
    }

    /// Seals or opens `input`. The name of the secret is authenticated with it, so that two cannot be swapped.
    async fn transform(&self, method: &str, nonce: &[u8], input: &[u8], name: &str) -> Result<Vec<u8>, JsValue> {
        let algorithm = js::object([
            ("name", "AES-GCM".into()),
            ("iv", Uint8Array::from(nonce).into()),
            ("additionalData", Uint8Array::from(name.as_bytes()).into()),
        ]);
        let arguments = [algorithm, self.key.clone(), Uint8Array::from(input).into()];
        let output = js::call_async(&self.subtle, method, &arguments).await?;
        Ok(Uint8Array::new(&output).to_vec())
    }
}

/// The key of this origin. Two tabs that start at once agree: the one that is added first stands.
async fn load_or_create_key(subtle: &JsValue, database: &str) -> Result<JsValue, DbError> {
    let failed = |error: idb::Error| DbError::Failed(format!("{error:?}"));
    let builder = DatabaseBuilder::new(database).version(1).add_object_store(ObjectStoreBuilder::new(KEY_STORE));
    let database = builder.build().await.map_err(failed)?;
    if let Some(key) = read_key(&database).await.map_err(failed)? {
        database.close();
        return Ok(key);
    }
    let algorithm = js::object([("name", "AES-GCM".into()), ("length", 256.into())]);
    let usages = Array::of2(&"encrypt".into(), &"decrypt".into());
    let arguments = [algorithm, JsValue::FALSE, usages.into()];
    let fresh = js::call_async(subtle, "generateKey", &arguments).await;
    let fresh = fresh.map_err(|error| DbError::Failed(js::describe(&error)))?;
    let added = add_key(&database, &fresh).await;
    // Where adding failed because another tab was first, its key is there now.
    let stored = read_key(&database).await.map_err(failed)?;
    database.close();
    match (stored, added) {
        (Some(key), _) => Ok(key),
        (None, Err(error)) => Err(failed(error)),
        (None, Ok(())) => Err(DbError::Failed("the sealing key was not stored".to_owned())),
    }
}

async fn read_key(database: &idb::Database) -> Result<Option<JsValue>, idb::Error> {
    let transaction = database.transaction(&[KEY_STORE], TransactionMode::ReadOnly)?;
    transaction.object_store(KEY_STORE)?.get(JsValue::from(KEY_NAME))?.await
}

async fn add_key(database: &idb::Database, key: &JsValue) -> Result<(), idb::Error> {
    let transaction = database.transaction(&[KEY_STORE], TransactionMode::ReadWrite)?;
    let _request = transaction.object_store(KEY_STORE)?.add(key, Some(&JsValue::from(KEY_NAME)))?;
    transaction.await.map(drop)
}
