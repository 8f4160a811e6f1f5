//! Reading after keys have wrapped past int32: by windows of time.

use super::fake::Mishap;
use super::*;
use crate::source::vcenter::Method;

#[tokio::test(start_paused = true)]
async fn reading_continues_after_keys_wrap() {
    let fake = Fake::new();
    fake.world().set_next_key(i32::MAX - 150);
    fake.world().history(100);
    let run = Run::start(fake.clone(), small_pages());
    run.caught_up(MINUTE).await;
    for _ in 0..20 {
        for _ in 0..10 {
            fake.world().append();
            sleep(Duration::from_millis(1)).await;
        }
        sleep(Duration::from_secs(3)).await;
    }
    run.caught_up(MINUTE).await;
    assert!(run.status.calls(Method::QueryEvents) > 0);
    // A burst larger than any single answer.
    for _ in 0..500 {
        fake.world().append();
        sleep(Duration::from_micros(100)).await;
    }
    run.caught_up(MINUTE).await;
    fake.world().go_wrong("QueryEvents", &[Mishap::AnswerLost, Mishap::TimesOut]);
    fake.world().append();
    run.caught_up(3 * MINUTE).await;
    let poison = fake.world().append().key;
    fake.world().events.last_mut().unwrap().poison = true;
    sleep(Duration::from_secs(1)).await;
    fake.world().append();
    run.caught_up(MINUTE).await;
    run.wait(MINUTE, "a dead letter", |run| !run.delivered.lock().unwrap().poisons.is_empty()).await;
    assert!(run.delivered.lock().unwrap().poisons[0].contains(&poison.to_string()));
    // A new session finds out by itself.
    fake.world().kill_session();
    fake.world().append();
    run.caught_up(MINUTE).await;
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_event_hides_no_other_of_the_same_time() {
    let fake = Fake::new();
    fake.world().set_next_key(i32::MIN + 1);
    let run = Run::start(fake.clone(), small_pages());
    sleep(Duration::from_secs(1)).await;
    let now_us = fake.world().vcenter_now_us();
    for i in 0..9 {
        let poison = [2, 8].contains(&i);
        fake.world().append_at(now_us).poison = poison;
    }
    run.caught_up(MINUTE).await;
    run.wait(MINUTE, "two dead letters", |run| run.delivered.lock().unwrap().poisons.len() >= 2).await;
    let keys: Vec<_> = run.delivered.lock().unwrap().keys.iter().map(|(key, _)| *key).collect();
    assert!(keys.is_sorted(), "{keys:?}");
    sleep(10 * MINUTE).await;
    // Only the next sweeps read the undecodable events again.
    assert!(run.status.poisons.load(Relaxed) <= 2 * 4, "{:?}", run.status);
    assert!(run.status.calls(Method::QueryEvents) < 2_000, "{:?}", run.status);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn windows_of_time_do_not_run_ahead_of_the_present() {
    let fake = Fake::new();
    fake.world().set_next_key(i32::MIN + 1);
    fake.world().history(100);
    let run = Run::start(fake.clone(), small_pages());
    run.caught_up(MINUTE).await;
    for i in 0..20_000_u64 {
        fake.world().append();
        // Some answers are late. Then there is more to read than one answer can hold.
        fake.world().latency = Duration::from_millis(if i * 7_919 % 101 < 10 { 150 } else { 2 });
        sleep(Duration::from_millis(1)).await;
    }
    run.caught_up(MINUTE).await;
    let keys: Vec<_> = run.delivered.lock().unwrap().keys.iter().map(|(key, _)| *key).collect();
    let overtaken = keys.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert_eq!(overtaken, 0);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_too_large_answer_is_requested_in_parts() {
    let fake = Fake::new();
    fake.world().set_next_key(i32::MIN + 1);
    fake.world().query_max = 7;
    let run = Run::start(fake.clone(), settings());
    sleep(Duration::from_secs(2)).await;
    for _ in 0..200 {
        fake.world().append();
        sleep(Duration::from_micros(100)).await;
    }
    run.caught_up(MINUTE).await;
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_new_session_resumes_at_the_position() {
    let fake = Fake::new();
    fake.world().set_next_key(i32::MAX - 99);
    let run = Run::start(fake.clone(), settings());
    for _ in 0..130 {
        fake.world().append();
        sleep(Duration::from_secs(10)).await;
    }
    run.caught_up(MINUTE).await;
    let before = run.delivered.lock().unwrap().duplicates;
    fake.world().kill_session();
    fake.world().append();
    run.caught_up(MINUTE).await;
    // The overlap holds about twelve events.
    let again = run.delivered.lock().unwrap().duplicates - before;
    assert!(again < 50, "{again} events were read again");
    run.stop().await;
}

/// The reader of the session has not yet found out that keys are negative.
#[tokio::test(start_paused = true)]
async fn the_first_sweep_of_a_session_reads_by_windows() {
    // Chance decides if the sweep runs before the reader has found out.
    for _ in 0..8 {
        let fake = Fake::new();
        fake.world().set_next_key(i32::MIN + 1);
        let run = Run::start(fake.clone(), settings());
        sleep(Duration::from_secs(1)).await;
        fake.world().append();
        fake.world().append().visible_us += 30_000_000;
        sleep(Duration::from_secs(5)).await;
        fake.world().append();
        sleep(Duration::from_secs(53)).await;
        assert_eq!(run.count(), 2, "the late one is behind what was read");
        // The first sweep is due while there is no session.
        fake.world().latency = Duration::from_secs(1);
        fake.world().kill_session();
        sleep(Duration::from_secs(3)).await;
        fake.world().latency = Duration::from_millis(2);
        run.caught_up(5 * MINUTE).await;
        run.stop().await;
    }
}
