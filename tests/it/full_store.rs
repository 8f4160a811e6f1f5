//! A store without room: events wait, nothing is lost, and nobody else is held up.

use std::sync::Arc;
use std::time::Duration;

use crate::common::pages::{self, begin};
use crate::pipeline::{Target, drained, push, start_changed, start_over, until};
use event_router::state::{Bounds, Store};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_of_dead_letters_blocks_its_destination_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (sick, healthy) = (Arc::new(Target::default()), Arc::new(Target::default()));
    *sick.refuses.lock().unwrap() = true;
    // Room for some ten letters.
    let bounds = Bounds { dead_letter_bytes: 8_000, ..Bounds::default() };
    let store = Store::open_with(dir.path(), bounds).unwrap();
    let targets = [("sick", Arc::clone(&sick)), ("healthy", Arc::clone(&healthy))];
    let pipeline = start_over(&targets, dir.path(), store);
    let intake = pipeline.intake(0);
    let begun = begin(&intake).await;
    push(&intake, &begun, 0, 0..1_000).await;
    until("the other one is not held up", || healthy.taken.lock().unwrap().len() == 1_000).await;
    let reader = event_router::state::StoreReader::open(dir.path()).unwrap();
    let stored = || reader.dead_letters(&Default::default()).unwrap().len();
    until("some letters fit", || stored() > 5).await;
    *sick.refuses.lock().unwrap() = false;
    // Replays go on in a destination that is blocked, and make room for what the store had refused.
    let letters = pipeline.dead_letters();
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    while sick.taken.lock().unwrap().len() < 1_000 {
        letters.replay(&Default::default(), |_| true).await.unwrap();
        assert!(tokio::time::Instant::now() < end, "{} taken", sick.taken.lock().unwrap().len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(letters);
    assert!(drained(pipeline, intake, 30).await.settled);
    let mut taken = sick.taken.lock().unwrap().clone();
    taken.sort_unstable();
    assert_eq!(taken, (0..1_000).collect::<Vec<_>>());
    assert_eq!(stored(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unreadable_events_wait_for_room_among_the_dead_letters() {
    let dir = tempfile::tempdir().unwrap();
    let target = Arc::new(Target::default());
    // Room for two of them.
    let bounds = Bounds { dead_letter_bytes: 8_000, ..Bounds::default() };
    let store = Store::open_with(dir.path(), bounds).unwrap();
    let pipeline = start_over(&[("a", Arc::clone(&target))], dir.path(), store);
    let intake = pipeline.intake(0);
    let begun = begin(&intake).await;
    for number in 0..5 {
        let body = format!("{number}{}", " ".repeat(3_000));
        let poison = Some("it cannot be read".to_owned());
        pages::push_as(&intake, &begun, number, body.into(), poison).await;
    }
    push(&intake, &begun, 5, 0..100).await;
    until("others are not held up", || target.taken.lock().unwrap().len() == 100).await;
    let reader = event_router::state::StoreReader::open(dir.path()).unwrap();
    let stored = || reader.dead_letters(&Default::default()).unwrap().len();
    let letters = pipeline.dead_letters();
    until("two have room", || stored() == 2).await;
    let end = tokio::time::Instant::now() + Duration::from_secs(60);
    let mut removed = 0;
    while removed < 5 {
        assert!(stored() <= 2, "the bound holds");
        removed += letters.remove(&Default::default()).await.unwrap();
        assert!(tokio::time::Instant::now() < end, "{removed} were stored");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(letters);
    assert!(drained(pipeline, intake, 30).await.settled);
    assert_eq!(stored(), 0, "each was stored once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_wants_more_free_disk_waits_and_loses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (up, down) = (Arc::new(Target::default()), Arc::new(Target::default()));
    *down.down.lock().unwrap() = true;
    let targets = [("up", Arc::clone(&up)), ("down", Arc::clone(&down))];
    // More than any disk has; then what this one has.
    for floor in [u64::MAX, 0] {
        let store = Store::open(dir.path()).unwrap();
        let pipeline = start_changed(&targets, dir.path(), store, |config| {
            config.processors[1].delivery.overflow.free_disk_floor = floor;
        });
        let intake = pipeline.intake(0);
        let begun = begin(&intake).await;
        // More than the share of one destination, less than the memory holds.
        for page in 0..6 {
            push(&intake, &begun, page, page as i32 * 1_000..(page as i32 + 1) * 1_000).await;
        }
        until("the other one goes on", || up.taken.lock().unwrap().len() == 6_000).await;
        if floor > 0 {
            // All of it is to go to the spool then, so that nothing is left to probe with.
            until("its breaker opened", || down.asked.load(std::sync::atomic::Ordering::Relaxed) >= 10).await;
            let reader = event_router::state::StoreReader::open(dir.path()).unwrap();
            assert!(reader.spools().unwrap().is_empty());
            assert!(!drained(pipeline, intake, 1).await.settled, "it waits");
            *down.down.lock().unwrap() = false;
        } else {
            assert!(drained(pipeline, intake, 30).await.settled);
        }
    }
    for target in [up, down] {
        assert_eq!(*target.taken.lock().unwrap(), (0..6_000).collect::<Vec<_>>());
    }
}
