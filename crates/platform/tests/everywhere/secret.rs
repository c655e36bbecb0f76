use cdi_platform::Place;
use cdi_platform::db::DbError;
use cdi_platform::kv::KeyValue;
use cdi_platform::secret::{Protection, Secrets};
use cdi_platform::testing::{async_test, fresh_name, lasting_place};

async fn keeps(place: &Place) -> Secrets {
    let secrets = Secrets::open(place, &fresh_name()).await.expect("opens");
    secrets.put("one", b"first").await.expect("puts");
    secrets.put("one", b"second").await.expect("replaces");
    secrets.put("two", b"other").await.expect("puts");
    assert_eq!(secrets.get("one").await, Ok(Some(b"second".to_vec())));
    secrets.delete("two").await.expect("deletes");
    assert_eq!(secrets.get("two").await, Ok(None));
    assert_eq!(secrets.keys().await, Ok(vec!["one".to_owned()]));
    secrets
}

#[async_test]
async fn secrets_in_memory() {
    assert_eq!(keeps(&Place::memory()).await.protection(), Protection::MemoryOnly);
}

#[async_test]
async fn secrets_on_disk() {
    assert_ne!(keeps(&lasting_place()).await.protection(), Protection::MemoryOnly);
}

#[async_test]
async fn sealed_secrets_outlive_handles_and_cannot_be_read_or_swapped() {
    let (place, name) = (lasting_place(), fresh_name());
    let secrets = Secrets::open(&place, &name).await.expect("opens");
    if secrets.protection() != Protection::SealedByBrowser {
        return;
    }
    secrets.put("one", b"do not tell").await.expect("puts");
    secrets.put("two", b"other").await.expect("puts");
    drop(secrets);
    let secrets = Secrets::open(&place, &name).await.expect("opens again");
    assert_eq!(secrets.get("one").await, Ok(Some(b"do not tell".to_vec())));

    let stored = KeyValue::open(&place, &name).await.expect("opens what is stored");
    let sealed = stored.get("one").await.expect("reads").expect("is there");
    assert!(!sealed.windows(4).any(|part| b"do not tell".windows(4).any(|secret| secret == part)));
    stored.put("two", &sealed).await.expect("swaps");
    assert!(matches!(secrets.get("two").await, Err(DbError::Damaged(_))));
    stored.put("one", b"short").await.expect("damages");
    assert!(matches!(secrets.get("one").await, Err(DbError::Damaged(_))));
}
