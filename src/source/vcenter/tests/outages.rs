//! A vCenter that is away, or that fails half of the reads.

use super::fake::Sick;
use super::*;

#[tokio::test(start_paused = true)]
async fn reading_resumes_as_soon_as_the_vcenter_is_back() {
    for away in [1, 5, 10, 20, 60, 600] {
        let fake = Fake::new();
        let run = Run::start(fake.clone(), settings());
        fake.world().append();
        run.caught_up(MINUTE).await;
        sleep(Duration::from_secs(100)).await;
        fake.world().away = true;
        sleep(Duration::from_secs(away) / 2).await;
        fake.world().kill_session();
        sleep(Duration::from_secs(away) / 2).await;
        fake.world().away = false;
        fake.world().append();
        let back = Instant::now();
        run.caught_up(MINUTE).await;
        assert!(back.elapsed() <= Duration::from_secs(2), "{:?} after {away} s", back.elapsed());
        run.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn failed_reads_do_not_flood_the_vcenter_with_calls() {
    for sick in [Sick::EverySecond, Sick::AtTheEnd] {
        let fake = Fake::new();
        let run = Run::start(fake.clone(), settings());
        fake.world().append();
        run.caught_up(MINUTE).await;
        sleep(MINUTE).await;
        let calls = |fake: &Fake| fake.world().calls.values().sum::<u64>();
        let (before, collectors) = (calls(&fake), fake.world().calls_of("CreateCollectorForEvents"));
        fake.world().sick = sick;
        for _ in 0..40 {
            fake.world().append();
            let created = Instant::now();
            run.caught_up(Duration::from_secs(3)).await;
            sleep(Duration::from_secs(1).saturating_sub(created.elapsed())).await;
        }
        let (made, collectors) =
            (calls(&fake) - before, fake.world().calls_of("CreateCollectorForEvents") - collectors);
        assert!(
            made <= 40 * 18 && collectors <= 40 * 5,
            "{sick:?}: {made} calls, {collectors} collectors in 40 s"
        );
        // Without events, only the back-off limits the calls.
        sleep(MINUTE).await;
        let before = calls(&fake);
        sleep(MINUTE).await;
        let made = calls(&fake) - before;
        assert!(made <= 60 * 6, "{sick:?}: {made} calls in a minute at rest");
        fake.world().sick = Sick::Never;
        fake.world().append();
        run.caught_up(Duration::from_secs(3)).await;
        run.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_vcenter_that_hangs_is_down_within_40_s_and_stays_so() {
    let fake = Fake::new();
    let run = Run::start(fake.clone(), settings());
    fake.world().append();
    run.caught_up(MINUTE).await;
    sleep(MINUTE).await;
    assert_eq!(run.status.lag(), Some(Duration::ZERO));
    fake.world().frozen = true;
    sleep(Duration::from_secs(40)).await;
    for second in 40..1_200 {
        let state = run.status.state();
        assert!(
            matches!(&state, SourceState::Failed(why) if why.contains("not answered") || why.contains("silent")),
            "{second} s: {state:?}"
        );
        sleep(Duration::from_secs(1)).await;
    }
    assert!(run.status.lag().unwrap() >= Duration::from_secs(1_100), "{:?}", run.status.lag());
    fake.world().frozen = false;
    fake.world().append();
    run.caught_up(2 * MINUTE).await;
    // The latest event is asked for at intervals.
    sleep(MINUTE).await;
    assert!(run.status.lag().unwrap() < MINUTE, "{:?}", run.status.lag());
    run.stop().await;
}
