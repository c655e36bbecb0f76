use std::time::Duration;

use cdi_platform::testing::async_test;
use cdi_platform::time::{Instant, Ticker, TimedOut, sleep, steady, timeout, unix_ms};
use cdi_platform::{random, storage, tab, task, visibility};
use futures::StreamExt as _;
use futures::channel::oneshot;
use futures::future::pending;

#[async_test]
async fn a_spawned_task_runs_and_an_aborted_one_is_dropped() {
    let (sender, receiver) = oneshot::channel();
    let _task = task::spawn(async move { sender.send(7).expect("somebody waits") });
    assert_eq!(receiver.await, Ok(7));

    let (sender, receiver) = oneshot::channel::<()>();
    let task = task::spawn(async move {
        let _held = sender;
        pending::<()>().await;
    });
    drop(task.abort_on_drop());
    assert!(receiver.await.is_err());
}

#[async_test]
async fn a_dedicated_task_runs() {
    let (sender, receiver) = oneshot::channel();
    task::spawn_dedicated("test", || async move {
        sleep(Duration::from_millis(1)).await;
        sender.send(()).expect("somebody waits");
    });
    assert_eq!(receiver.await, Ok(()));
}

#[async_test]
async fn steady_ticks_keep_coming_and_do_not_pile_up() {
    let started = Instant::now();
    let mut ticks = steady(Duration::from_millis(20));
    for _ in 0..5 {
        timeout(Duration::from_secs(10), ticks.next()).await.expect("a tick").expect("they go on");
    }
    assert!(started.elapsed() >= Duration::from_millis(60), "{:?}", started.elapsed());
}

#[async_test]
async fn yielding_lets_others_run() {
    let (sender, mut receiver) = oneshot::channel();
    let _task = task::spawn(async move { sender.send(()).expect("somebody waits") });
    while receiver.try_recv().expect("not dropped").is_none() {
        task::yield_now().await;
    }
}

#[async_test]
async fn clocks_and_timers() {
    let (start, start_ms) = (Instant::now(), unix_ms());
    let mut ticker = Ticker::every(Duration::from_millis(5));
    ticker.tick().await;
    ticker.tick().await;
    // Browsers round the clock.
    assert!(start.elapsed() >= Duration::from_millis(9), "{:?}", start.elapsed());
    assert!(unix_ms() >= start_ms + 9 && start_ms > 1_700_000_000_000);
    assert_eq!(timeout(Duration::from_millis(1), pending::<()>()).await, Err(TimedOut));
    assert_eq!(timeout(Duration::from_secs(60), async { 1 }).await, Ok(1));
}

#[async_test]
async fn what_the_system_tells() {
    cdi_platform::log::init("debug");
    tracing::info!(answer = 42, "a line");
    assert_ne!(random::seed(), random::seed());
    assert_eq!(tab::slot(), tab::slot());
    if let Some(fresh) = tab::renew() {
        assert_eq!(tab::slot(), fresh);
        assert_ne!(tab::renew(), Some(fresh));
    }
    assert!(visibility::is_online());
    drop(visibility::lifecycle());
    if let Some(estimate) = storage::estimate().await {
        assert!(estimate.quota_bytes > estimate.usage_bytes);
    }
    let _granted = storage::persist().await;
}
