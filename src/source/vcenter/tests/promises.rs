//! The promises of the source, one test each.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::fake::Mishap;
use super::*;
use crate::config::EventFilter;
use crate::limits::{IDLE_POLL, LOGIN_RETRY, PAGE_EVENTS_UNSEEN, PAGE_WAIT_MIN, ROOM_WAIT_TOLD};
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

/// Targets that are gone may keep half of the memory; pages of any size have to fit the rest.
#[tokio::test(start_paused = true)]
async fn large_pages_do_not_wait_for_more_memory_than_there_may_be() {
    let fake = Fake::new();
    let run = Run::start(fake.clone(), settings());
    fake.world().append().user_bytes = run.budget.limit() / 8 * 5;
    run.caught_up(MINUTE).await;
    run.wait(MINUTE, "at rest", |run| run.budget.used() == 0).await;
    let _gone = run.budget.take(run.budget.limit() / 2);
    fake.world().append();
    run.caught_up(MINUTE).await;
    run.stop().await;
}

/// The reservation for a page of unknown size has to suffice, however many sources start at once.
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
async fn a_start_at_now_reads_nothing_older_whatever_goes_wrong() {
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
async fn what_happens_while_functions_are_not_known_yet_is_read_when_they_are() {
    let fake = Fake::new();
    fake.world().history(20);
    let (known, ready) = tokio::sync::oneshot::channel::<()>();
    let settings = Vcenter { start_at: StartAt::Now, ..settings() };
    let run = Run::start_when(fake.clone(), settings, async move { drop(ready.await) });
    // The position is that of the start, not of the moment when they are known.
    sleep(MINUTE).await;
    let key = fake.world().append().key;
    // Longer than a session lives without being kept alive, and a session that ends is not the end.
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
async fn a_page_that_hangs_delays_what_is_behind_it_by_seconds() {
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
        // The first, one in the middle, two in a row.
        fake.world().go_wrong(READ, &[mishap]);
        let run = Run::start(fake.clone(), small_pages());
        run.wait(3 * MINUTE, "some", |run| run.count() >= 400).await;
        fake.world().go_wrong(READ, &[mishap, mishap]);
        run.caught_up(10 * MINUTE).await;
        run.wait(5 * MINUTE, "idle", |run| run.status.state() == SourceState::Waiting).await;
        // And of the one event after idle.
        fake.world().append();
        fake.world().go_wrong(READ, &[mishap]);
        run.caught_up(3 * MINUTE).await;
        run.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_every_few_pages_still_gets_there() {
    // 100 s of history, 10 events a second: the overlap of two minutes is all of it.
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
    // 20 pages are all of it, every third read fails, and what is new is read twice at most.
    let reads = fake.world().calls_of(READ);
    assert!(reads < 100, "{reads} reads");
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_killed_session_and_a_destroyed_collector_are_replaced() {
    let fake = Fake::new();
    fake.world().history(3_000);
    let run = Run::start(fake.clone(), settings());
    run.wait(MINUTE, "some", |run| run.count() >= 1_000).await;
    fake.world().kill_session();
    run.caught_up(MINUTE).await;
    for _ in 0..3 {
        sleep(MINUTE).await;
        fake.world().destroy_collectors();
        fake.world().append();
        run.caught_up(2 * IDLE_POLL).await;
    }
    sleep(MINUTE).await;
    fake.world().kill_session();
    fake.world().append();
    run.caught_up(5 * IDLE_POLL).await;
    assert_eq!(run.status.relogins.load(Relaxed), 2);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn leaked_collectors_end_with_a_new_session() {
    let fake = Fake::new();
    fake.world().history(10);
    fake.world().collectors_max = 4;
    // Collectors that exist and whose names never arrived.
    fake.world().go_wrong(CREATE, &[Mishap::AnswerLost; 4]);
    let run = Run::start(fake.clone(), settings());
    run.caught_up(5 * MINUTE).await;
    assert!(run.status.relogins.load(Relaxed) >= 1);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_vcenter_that_is_away_for_an_hour_is_tried_without_end() {
    let fake = Fake::new();
    fake.world().away = true;
    let run = Run::start(fake.clone(), settings());
    run.wait(MINUTE, "the first attempt", |run| run.status.first_attempt_done()).await;
    assert!(matches!(run.status.state(), SourceState::Failed(text) if text.contains("refused")));
    sleep(60 * MINUTE).await;
    let tries = fake.world().calls_of("open");
    assert!((3_600..=7_300).contains(&tries), "{tries} tries an hour: one a second");
    fake.world().away = false;
    fake.world().append();
    run.caught_up(Duration::from_secs(2)).await;
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn no_account_is_locked_by_retries() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "wrong\n").unwrap();
    let mut with_file = settings();
    with_file.password = Secret::file(&file);
    let fake = Fake::new();
    let run = Run::start(fake.clone(), with_file);
    sleep(60 * MINUTE).await;
    {
        let world = fake.world();
        assert_eq!(world.logins.len(), 12, "one in five minutes");
        assert!(world.logins.windows(2).all(|pair| pair[1].0 - pair[0].0 >= LOGIN_RETRY));
    }
    assert!(
        matches!(run.status.state(), SourceState::Failed(text) if text.contains("user `user`") && !text.contains("wrong"))
    );
    std::fs::write(&file, "right\n").unwrap();
    fake.world().append();
    run.caught_up(Duration::from_secs(10)).await;
    // A password that is changed under a running session: again one try, then a rest.
    fake.world().password = "rotated".to_string();
    fake.world().kill_session();
    let before = fake.world().logins.len();
    sleep(4 * MINUTE).await;
    assert_eq!(fake.world().logins.len(), before + 1);
    std::fs::write(&file, "rotated\n").unwrap();
    fake.world().append();
    run.caught_up(Duration::from_secs(10)).await;
    run.stop().await;
}

async fn check_poison(count: i64, poisoned: &[usize]) {
    let fake = Fake::new();
    {
        let mut world = fake.world();
        world.history(count);
        for at in poisoned {
            world.events[*at].poison = true;
        }
    }
    let run = Run::start(fake.clone(), small_pages());
    run.caught_up(30 * MINUTE).await;
    run.wait(10 * MINUTE, "dead letters", |run| {
        run.delivered.lock().unwrap().poisons.len() >= poisoned.len()
    })
    .await;
    let reads = fake.world().calls_of(READ);
    assert!(reads < 50 + 200 * poisoned.len() as u64, "{reads} reads to find {poisoned:?} of {count}");
    fake.world().append();
    run.caught_up(MINUTE).await;
    {
        let delivered = run.delivered.lock().unwrap();
        assert_eq!(delivered.poisons.len(), poisoned.len(), "each once: {poisoned:?}");
        for at in poisoned {
            let key = format!("<key>{}</kez>", fake.world().events[*at].key);
            assert!(
                delivered
                    .poisons
                    .iter()
                    .any(|raw| raw.contains(&key) && raw.matches("<returnval").count() == 1)
            );
        }
    }
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_event_costs_no_other() {
    check_poison(1, &[0]).await;
    check_poison(3, &[0, 1, 2]).await;
    check_poison(125, &[0]).await;
    check_poison(125, &[61]).await;
    check_poison(125, &[124]).await;
    check_poison(125, &[49, 50, 51]).await;
    check_poison(600, &[10, 250, 253, 450, 599]).await;
}

/// Events behind an undecodable event that were read before are read again in whole pages.
#[tokio::test(start_paused = true)]
async fn an_undecodable_event_that_is_met_again_costs_little() {
    let fake = Fake::new();
    fake.world().history(5_000);
    fake.world().events[300].poison = true;
    let run = Run::start(fake.clone(), small_pages());
    run.caught_up(MINUTE).await;
    let before = fake.world().calls_of("ReadNextEvents");
    // A stretch that may not be read: the collector is made anew, and reads all of it again.
    for i in 0..510 {
        fake.world().append().readable = i >= 500;
        sleep(Duration::from_millis(1)).await;
    }
    run.caught_up(MINUTE).await;
    let reads = fake.world().calls_of("ReadNextEvents") - before;
    assert!(reads < 600, "{reads} reads");
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_stretch_that_may_not_be_read_is_stepped_over() {
    for wakes in [true, false] {
        let fake = Fake::new();
        fake.world().wakes = wakes;
        fake.world().history(50);
        let run = Run::start(fake.clone(), small_pages());
        run.caught_up(MINUTE).await;
        for _ in 0..3 {
            for _ in 0..500 {
                fake.world().append().readable = false;
                sleep(Duration::from_millis(50)).await;
            }
            for _ in 0..30 {
                fake.world().append();
                sleep(Duration::from_millis(50)).await;
            }
            run.caught_up(2 * MINUTE).await;
        }
        assert!(run.status.gaps.load(Relaxed) >= 3);
        // Nothing but what may not be read: nothing more to step over once it is behind.
        for _ in 0..200 {
            fake.world().append().readable = false;
        }
        sleep(5 * MINUTE).await;
        let (gaps, calls) = (run.status.gaps.load(Relaxed), fake.world().calls_of(CREATE));
        sleep(10 * MINUTE).await;
        assert_eq!(run.status.gaps.load(Relaxed), gaps);
        assert!(fake.world().calls_of(CREATE) <= calls + 15, "sweeps only");
        fake.world().append();
        run.caught_up(MINUTE).await;
        run.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_busy_vcenter_is_not_held_up_by_what_may_not_be_read() {
    let fake = Fake::new();
    let run = Run::start(fake.clone(), small_pages());
    fake.world().append();
    run.caught_up(MINUTE).await;
    let before = fake.world().calls_of("ReadNextEvents");
    for i in 0..20_000 {
        fake.world().append().readable = !(100..300).contains(&i);
        sleep(Duration::from_millis(1)).await;
    }
    assert!(run.count() > 10_000, "{} delivered", run.count());
    let reads = fake.world().calls_of("ReadNextEvents") - before;
    assert!(reads < 2_500, "{reads} reads");
    run.caught_up(MINUTE).await;
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn what_the_own_filter_leaves_out_is_no_gap() {
    let fake = Fake::new();
    let mut filtered = settings();
    filtered.filter =
        EventFilter { event_types: vec!["VmPoweredOnEvent".to_string()], ..EventFilter::default() };
    let run = Run::start(fake.clone(), filtered);
    fake.world().append();
    run.caught_up(MINUTE).await;
    // To the simulated vCenter what the filter leaves out and what may not be read are the same.
    for _ in 0..60 {
        fake.world().append().readable = false;
        sleep(Duration::from_secs(10)).await;
    }
    assert_eq!(run.status.gaps.load(Relaxed), 0);
    assert_eq!(run.status.rebuilds.load(Relaxed), 0);
    fake.world().append();
    run.caught_up(IDLE_POLL).await;
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
async fn another_vcenter_at_the_address_is_not_read() {
    let fake = Fake::new();
    fake.world().append();
    let run = Run::start(fake.clone(), settings());
    run.caught_up(MINUTE).await;
    fake.world().instance = uuid::Uuid::from_u128(8);
    fake.world().kill_session();
    fake.world().append();
    sleep(5 * MINUTE).await;
    assert_eq!(run.count(), 1);
    assert!(matches!(run.status.state(), SourceState::Failed(text) if text.contains("instanceUuid")));
    fake.world().instance = fake::INSTANCE;
    run.caught_up(2 * MINUTE).await;
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
    // Long enough for the clock to be asked again.
    sleep(6 * MINUTE).await;
    fake.world().append();
    fake.world().destroy_collectors();
    run.caught_up(2 * MINUTE).await;
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn shutdown_leaves_nothing_behind() {
    let fake = Fake::new();
    fake.world().history(10);
    let run = Run::start(fake.clone(), settings());
    run.caught_up(MINUTE).await;
    run.wait(MINUTE, "idle", |run| run.status.state() == SourceState::Waiting).await;
    sleep(Duration::from_secs(5)).await;
    assert_eq!(fake.world().open_collectors(), 2, "the reader's and the waker's");
    run.stop().await;
    assert!(fake.world().logged_out);
    assert_eq!(fake.world().open_collectors(), 0);

    // A vCenter that does not answer does not hold the shutdown up.
    let fake = Fake::new();
    fake.world().history(10);
    let run = Run::start(fake.clone(), settings());
    run.caught_up(MINUTE).await;
    fake.world().latency = 10 * MINUTE;
    let stopping = Instant::now();
    run.stop().await;
    assert!(stopping.elapsed() <= Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn whatever_goes_wrong_in_whatever_order_nothing_is_lost() {
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
        // Leaked collectors count.
        fake.world().collectors_peak = 0;
        run.stop().await;
    }
}
