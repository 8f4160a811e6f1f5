//! The sweep: events that appear late are delivered.

use super::fake::Mishap;
use super::*;
use crate::source::vcenter::settings::Sweep;

#[tokio::test(start_paused = true)]
async fn the_sweep_finds_a_late_event() {
    let fake = Fake::new();
    let run = Run::start(fake.clone(), settings());
    for round in 0..5 {
        {
            let mut world = fake.world();
            world.append();
            let late = world.append();
            late.visible_us += 20_000_000;
            world.append();
        }
        sleep(Duration::from_secs(15)).await;
        assert_eq!(run.count(), 3 * round + 2, "the late one is behind the cursor");
        run.caught_up(2 * MINUTE).await;
    }
    sleep(Duration::from_secs(1)).await;
    let sweeps = run.status.sweeps.load(Relaxed);
    assert!(sweeps >= 5);
    sleep(10 * MINUTE).await;
    assert_eq!(run.status.sweeps.load(Relaxed), sweeps, "no key is missing: nothing to sweep for");
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_sweep_passes_unreadable_events() {
    let fake = Fake::new();
    let run = Run::start(fake.clone(), small_pages());
    fake.world().append();
    for _ in 0..300 {
        fake.world().append().readable = false;
        sleep(Duration::from_millis(1)).await;
    }
    {
        let mut world = fake.world();
        world.append();
        world.append().visible_us += 20_000_000;
    }
    sleep(Duration::from_secs(10)).await;
    fake.world().append();
    sleep(Duration::from_secs(5)).await;
    assert_eq!(run.count(), 3, "the late one is behind the cursor");
    run.caught_up(2 * MINUTE).await;
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_sweep_finds_a_late_event_after_a_jump_in_time() {
    let fake = Fake::new();
    let run = Run::start(fake.clone(), settings());
    {
        let mut world = fake.world();
        world.append();
        world.append().visible_us += 50_000_000;
        world.append();
    }
    // No rebuild reaches back to the late event.
    for round in 1..=2 {
        sleep(Duration::from_secs(20)).await;
        fake.world().destroy_collectors();
        fake.world().append();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(run.count(), 2 + round, "the late one is behind the cursor");
    }
    // The vCenter is away for longer than the window, and then has more.
    fake.world().kill_session();
    fake.world().clock_ahead_us = 600_000_000;
    let later_us = fake.world().vcenter_now_us();
    fake.world().append_at(later_us);
    run.caught_up(2 * MINUTE).await;
    sleep(10 * MINUTE).await;
    let sweeps = run.status.sweeps.load(Relaxed);
    sleep(10 * MINUTE).await;
    assert_eq!(run.status.sweeps.load(Relaxed), sweeps, "no event can appear late any more");
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_interrupted_sweep_keeps_its_progress() {
    let fake = Fake::new();
    let mut seldom = small_pages();
    seldom.sweep = Some(Sweep { interval: 20 * MINUTE, window: Duration::from_secs(120) });
    let begun_us = fake.world().vcenter_now_us();
    let run = Run::start(fake.clone(), seldom);
    fake.world().append();
    fake.world().append().visible_us += 10_000_000;
    for _ in 0..20 * 60 * 4 {
        sleep(Duration::from_millis(250)).await;
        fake.world().append();
    }
    let unswept_us = || run.progress.unswept_us.load(Relaxed);
    assert!(unswept_us() <= begun_us, "there was no sweep yet");
    run.wait(MINUTE, "a part of a sweep", |_| unswept_us() > begun_us + 5 * 60_000_000).await;
    assert_eq!(run.status.sweeps.load(Relaxed), 0, "the sweep is not complete");
    fake.world().kill_session();
    run.caught_up(30 * MINUTE).await;
    assert!(unswept_us() > begun_us + 5 * 60_000_000, "the swept part is not swept again");
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn lost_answers_do_not_stop_a_sweep() {
    let fake = Fake::new();
    let run = Run::start(fake.clone(), small_pages());
    let begun_us = fake.world().vcenter_now_us();
    // Four minutes of 200 events per second; one answer in ten is lost.
    fake.world().append();
    fake.world().append().visible_us += 10_000_000;
    for i in 0..4 * 60 * 200 {
        sleep(Duration::from_millis(5)).await;
        let mut world = fake.world();
        world.append();
        if i % 40 == 0 {
            world.go_wrong("ReadNextEvents", &[Mishap::AnswerLost]);
        }
    }
    let unswept_us = run.progress.unswept_us.load(Relaxed);
    assert!(unswept_us > begun_us + 2 * 60_000_000, "{} s are swept", (unswept_us - begun_us) / 1_000_000);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn sweeps_pass_undecodable_events_and_can_be_turned_off() {
    let fake = Fake::new();
    let mut often = settings();
    often.sweep = Some(Sweep { interval: Duration::from_secs(10), window: Duration::from_secs(120) });
    let run = Run::start(fake.clone(), often);
    {
        let mut world = fake.world();
        for _ in 0..20 {
            world.append();
        }
        world.events[7].poison = true;
        world.events[12].visible_us += 15_000_000;
    }
    run.caught_up(2 * MINUTE).await;
    sleep(MINUTE).await;
    assert_eq!(run.delivered.lock().unwrap().poisons.len(), 1);
    run.stop().await;

    let fake = Fake::new();
    let mut never = settings();
    never.sweep = None;
    let run = Run::start(fake.clone(), never);
    fake.world().append();
    fake.world().append().key = 100;
    sleep(10 * MINUTE).await;
    assert_eq!(run.status.sweeps.load(Relaxed), 0);
    run.stop().await;
}

/// The position is ahead of the clock then. The sweep must end all the same.
#[tokio::test(start_paused = true)]
async fn a_sweep_ends_after_the_clock_was_set_back() {
    let fake = Fake::new();
    fake.world().clock_ahead_us = 3_600_000_000;
    let run = Run::start(fake.clone(), settings());
    for _ in 0..3 {
        fake.world().append();
        fake.world().append().visible_us += 5_000_000;
        fake.world().append();
        sleep(Duration::from_secs(20)).await;
    }
    fake.world().clock_ahead_us = 0;
    fake.world().events.iter_mut().for_each(|event| event.visible_us = 0);
    // A new session reads vCenter's clock.
    fake.world().kill_session();
    sleep(Duration::from_secs(1)).await;
    for _ in 0..10 {
        let mut world = fake.world();
        // Keys are missing.
        let next_key = world.append().key + 2;
        world.set_next_key(next_key);
    }
    fake.world().destroy_collectors();
    run.caught_up(2 * MINUTE).await;
    let before = fake.world().calls_of("ReadNextEvents");
    sleep(10 * MINUTE).await;
    let calls = fake.world().calls_of("ReadNextEvents") - before;
    assert!(calls < 1_000, "{calls} in ten minutes without an event");
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_sweep_finds_a_late_event_after_the_routers_clock_was_set() {
    for hours in [-1, 1] {
        let fake = Fake::new();
        let run = Run::start(fake.clone(), settings());
        sleep(Duration::from_secs(1)).await;
        fake.world().router_clock_ahead_us = hours * 3_600_000_000;
        {
            let mut world = fake.world();
            world.append();
            world.append().visible_us += 20_000_000;
            world.append();
        }
        run.caught_up(3 * MINUTE).await;
        run.stop().await;
    }
}
