//! Reading over links that are slow or break.

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
async fn a_slow_link_delivers_what_it_carries() {
    let fake = Fake::new();
    history_of_large_events(&fake, 1_000, Duration::from_millis(10));
    fake.world().link_bytes_per_second = Some(10_000);
    let run = Run::start(fake.clone(), settings());
    let started = Instant::now();
    run.wait(MINUTE / 2, "the first events", |run| run.count() > 0).await;
    run.caught_up(2 * MINUTE).await;
    println!("{:?}, {:?}", started.elapsed(), fake.world().asked);
    // A page takes seconds: what comes at its end does not wait for the next minute.
    let asked = fake.world().asked.clone();
    assert!(asked[3..].iter().all(|events| *events <= 100), "{asked:?}");
    // The link is fast again, and pages are full again.
    fake.world().link_bytes_per_second = None;
    history_of_large_events(&fake, 1_000, Duration::from_micros(1));
    run.caught_up(MINUTE).await;
    run.stop().await;
}

/// A second of events, which a rebuild reads again, takes longer than the link holds.
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

/// Whatever carries the answers breaks all that are large.
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

/// Not even a second of events, which a rebuild reads again, gets through one connection.
#[tokio::test(start_paused = true)]
async fn connections_that_end_sooner_than_a_second_of_events_arrives_are_no_end() {
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
