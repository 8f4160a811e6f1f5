//! Events that are read again are not delivered again.

use super::*;

/// The router or its vCenter was down for an hour and a half.
#[tokio::test(start_paused = true)]
async fn a_page_that_is_read_again_after_a_long_gap_repeats_nothing() {
    for unsendable in [false, true] {
        let fake = Fake::new();
        let long_ago_us = fake.world().now_us() - 5_400_000_000;
        for number in 0..120 {
            fake.world().append_at(long_ago_us + 100_000 * number);
        }
        fake.world().history(60);
        let run = Run::start(fake.clone(), small_pages());
        run.caught_up(MINUTE).await;
        // After a sweep, the events before the gap are forgotten.
        sleep(3 * MINUTE).await;
        fake.world().append();
        run.caught_up(MINUTE).await;
        sleep(MINUTE).await;
        let now_us = fake.world().now_us();
        for number in 0..10 {
            let mut world = fake.world();
            let event = world.append_at(now_us - 10_000 + 1_000 * number);
            (event.unsendable, event.poison) = (number == 5 && unsendable, number == 5 && !unsendable);
        }
        run.caught_up(5 * MINUTE).await;
        sleep(5 * MINUTE).await;
        run.caught_up(MINUTE).await;
        run.stop().await;
    }
}

/// The halves of one page span hours.
#[tokio::test(start_paused = true)]
async fn halves_of_a_page_of_a_quiet_vcenter_repeat_nothing() {
    let fake = Fake::new();
    let now_us = fake.world().now_us();
    for number in 0..100 {
        fake.world().append_at(now_us - 300_000_000 * (100 - number)).poison = number == 30 || number == 77;
    }
    let run = Run::start(fake.clone(), small_pages());
    run.caught_up(5 * MINUTE).await;
    sleep(5 * MINUTE).await;
    run.caught_up(MINUTE).await;
    assert_eq!(run.delivered.lock().unwrap().poisons.len(), 2);
    run.stop().await;
}
