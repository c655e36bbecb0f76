use cdi_platform::Place;
use cdi_platform::lock::{try_lock, try_lock_patiently};
use cdi_platform::testing::{async_test, fresh_name, lasting_place};

async fn excludes(place: &Place) {
    let (name, other) = (fresh_name(), fresh_name());
    let lock = try_lock(place, &name).await.expect("locks").expect("is free");
    assert!(try_lock(place, &name).await.expect("asks").is_none());
    let clone = lock.clone();
    let independent = try_lock(place, &other).await.expect("locks");
    assert!(independent.is_some());
    drop(lock);
    assert!(try_lock_patiently(place, &name).await.expect("asks").is_none());
    drop(clone);
    assert!(try_lock_patiently(place, &name).await.expect("asks").is_some());
}

#[async_test]
async fn a_lock_in_memory_excludes_others_until_dropped() {
    excludes(&Place::memory()).await;
}

#[async_test]
async fn a_lock_on_disk_excludes_others_until_dropped() {
    excludes(&lasting_place()).await;
}
