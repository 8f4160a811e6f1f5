//! An idle source makes few calls, and still reads the next event at once.

use super::fake::Mishap;
use super::*;
use crate::limits::{IDLE_POLL, WATCHED_POLL};

/// Calls of every method so far.
fn calls(fake: &Fake) -> u64 {
    fake.world().calls.values().sum()
}

#[tokio::test(start_paused = true)]
async fn an_idle_vcenter_is_asked_less_often_than_by_the_old_router() {
    let fake = Fake::new();
    fake.world().history(10);
    let run = Run::start(fake.clone(), settings());
    run.caught_up(MINUTE).await;
    sleep(Duration::from_secs(5)).await;
    let before = calls(&fake);
    sleep(Duration::from_secs(68)).await;
    let made = calls(&fake) - before;
    assert!(made <= 10, "{made} calls in 68 s, the old router makes 15: {:?}", fake.world().calls);
    fake.world().append();
    run.caught_up(IDLE_POLL / 10).await;
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_blind_waker_is_soon_distrusted() {
    let fake = Fake::new();
    fake.world().history(10);
    fake.world().wakes_blind = true;
    let run = Run::start(fake.clone(), settings());
    run.caught_up(MINUTE).await;
    sleep(MINUTE).await;
    fake.world().append();
    run.caught_up(WATCHED_POLL + IDLE_POLL).await;
    for _ in 0..10 {
        sleep(Duration::from_millis(12_300)).await;
        fake.world().append();
        run.caught_up(2 * IDLE_POLL).await;
    }
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_waker_is_replaced_by_polling() {
    let fake = Fake::new();
    fake.world().history(10);
    let run = Run::start(fake.clone(), settings());
    run.caught_up(MINUTE).await;
    sleep(MINUTE).await;
    // The call in flight ends within a minute, and no other one begins.
    fake.world().wakes = false;
    fake.world()
        .go_wrong("WaitForUpdatesEx", &[Mishap::Fault(vsphere::api::FaultKind::ManagedObjectNotFound)]);
    sleep(2 * MINUTE).await;
    fake.world().append();
    run.caught_up(2 * IDLE_POLL).await;
    run.stop().await;
}

/// Collectors do not show events with negative keys, so vCenter does not wake the source for them.
#[tokio::test(start_paused = true)]
async fn keys_that_wrap_while_idle_are_noticed_within_seconds() {
    let fake = Fake::new();
    fake.world().set_next_key(i32::MAX - 5);
    fake.world().history(4);
    let run = Run::start(fake.clone(), settings());
    run.caught_up(MINUTE).await;
    sleep(MINUTE).await;
    fake.world().set_next_key(i32::MIN);
    fake.world().append();
    run.caught_up(Duration::from_secs(15)).await;
    run.stop().await;
}
