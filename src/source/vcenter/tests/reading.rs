//! Reading events: every event is read, once and soon, through lost answers, restores and clocks
//! that are set.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::fake::Mishap;
use super::*;
use crate::limits::{IDLE_POLL, PAGE_EVENTS_UNSEEN, PAGE_WAIT_MIN, ROOM_WAIT_TOLD};
use vsphere::api::FaultKind;

const READ: &str = "ReadNextEvents";
const CREATE: &str = "CreateCollectorForEvents";

#[tokio::test(start_paused = true)]
async fn history_is_read_and_the_first_event_after_idle_at_once() {
    let fake = Fake::new();
    fake.world().history(2_500);
    let run = Run::start(fake.clone(), settings());
    run.caught_up(MINUTE).await;
    run.wait(MINUTE, "idle", |run| run.status.state() == SourceState::Waiting).await;
    for _ in 0..5 {
        sleep(Duration::from_secs(7)).await;
        fake.world().append();
        let created = Instant::now();
        run.caught_up(Duration::from_millis(100)).await;
        assert!(created.elapsed() < IDLE_POLL / 10);
    }
    assert_eq!(run.delivered.lock().unwrap().duplicates, 0, "nothing was read twice");
    assert_eq!(fake.world().calls_of(CREATE), 1);
    assert!(run.status.lag().is_some());
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn without_a_waker_reading_goes_on() {
    let fake = Fake::new();
    {
        let mut world = fake.world();
        (world.wakes, world.tells_latest) = (false, false);
    }
    let run = Run::start(fake.clone(), settings());
    run.wait(MINUTE, "idle", |run| run.status.state() == SourceState::Waiting).await;
    fake.world().append();
    run.caught_up(2 * IDLE_POLL).await;
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_waits_for_memory_says_so() {
    let fake = Fake::new();
    fake.world().history(100);
    let run = Run::start(fake.clone(), settings());
    run.caught_up(MINUTE).await;
    assert!(!run.status.is_held_up());
    let all = run.budget.reserve(run.budget.limit()).await;
    fake.world().append();
    run.wait(2 * ROOM_WAIT_TOLD + IDLE_POLL, "held up", |run| run.status.is_held_up()).await;
    assert_eq!(run.count(), 100);
    drop(all);
    run.caught_up(MINUTE).await;
    assert!(!run.status.is_held_up());
    run.stop().await;
}

/// Events for unavailable targets may occupy half of the memory. Pages of any size must fit the
/// rest.
#[tokio::test(start_paused = true)]
async fn large_pages_do_not_wait_for_memory_that_stays_occupied() {
    let fake = Fake::new();
    let run = Run::start(fake.clone(), settings());
    {
        let mut world = fake.world();
        (0..5).for_each(|_| world.append().user_bytes = run.budget.limit() / 8);
    }
    run.caught_up(MINUTE).await;
    run.wait(MINUTE, "at rest", |run| run.budget.used() == 0).await;
    let _gone = run.budget.take(run.budget.limit() / 2);
    fake.world().append();
    run.caught_up(MINUTE).await;
    run.stop().await;
}

/// The reservation for a page of unknown size must suffice, even if many sources start at once.
#[tokio::test(start_paused = true)]
async fn a_first_page_is_a_small_one() {
    let fake = Fake::new();
    fake.world().history(3_000);
    let run = Run::start(fake.clone(), settings());
    run.caught_up(MINUTE).await;
    let few = PAGE_EVENTS_UNSEEN as usize;
    assert_eq!(fake.world().asked[..4], [few, 1_000, 1_000, 1_000]);
    run.wait(MINUTE, "idle", |run| run.status.state() == SourceState::Waiting).await;
    for _ in 0..3 {
        fake.world().append();
        run.caught_up(MINUTE).await;
    }
    fake.world().asked.clear();
    fake.world().append();
    run.caught_up(MINUTE).await;
    assert_eq!(fake.world().asked[0], few);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_start_at_now_reads_nothing_older_after_an_error() {
    let fake = Fake::new();
    fake.world().clock_ahead_us = 3_600_000_000;
    fake.world().history(100);
    let mut now = settings();
    now.start_at = StartAt::Now;
    let run = Run::start(fake.clone(), now);
    run.wait(MINUTE, "idle", |run| run.status.state() == SourceState::Waiting).await;
    fake.world().go_wrong(READ, &[Mishap::AnswerLost]);
    let key = fake.world().append().key;
    run.wait(MINUTE, "the new event", |run| run.count() == 1).await;
    sleep(10 * MINUTE).await;
    assert_eq!(run.delivered.lock().unwrap().keys[0].0, key);
    assert_eq!(run.count(), 1);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn events_before_the_functions_are_known_are_read_afterwards() {
    let fake = Fake::new();
    fake.world().history(20);
    let (known, ready) = tokio::sync::oneshot::channel::<()>();
    let settings = Vcenter { start_at: StartAt::Now, ..settings() };
    let run = Run::start_when(fake.clone(), settings, async move { drop(ready.await) });
    // The position is set at the start, not when the functions are known.
    sleep(MINUTE).await;
    let key = fake.world().append().key;
    // Longer than the idle time-out of a session. Then the session is lost.
    sleep(60 * MINUTE).await;
    fake.world().kill_session();
    sleep(MINUTE).await;
    assert_eq!((run.count(), fake.world().calls_of(READ)), (0, 0));
    known.send(()).unwrap();
    run.wait(MINUTE, "the event of before", |run| run.count() == 1).await;
    assert_eq!(run.delivered.lock().unwrap().keys[0].0, key);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_hung_page_delays_later_events_by_seconds() {
    let fake = Fake::new();
    fake.world().history(1_000);
    let run = Run::start(fake.clone(), small_pages());
    run.caught_up(MINUTE).await;
    fake.world().go_wrong(READ, &[Mishap::TimesOut]);
    fake.world().append();
    run.caught_up(PAGE_WAIT_MIN + Duration::from_secs(2)).await;
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_loses_nothing() {
    for mishap in [Mishap::AnswerLost, Mishap::TimesOut, Mishap::BadGateway, Mishap::NoConnection] {
        let fake = Fake::new();
        fake.world().history(1_000);
        // Lose the first answer, then two in a row in the middle.
        fake.world().go_wrong(READ, &[mishap]);
        let run = Run::start(fake.clone(), small_pages());
        run.wait(3 * MINUTE, "some", |run| run.count() >= 400).await;
        fake.world().go_wrong(READ, &[mishap, mishap]);
        run.caught_up(10 * MINUTE).await;
        run.wait(5 * MINUTE, "idle", |run| run.status.state() == SourceState::Waiting).await;
        // Lose the answer with the first event after idle.
        fake.world().append();
        fake.world().go_wrong(READ, &[mishap]);
        run.caught_up(3 * MINUTE).await;
        run.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn reading_completes_over_a_connection_that_breaks_every_few_pages() {
    // 100 s of history with 10 events per second. The overlap of two minutes covers all of it.
    let fake = Fake::new();
    let now_us = fake.world().now_us();
    for tenth in 0..1_000 {
        fake.world().append_at(now_us - 100_000_000 + 100_000 * tenth);
    }
    let run = Run::start(fake.clone(), small_pages());
    let breaking = tokio::spawn({
        let fake = fake.clone();
        async move {
            loop {
                let reads = fake.world().calls_of(READ);
                while fake.world().calls_of(READ) < reads + 3 {
                    sleep(Duration::from_millis(1)).await;
                }
                fake.world().go_wrong(READ, &[Mishap::AnswerLost]);
            }
        }
    });
    run.caught_up(60 * MINUTE).await;
    breaking.abort();
    // There are 20 pages, every third read fails, and each event is read at most twice.
    let reads = fake.world().calls_of(READ);
    assert!(reads < 100, "{reads} reads");
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_restored_vcenter_starts_its_keys_again() {
    let fake = Fake::new();
    fake.world().set_next_key(500_000);
    fake.world().history(1_000);
    let run = Run::start(fake.clone(), settings());
    run.caught_up(MINUTE).await;
    sleep(MINUTE).await;
    fake.world().set_next_key(1_000);
    for _ in 0..50 {
        fake.world().append();
        sleep(Duration::from_millis(100)).await;
    }
    run.caught_up(MINUTE).await;
    for _ in 0..50 {
        fake.world().append();
        sleep(Duration::from_millis(100)).await;
    }
    run.caught_up(Duration::from_secs(2)).await;
    assert_eq!(run.status.restores.load(Relaxed), 1);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_loses_nothing() {
    let fake = Fake::new();
    fake.world().clock_ahead_us = 3_600_000_000;
    let run = Run::start(fake.clone(), settings());
    fake.world().append();
    run.caught_up(MINUTE).await;
    fake.world().clock_ahead_us = 0;
    // Long enough for the clock to be read again.
    sleep(6 * MINUTE).await;
    fake.world().append();
    fake.world().destroy_collectors();
    run.caught_up(2 * MINUTE).await;
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn random_faults_lose_no_event() {
    for seed in 0..15 {
        let mut random = StdRng::seed_from_u64(seed);
        let fake = Fake::new();
        fake.world().history(random.random_range(0..300));
        let mut settings = settings();
        settings.page_events = [1_000, 50, 7][random.random_range(0..3)];
        let run = Run::start(fake.clone(), settings);
        for _ in 0..40 {
            let mishaps = [
                Mishap::AnswerLost,
                Mishap::TimesOut,
                Mishap::BadGateway,
                Mishap::NoConnection,
                Mishap::Fault(FaultKind::Other),
                Mishap::Fault(FaultKind::NotAuthenticated),
            ];
            let methods = [
                READ,
                READ,
                READ,
                CREATE,
                "DestroyCollector",
                "latestEvent",
                "CreateFilter",
                "WaitForUpdatesEx",
                "CurrentTime",
                "open",
                "Login",
            ];
            {
                let mut world = fake.world();
                match random.random_range(0..6) {
                    0 => world.kill_session(),
                    1 => world.destroy_collectors(),
                    2 => world.append().visible_us += random.random_range(0..60_000_000),
                    3 => world.append().poison = true,
                    _ => {
                        let method = methods[random.random_range(0..methods.len())];
                        world.go_wrong(method, &[mishaps[random.random_range(0..mishaps.len())]]);
                    }
                }
                for _ in 0..random.random_range(0..20) {
                    world.append();
                }
            }
            sleep(Duration::from_millis(random.random_range(0..4_000))).await;
        }
        run.caught_up(60 * MINUTE).await;
        // Leaked collectors would count here.
        fake.world().collectors_peak = 0;
        run.stop().await;
    }
}
