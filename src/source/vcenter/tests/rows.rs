//! Rows that vCenter cannot send: it refuses every page with such a row.

use super::*;

/// Reads a history with unsendable rows at these places, some of them at the same time as their
/// neighbours.
async fn check(count: i64, rows: &[usize], refusals_move: bool) {
    let fake = Fake::new();
    {
        let mut world = fake.world();
        world.refusals_move = refusals_move;
        world.history(count);
        for at in rows {
            world.events[*at].unsendable = true;
        }
    }
    let run = Run::start(fake.clone(), small_pages());
    run.caught_up(20 * MINUTE).await;
    // New events are not delayed. Sweeps meet the rows again and do not report them again.
    fake.world().append();
    run.caught_up(MINUTE).await;
    sleep(5 * MINUTE).await;
    fake.world().append();
    run.caught_up(Duration::from_secs(1)).await;
    {
        let stepped = run.status.rows.load(Relaxed);
        let delivered = run.delivered.lock().unwrap();
        assert!((1..=rows.len()).contains(&delivered.poisons.len()), "{rows:?}: {:?}", delivered.poisons);
        assert_eq!(stepped, delivered.poisons.len() as u64, "{rows:?}");
        for poison in &delivered.poisons {
            assert!(poison.contains("<afterKey>"), "{poison}");
        }
    }
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_row_that_vcenter_cannot_send_costs_no_other_event() {
    for refusals_move in [false, true] {
        check(1, &[0], refusals_move).await;
        check(125, &[0], refusals_move).await;
        check(125, &[61], refusals_move).await;
        check(125, &[124], refusals_move).await;
        check(125, &[49, 50, 51], refusals_move).await;
        check(300, &[10, 253, 299], refusals_move).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_row_between_new_events_is_stepped_over_in_seconds() {
    for refusals_move in [false, true] {
        let fake = Fake::new();
        fake.world().refusals_move = refusals_move;
        fake.world().history(100);
        let run = Run::start(fake.clone(), settings());
        run.caught_up(MINUTE).await;
        sleep(MINUTE).await;
        for number in 0..50 {
            fake.world().append().unsendable = number == 20;
            sleep(Duration::from_millis(300)).await;
        }
        run.caught_up(MINUTE).await;
        assert_eq!(run.status.rows.load(Relaxed), 1);
        run.stop().await;
    }
}

/// A vCenter that is starting may refuse every read for minutes.
#[tokio::test(start_paused = true)]
async fn nothing_is_stepped_over_while_every_read_is_refused() {
    let fake = Fake::new();
    fake.world().history(200);
    let run = Run::start(fake.clone(), small_pages());
    run.caught_up(MINUTE).await;
    sleep(5 * MINUTE).await;
    for _ in 0..20 {
        fake.world().append();
    }
    for refused in [5, 30, 300] {
        fake.world().refuses = true;
        let calls = fake.world().calls_of("ReadNextEvents");
        fake.world().append();
        sleep(Duration::from_secs(refused)).await;
        let calls = fake.world().calls_of("ReadNextEvents") - calls;
        assert!(calls < 40 + 3 * refused, "{calls} reads in {refused} s");
        fake.world().refuses = false;
        run.caught_up(2 * MINUTE).await;
    }
    assert_eq!(run.status.rows.load(Relaxed), 0);
    assert_eq!(run.delivered.lock().unwrap().poisons.len(), 0);
    run.stop().await;
}
