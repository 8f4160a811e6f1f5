//! Sessions: lost ones are replaced, logins are limited, and a session leaves nothing behind.

use super::fake::Mishap;
use super::*;
use crate::limits::{IDLE_POLL, LOGIN_RETRY};

const CREATE: &str = "CreateCollectorForEvents";

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
    // The collectors exist, but the answers with their names are lost.
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
    // The password changes during a session: one attempt, then a pause.
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

    // A vCenter that does not answer does not delay the shutdown.
    let fake = Fake::new();
    fake.world().history(10);
    let run = Run::start(fake.clone(), settings());
    run.caught_up(MINUTE).await;
    fake.world().latency = 10 * MINUTE;
    let stopping = Instant::now();
    run.stop().await;
    assert!(stopping.elapsed() <= Duration::from_secs(5));
}
