//! A store without room: events wait, nothing is lost, and no other destination is held up.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::common::pages::{self, begin};
use crate::common::{repeat_until, until};
use crate::pipeline::{Target, drained, push, start_changed, start_over};
use event_router::pipeline::run::Pipeline;
use event_router::source::Intake;
use event_router::state::{Bounds, Store, StoreReader};

/// More than the share of one destination, less than the memory holds.
const STARVED_EVENTS: i32 = 6_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_store_of_dead_letters_loses_nothing() {
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
    let reader = StoreReader::open(dir.path()).unwrap();
    let stored = || reader.dead_letters(&Default::default()).unwrap().len();
    until("some letters fit", || stored() > 5).await;
    *sick.refuses.lock().unwrap() = false;
    // Replays go on, and the events that found no room are tried again at their target.
    let letters = pipeline.dead_letters();
    repeat_until("replays deliver all", async || {
        letters.replay(&Default::default(), None, |_| true).await.unwrap();
        sick.taken.lock().unwrap().len() >= 1_000
    })
    .await;
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
    // Room for two of them: three quarters are common.
    let bounds = Bounds { dead_letter_bytes: 10_000, ..Bounds::default() };
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
    let reader = StoreReader::open(dir.path()).unwrap();
    let stored = || reader.dead_letters(&Default::default()).unwrap().len();
    let letters = pipeline.dead_letters();
    until("two have room", || stored() == 2).await;
    let mut removed = 0;
    repeat_until("all five are stored in turn", async || {
        assert!(stored() <= 2, "the bound holds");
        removed += letters.remove(&Default::default()).await.unwrap();
        removed >= 5
    })
    .await;
    drop(letters);
    assert!(drained(pipeline, intake, 30).await.settled);
    assert_eq!(stored(), 0, "each was stored once");
}

/// A dead destination that may not spool for want of free disk, beside one that is well.
struct Starved {
    up: Arc<Target>,
    down: Arc<Target>,
    dir: tempfile::TempDir,
}

impl Starved {
    fn new() -> Self {
        let (up, down) = (Arc::new(Target::default()), Arc::new(Target::default()));
        *down.down.lock().unwrap() = true;
        Starved { up, down, dir: tempfile::tempdir().unwrap() }
    }

    /// Runs a router whose dead destination wants this much free disk, until the other destination
    /// has all [`STARVED_EVENTS`].
    async fn run(&self, free_disk_floor: u64) -> (Pipeline, Intake) {
        let targets = [("up", Arc::clone(&self.up)), ("down", Arc::clone(&self.down))];
        let store = Store::open(self.dir.path()).unwrap();
        let pipeline = start_changed(&targets, self.dir.path(), store, |config| {
            config.processors[1].delivery.overflow.free_disk_floor = free_disk_floor;
        });
        let intake = pipeline.intake(0);
        let begun = begin(&intake).await;
        for page in 0..STARVED_EVENTS / 1_000 {
            push(&intake, &begun, page as u64, page * 1_000..(page + 1) * 1_000).await;
        }
        let taken = || self.up.taken.lock().unwrap().len() as i32;
        until("the other one goes on", || taken() == STARVED_EVENTS).await;
        (pipeline, intake)
    }

    /// As [`Starved::run`] with more than any disk has, until all events of the dead destination
    /// wait for the spool: nothing is left to probe with.
    async fn run_without_room(&self) -> (Pipeline, Intake) {
        let run = self.run(u64::MAX).await;
        until("its breaker opened", || self.down.asked.load(Relaxed) >= 10).await;
        assert!(self.spools_are_empty());
        run
    }

    fn spools_are_empty(&self) -> bool {
        StoreReader::open(self.dir.path()).unwrap().spools().unwrap().is_empty()
    }

    fn assert_all_came_once_and_in_order(&self) {
        for target in [&self.up, &self.down] {
            assert_eq!(*target.taken.lock().unwrap(), (0..STARVED_EVENTS).collect::<Vec<_>>());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destination_that_wants_more_free_disk_waits_and_loses_nothing() {
    let starved = Starved::new();
    let (pipeline, intake) = starved.run_without_room().await;
    assert!(!drained(pipeline, intake, 1).await.settled, "it waits");
    *starved.down.down.lock().unwrap() = false;
    // Now this disk has room enough.
    let (pipeline, intake) = starved.run(0).await;
    assert!(drained(pipeline, intake, 30).await.settled);
    starved.assert_all_came_once_and_in_order();
}

/// Events that would be spooled and have no room wait for their target alone, not for room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_recovered_target_gets_its_events_on_a_full_disk() {
    let starved = Starved::new();
    let (pipeline, intake) = starved.run_without_room().await;
    *starved.down.down.lock().unwrap() = false;
    until("all has come", || starved.down.taken.lock().unwrap().len() as i32 >= STARVED_EVENTS).await;
    assert!(drained(pipeline, intake, 30).await.settled);
    starved.assert_all_came_once_and_in_order();
    assert!(starved.spools_are_empty());
}
