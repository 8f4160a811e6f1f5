//! Undecodable events: each becomes a dead letter, and the events around it are delivered.

use super::*;

const READ: &str = "ReadNextEvents";

async fn check_poison(count: i64, poisoned: &[usize]) {
    let fake = Fake::new();
    {
        let mut world = fake.world();
        world.history(count);
        for at in poisoned {
            world.events[*at].poison = true;
        }
    }
    let run = Run::start(fake.clone(), small_pages());
    run.caught_up(30 * MINUTE).await;
    run.wait(10 * MINUTE, "dead letters", |run| {
        run.delivered.lock().unwrap().poisons.len() >= poisoned.len()
    })
    .await;
    let reads = fake.world().calls_of(READ);
    assert!(reads < 50 + 200 * poisoned.len() as u64, "{reads} reads to find {poisoned:?} of {count}");
    fake.world().append();
    run.caught_up(MINUTE).await;
    {
        let delivered = run.delivered.lock().unwrap();
        assert_eq!(delivered.poisons.len(), poisoned.len(), "each once: {poisoned:?}");
        for at in poisoned {
            let key = format!("<key>{}</kez>", fake.world().events[*at].key);
            assert!(
                delivered
                    .poisons
                    .iter()
                    .any(|raw| raw.contains(&key) && raw.matches("<returnval").count() == 1)
            );
        }
    }
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_undecodable_event_costs_no_other() {
    check_poison(1, &[0]).await;
    check_poison(3, &[0, 1, 2]).await;
    check_poison(125, &[0]).await;
    check_poison(125, &[61]).await;
    check_poison(125, &[124]).await;
    check_poison(125, &[49, 50, 51]).await;
    check_poison(600, &[10, 250, 253, 450, 599]).await;
}

/// After an undecodable event, events that were read before are read again in full pages.
#[tokio::test(start_paused = true)]
async fn an_undecodable_event_that_is_read_again_costs_little() {
    let fake = Fake::new();
    fake.world().history(5_000);
    fake.world().events[300].poison = true;
    let run = Run::start(fake.clone(), small_pages());
    run.caught_up(MINUTE).await;
    let before = fake.world().calls_of(READ);
    // An unreadable stretch leads to a new collector, which reads all events again.
    for i in 0..510 {
        fake.world().append().readable = i >= 500;
        sleep(Duration::from_millis(1)).await;
    }
    run.caught_up(MINUTE).await;
    let reads = fake.world().calls_of(READ) - before;
    assert!(reads < 600, "{reads} reads");
    run.stop().await;
}
