//! The number of calls that a source makes.

use super::*;

/// 600 events, which are 12 small pages.
const EVENTS: i64 = 600;

async fn time_to_read(settings: Vcenter) -> Duration {
    let fake = Fake::new();
    fake.world().history(EVENTS);
    let start = Instant::now();
    let run = Run::start(fake, settings);
    run.caught_up(MINUTE).await;
    let took = start.elapsed();
    run.stop().await;
    took
}

#[tokio::test(start_paused = true)]
async fn max_calls_per_second_slows_a_backlog_and_its_default_does_not() {
    let by_default = time_to_read(small_pages()).await;
    let never_reached = time_to_read(Vcenter { max_calls_per_second: 1_000_000, ..small_pages() }).await;
    assert_eq!(by_default, never_reached);
    let few = time_to_read(Vcenter { max_calls_per_second: 5, ..small_pages() }).await;
    // After the login, 12 pages take 11 slots of 200 ms.
    assert!(few >= Duration::from_millis(2_200) && few > 10 * by_default, "{few:?} {by_default:?}");
}
