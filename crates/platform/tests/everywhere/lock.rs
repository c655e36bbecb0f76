use cdi_platform::Place;
use cdi_platform::lock::try_lock;
use cdi_platform::testing::{async_test, fresh_name, lasting_place};

async fn excludes(place: &Place) {
    let (name, other) = (fresh_name(), fresh_name());
    let lock = try_lock(place, &name).await.expect("locks").expect("is free");
    assert!(try_lock(place, &name).await.expect("asks").is_none());
    let independent = try_lock(place, &other).await.expect("locks");
    assert!(independent.is_some());
    drop(lock);
    // A browser hears of the release asynchronously.
    for _ in 0..1000 {
        if try_lock(place, &name).await.expect("asks").is_some() {
            return;
        }
        cdi_platform::task::yield_now().await;
    }
    panic!("the lock was not released");
}

#[async_test]
async fn a_lock_in_memory_excludes_others_until_dropped() {
    excludes(&Place::memory()).await;
}

#[async_test]
async fn a_lock_on_disk_excludes_others_until_dropped() {
    excludes(&lasting_place()).await;
}
