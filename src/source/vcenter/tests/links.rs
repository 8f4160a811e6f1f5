//! Reading over connections that are slow or break.

use super::*;

/// `count` events of about 1 KB, one every `spacing`, up to now.
fn history_of_large_events(fake: &Fake, count: i64, spacing: Duration) {
    let mut world = fake.world();
    let now_us = world.vcenter_now_us();
    for back in (0..count).rev() {
        world.append_at(now_us - spacing.as_micros() as i64 * (back + 1)).user_bytes = 850;
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_link_delivers_at_its_own_rate() {
    let fake = Fake::new();
    history_of_large_events(&fake, 1_000, Duration::from_millis(10));
    fake.world().link_bytes_per_second = Some(10_000);
    let run = Run::start(fake.clone(), settings());
    let started = Instant::now();
    run.wait(MINUTE / 2, "the first events", |run| run.count() > 0).await;
    run.caught_up(2 * MINUTE).await;
    println!("{:?}, {:?}", started.elapsed(), fake.world().asked);
    // Pages are small, so that each takes seconds.
    let asked = fake.world().asked.clone();
    assert!(asked[3..].iter().all(|events| *events <= 100), "{asked:?}");
    // On a fast link, pages are full again.
    fake.world().link_bytes_per_second = None;
    history_of_large_events(&fake, 1_000, Duration::from_micros(1));
    run.caught_up(MINUTE).await;
    run.stop().await;
}

/// A rebuild reads a second of events again, which takes longer than the link holds.
#[tokio::test(start_paused = true)]
async fn a_slow_link_that_breaks_every_few_seconds_still_delivers() {
    let fake = Fake::new();
    history_of_large_events(&fake, 1_000, Duration::from_millis(10));
    {
        let mut world = fake.world();
        world.link_bytes_per_second = Some(20_000);
        world.link_breaks_after = Duration::from_secs(3);
        world.link_holds = 4;
    }
    let run = Run::start(fake.clone(), settings());
    let started = Instant::now();
    run.caught_up(4 * MINUTE).await;
    println!("{:?}, {:?}", started.elapsed(), fake.world().asked);
    run.stop().await;
}

/// A middlebox breaks all large answers.
#[tokio::test(start_paused = true)]
async fn a_link_that_breaks_large_answers_is_read_in_small_ones() {
    let fake = Fake::new();
    history_of_large_events(&fake, 1_000, Duration::from_millis(10));
    {
        let mut world = fake.world();
        world.link_bytes_per_second = Some(100_000);
        world.link_breaks_after = Duration::from_millis(200);
    }
    let run = Run::start(fake.clone(), settings());
    run.caught_up(MINUTE).await;
    run.stop().await;
}

/// A connection cannot even carry the second of events that a rebuild reads again.
#[tokio::test(start_paused = true)]
async fn short_lived_connections_do_not_stop_reading() {
    let fake = Fake::new();
    history_of_large_events(&fake, 500, Duration::from_millis(2));
    {
        let mut world = fake.world();
        world.link_bytes_per_second = Some(50_000);
        world.link_life = Duration::from_secs(2);
    }
    let run = Run::start(fake.clone(), settings());
    run.caught_up(2 * MINUTE).await;
    println!("{:?}", fake.world().asked);
    run.stop().await;
}
