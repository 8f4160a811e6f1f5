//! Events that the user may not read, or that the configured filter leaves out: they hold up no
//! others.

use super::*;
use crate::limits::IDLE_POLL;
use crate::source::vcenter::settings::EventFilter;

const CREATE: &str = "CreateCollectorForEvents";

#[tokio::test(start_paused = true)]
async fn an_unreadable_stretch_is_stepped_over() {
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
        // A gap at the end is stepped over once.
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
async fn unreadable_events_do_not_hold_up_a_busy_vcenter() {
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
async fn filtered_events_are_no_gap() {
    let fake = Fake::new();
    let mut filtered = settings();
    filtered.filter =
        EventFilter { event_types: vec!["VmPoweredOnEvent".to_string()], ..EventFilter::default() };
    let run = Run::start(fake.clone(), filtered);
    fake.world().append();
    run.caught_up(MINUTE).await;
    // The simulated vCenter treats filtered events like unreadable ones.
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
