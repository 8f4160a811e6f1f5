//! A task of a source that panics leaves its link behind: the numbering of pages, the position and
//! the session. The next task continues with them.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_source_that_is_started_again_at_any_point_loses_and_repeats_nothing() {
    for life_ms in [1, 3, 7, 20, 45, 160] {
        let fake = Fake::new();
        fake.world().history(2_000);
        let lives = vec![Duration::from_millis(life_ms); 30];
        let run = Run::start_in_lives(fake, small_pages(), std::future::ready(()), lives);
        run.caught_up(10 * MINUTE).await;
        run.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_started_again_reads_on_from_its_position() {
    let fake = Fake::new();
    {
        let mut world = fake.world();
        let now_us = world.vcenter_now_us();
        (0..2_000).rev().for_each(|back| {
            world.append_at(now_us - 1_000_000 * (back + 1));
        });
    }
    let lives = vec![4 * MINUTE];
    let run = Run::start_in_lives(fake.clone(), small_pages(), std::future::ready(()), lives);
    run.wait(MINUTE, "all read", |run| run.count() >= 2_000).await;
    let read = run.delivered.lock().unwrap().pages;
    run.wait(5 * MINUTE, "a second login", |run| run.fake.world().logins.len() == 2).await;
    fake.world().append();
    run.caught_up(MINUTE).await;
    let again = run.delivered.lock().unwrap().pages - read;
    assert!(again < read / 2, "{again} pages were read again of {read}");
    run.stop().await;
}
