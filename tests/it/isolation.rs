//! Isolation under load: one of two destinations is dead for a while. The tests check the other
//! one, the memory and the spool. (`state::spool` tests that the file of a spool shrinks again,
//! which takes more events than a test of the whole router can have.)

use std::time::Duration;

use crate::common::config::Section;
use crate::common::stack::Stack;
use crate::common::wait_until;
use event_router::state::StoreReader;
use testbed::sink::Behavior;
use testbed::vcenter::{Mix, Options, VCenter};

const LIMIT: Duration = Duration::from_secs(120);
/// Events of 3 KB each: 50 % more than the memory for events holds.
const EVENTS: u64 = 24_000;
const BURST: u64 = 2_000;
/// The memory that the router may use: 100 MB, and a margin for a debug build.
const RSS_KIB_MAX: u64 = 128 << 10;

#[test]
fn a_dead_destination_costs_the_other_nothing_and_gets_everything_in_order_when_it_returns() {
    let options = Options { mix: Mix::LargeTasks, ..Options::default() };
    let stack = Stack::new(options, ["batched", "batched"]);
    let (dead, alive) = (&stack.targets[0], &stack.targets[1]);
    let router = stack.router();
    let data = stack.folder.path().join("data");
    stack.vcenter.append(BURST);
    dead.wait_for(BURST, LIMIT);
    stack.runtime.block_on(dead.sink.outage());
    let mut events = BURST;
    while events < EVENTS {
        stack.vcenter.append(BURST);
        events += BURST;
        // The whole burst arrives while nothing of it gets to the dead one: nothing holds it up.
        alive.wait_for(events, LIMIT);
        assert_eq!(dead.tally().unique, BURST);
    }
    let reader = StoreReader::open(&data).unwrap();
    let spooled = || reader.spools().unwrap().values().map(|spool| spool.bytes).sum::<u64>();
    assert!(wait_until(LIMIT, || spooled() > 1 << 20), "more than the memory holds is in the spool");
    stack.runtime.block_on(dead.sink.resume()).unwrap();
    dead.wait_for(EVENTS, LIMIT);
    for target in &stack.targets {
        let report = target.report();
        assert!(report.is_complete(), "{report:?}");
        assert_eq!((report.total.unique, report.total.out_of_order), (EVENTS, 0), "{report:?}");
    }
    assert!(wait_until(LIMIT, || spooled() == 0), "{} bytes are left in the spool", spooled());
    let rss = router.peak_rss_kib();
    assert!(rss < RSS_KIB_MAX, "{rss} KiB");
    eprintln!("peak of the memory: {rss} KiB");
}

/// All events come while the target is gone, and none has come for the other one yet.
#[test]
fn a_destination_that_is_dead_from_the_start_leaves_room_for_the_others() {
    let options = Options { mix: Mix::LargeTasks, ..Options::default() };
    let stack = Stack::new(options, ["batched", "batched"]);
    let (dead, alive) = (&stack.targets[0], &stack.targets[1]);
    stack.runtime.block_on(dead.sink.outage());
    let quiet = stack.runtime.block_on(async {
        let quiet = VCenter::start(Options::default()).await.unwrap();
        alive.verifier.watch(&quiet);
        quiet
    });
    let Options { user, password, .. } = Options::default();
    let config = stack
        .config()
        .source(Section::vcenter("quiet", &quiet.url(), &user, &password))
        .route("busy", &["vc"], &["target-0"])
        .route("quiet", &["quiet"], &["target-1"]);
    let router = stack.start(&config);
    stack.vcenter.append(EVENTS);
    let reader = StoreReader::open(&stack.data()).unwrap();
    let spooled = || reader.spools().unwrap().values().map(|spool| spool.bytes).sum::<u64>();
    assert!(wait_until(LIMIT, || spooled() > 1 << 20), "what the dead one does not take is in its spool");
    for events in 1..=5 {
        quiet.append(1);
        let came = || alive.sink.taken() >= events;
        assert!(wait_until(Duration::from_secs(20), came), "{events}");
    }
    stack.runtime.block_on(dead.sink.resume()).unwrap();
    dead.wait_for(EVENTS, LIMIT);
    drop(router);
}

/// A row of a spool has many events. After a stop in the middle of one the next start does not
/// begin that row again.
#[test]
fn a_stop_while_a_spool_is_drained_repeats_nothing() {
    let options = Options { mix: Mix::LargeTasks, ..Options::default() };
    let stack = Stack::new(
        options,
        [
            "structured".into(),
            Section::from("structured").set("ordering", "entity").set("concurrency", 2),
            "batched".into(),
        ],
    );
    let (slow, alive) = (&stack.targets[..2], &stack.targets[2]);
    slow.iter().for_each(|target| stack.runtime.block_on(target.sink.outage()));
    let events = 6_000;
    let mut router = stack.start(&stack.config().set("memoryMax", "4MiB"));
    stack.vcenter.append(events);
    alive.wait_for(events, LIMIT);
    for target in slow {
        target.sink.set(Behavior::latency(Duration::from_millis(4)));
        stack.runtime.block_on(target.sink.resume()).unwrap();
    }
    for received in [500, 1_200] {
        slow.iter().for_each(|target| target.wait_for(received, LIMIT));
        assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
        assert!(slow.iter().all(|target| target.tally().unique < events), "it was stopped in the midst");
        router.restart();
    }
    for target in slow {
        target.sink.set(Behavior::default());
        target.wait_for(events, LIMIT);
        assert_eq!(target.tally().duplicates, 0, "{:?}", target.report());
    }
}
