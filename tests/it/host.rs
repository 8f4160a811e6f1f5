//! Faults of the machine: the router is suspended, the clock jumps, the disk fills, fails, or flips
//! a bit. Nothing is lost. A fault that needs a person is reported with its remedy, which is tried
//! here.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crate::common::config::{RouterConfig, Section};
use crate::common::disk::{EIO, ENOSPC, EROFS};
use crate::common::peer::skip;
use crate::common::router::Router;
use crate::common::small_disk::SmallDisk;
use crate::common::stack::Stack;
use crate::common::{seed, wait_until};
use event_router::state::StoreReader;
use rand::Rng;
use serde_json::json;
use testbed::sink::Behavior;
use testbed::vcenter::{Options, Pace};

const LIMIT: Duration = Duration::from_secs(60);

/// A configuration with frequent checkpoints.
fn busy(stack: &Stack) -> RouterConfig {
    stack.config().set("checkpointInterval", "50ms")
}

fn running(rate: f64) -> Stack {
    Stack::new(Options { pace: Pace::Rate(rate), ..Options::default() }, ["batched"])
}

/// Lets everything arrive; nothing may be missing, changed or overtaken, and at most `duplicates`
/// events may have come twice.
fn judge(stack: &Stack, duplicates: u64) {
    stack.vcenter.set_pace(Pace::Idle);
    for target in &stack.targets {
        target.wait_for(stack.vcenter.produced(), LIMIT);
        let report = target.report();
        assert!(report.is_complete(), "{report:?}");
        assert_eq!(report.total.out_of_order, 0, "{report:?}");
        assert!(report.total.duplicates <= duplicates, "{report:?}");
    }
}

fn more(stack: &Stack, events: u64) {
    stack.targets[0].wait_for(stack.targets[0].tally().unique + events, LIMIT);
}

#[test]
fn a_suspended_router_loses_nothing() {
    let stack = running(1_000.0);
    let mut router = stack.start(&busy(&stack).set_source("vc", "timeouts", json!({"call": "1s"})));
    for _ in 0..2 {
        more(&stack, 500);
        router.signal("STOP");
        // The fault itself: longer than the time-outs of all calls in flight.
        std::thread::sleep(Duration::from_millis(1_500));
        router.signal("CONT");
    }
    more(&stack, 500);
    // The requests that timed out meanwhile: one a stop.
    judge(&stack, 2 * 1_000);
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
}

#[test]
fn a_clock_jump_loses_and_repeats_nothing() {
    let stack = running(1_000.0);
    let Some(disk) = stack.disk() else { return };
    let mut router = stack.start_on(&disk, false, &busy(&stack));
    for hours in [1, -1, -24 * 365, 24 * 365] {
        disk.move_clock(hours * 3_600);
        more(&stack, 300);
        // Lost pages are read again from the position, whatever the clock says.
        stack.vcenter.destroy_collectors();
        more(&stack, 300);
    }
    // A start under a wrong clock works as well.
    disk.move_clock(-3_600);
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
    router.restart();
    let offset = router.metric("event_router_source_clock_offset_seconds", "vc");
    assert!(
        (3_590.0..3_610.0).contains(&offset),
        "the clock is wrong, and the router knows by how much: {offset}"
    );
    more(&stack, 300);
    judge(&stack, 0);
}

/// The router ends by itself with this on stderr. When the disk works again, nothing is lost.
#[track_caller]
fn check_disk_failure(errno: i64, wanted: &[&str]) {
    let stack = running(2_000.0);
    let Some(disk) = stack.disk() else { return };
    let mut router = stack.start_on(&disk, false, &busy(&stack));
    more(&stack, 500);
    disk.fail_at(seed::random().random_range(1..20), errno);
    let status = router.wait(LIMIT);
    let text = router.stderr().text();
    assert_eq!(status.code(), Some(1), "{text}");
    let path = stack.data().join("state.db").display().to_string();
    // SQLite tells a full disk from a failing one where it writes, not where it syncs or cuts.
    let told = wanted.iter().all(|wanted| text.contains(wanted)) || text.contains("check the disk (full");
    assert!(told && text.contains(&path), "neither {wanted:?} nor what to look after in:\n{text}");
    assert!(!text.contains("panicked"), "{text}");
    seed::tried(1, "disk that fails, fills or is read-only");
    disk.fail_at(0, 0);
    router.restart();
    more(&stack, 500);
    // Events that were acknowledged after the last durable checkpoint, until the failure was
    // noticed.
    judge(&stack, 2_000);
}

#[test]
fn a_failing_disk_stops_the_router_and_the_next_start_loses_nothing() {
    check_disk_failure(EIO, &["check the disk"]);
}

#[test]
fn a_full_disk_stops_the_router_and_the_next_start_loses_nothing() {
    check_disk_failure(ENOSPC, &["the disk is full", "free some space"]);
}

#[test]
fn a_read_only_disk_stops_the_router_and_the_next_start_loses_nothing() {
    check_disk_failure(EROFS, &["state.db"]);
}

#[test]
fn a_moved_state_stops_the_router_and_loses_nothing_once_put_back() {
    let stack = running(1_000.0);
    let mut router = stack.start(&busy(&stack));
    more(&stack, 300);
    let away = stack.folder.path().join("away");
    fs::create_dir(&away).unwrap();
    let state = ["state.db", "state.db-wal"].map(|name| {
        let (here, there) = (stack.data().join(name), away.join(name));
        fs::rename(&here, &there).unwrap();
        (here, there)
    });
    let status = router.wait(LIMIT);
    let text = router.stderr().text();
    assert_eq!(status.code(), Some(1), "{text}");
    for wanted in [&*state[0].0.display().to_string(), "moved away or deleted", "put it back"] {
        assert!(text.contains(wanted), "no {wanted:?} in:\n{text}");
    }
    for (here, there) in &state {
        fs::rename(there, here).unwrap();
    }
    router.restart();
    more(&stack, 300);
    judge(&stack, 2_000);
}

#[test]
fn a_disk_full_of_spools_blocks_its_destination_until_there_is_room() {
    // Little more than the floor of free disk (256 MiB).
    let Some(disk) = SmallDisk::mount(257 << 10) else { return skip("the right to mount a tmpfs") };
    let stack = Stack::new(Options::default(), ["batched"; 2]);
    let config = busy(&stack).set("memoryMax", "4MiB").data(disk.path());
    stack.targets[0].sink.set(Behavior::status(503));
    let mut router = stack.start(&config);
    stack.vcenter.append(20_000);
    let is_full = |router: &Router| router.metric("event_router_destination_store_full", "target-0") == 1.0;
    assert!(wait_until(LIMIT, || is_full(&router)), "{}", router.stderr().text());
    let said = wait_until(LIMIT, || router.stderr().contains("free some space"));
    assert!(said, "{}", router.stderr().text());
    assert!(router.running() && stack.targets[1].tally().unique < 20_000, "it waits in vCenter");
    disk.resize(512 << 10);
    // The other target has everything as soon as there is room to spool for the first.
    stack.targets[1].wait_for(20_000, LIMIT);
    assert!(wait_until(LIMIT, || !is_full(&router)));
    assert_eq!(stack.targets[0].tally().unique, 0);
    stack.targets[0].sink.set(Behavior::default());
    judge(&stack, 0);
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
}

fn event_router(stack: &Stack, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_event-router"))
        .args(args)
        .arg("--config")
        .arg(stack.config_file())
        .env_remove("EVENT_ROUTER_CONFIG")
        .output()
        .unwrap()
}

/// A state with a position, dead letters and a spool, of a killed router, and a backup of it.
fn killed_with_all_kinds_of_state() -> (Stack, Router, PathBuf) {
    let refusing = Section::from("batched").set("retry", json!({"blame": {"400": "event"}}));
    let stack = Stack::new(Options::default(), [Section::from("batched"), "batched".into(), refusing]);
    let mut router = stack.start(&stack.config().set("memoryMax", "4MiB").set("checkpointInterval", "20ms"));
    stack.targets[2].sink.set(Behavior::status(400));
    stack.vcenter.append(40);
    stack.targets[0].wait_for(40, LIMIT);
    let letters =
        || StoreReader::open(&stack.data()).unwrap().dead_letters(&Default::default()).unwrap().len();
    assert!(wait_until(LIMIT, || letters() == 40), "{} of 40", letters());
    stack.targets[2].sink.set(Behavior::default());
    stack.targets[1].sink.set(Behavior::status(503));
    stack.vcenter.append(5_000);
    let spooled = || !StoreReader::open(&stack.data()).unwrap().spools().unwrap().is_empty();
    assert!(wait_until(LIMIT, spooled), "{}", router.stderr().text());
    stack.targets[0].wait_for(5_040, LIMIT);
    let backup = stack.folder.path().join("backup.db");
    let made = event_router(&stack, &["backup", backup.to_str().unwrap()]);
    assert!(made.status.success(), "{made:?}");
    router.kill();
    (stack, router, backup)
}

/// With healthy targets everything that vCenter has arrives, with the ids of the first time.
fn recover(stack: &Stack, router: &mut Router) {
    stack.targets.iter().for_each(|target| target.sink.set(Behavior::default()));
    router.restart();
    stack.vcenter.append(100);
    let produced = stack.vcenter.produced();
    let replayed = wait_until(LIMIT, || {
        event_router(stack, &["dlq", "replay", "--all"]).status.success()
            && stack.targets.iter().all(|target| target.tally().unique == produced)
    });
    let reports: Vec<_> = stack.targets.iter().map(|target| target.report().total).collect();
    assert!(replayed, "of {produced}: {reports:?}\n{}", router.stderr().text());
    for target in &stack.targets {
        assert!(target.report().is_complete(), "{:?}", target.report());
    }
}

fn flip(path: &Path, at: usize, bit: u32) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1 << bit;
    fs::write(path, bytes).unwrap();
}

/// The start fails and names the problem, the file and the remedy.
fn check_refused(stack: &Stack) {
    let config = fs::read_to_string(stack.config_file()).unwrap();
    let mut router = Router::spawn(stack.folder.path(), stack.admin, &config);
    let status = router.wait(LIMIT);
    let text = router.stderr().text();
    assert_eq!(status.code(), Some(1), "{text}");
    let path = stack.data().join("state.db").display().to_string();
    for wanted in [&*path, "is damaged", "move the file away", "`event-router restore`", "`startAt`"] {
        assert!(text.contains(wanted), "no {wanted:?} in:\n{text}");
    }
    assert!(!text.contains("panicked"), "{text}");
}

/// Moves the damaged file away, as the message says.
fn move_away(stack: &Stack) {
    for name in ["state.db", "state.db-wal"] {
        let path = stack.data().join(name);
        if path.exists() {
            fs::rename(&path, path.with_extension("damaged")).unwrap();
        }
    }
}

/// Damages a byte of the first page of the state, which is one file without a log then.
fn damage(stack: &Stack) {
    let state = stack.data().join("state.db");
    // As after a clean stop.
    drop(event_router::state::Store::open(&stack.data()).unwrap());
    assert!(!stack.data().join("state.db-wal").exists());
    // The number of cells of the schema's page.
    flip(&state, 103, 7);
}

#[test]
fn a_damaged_state_is_rejected_and_a_start_without_it_loses_nothing_that_vcenter_has() {
    let (stack, mut router, _) = killed_with_all_kinds_of_state();
    damage(&stack);
    check_refused(&stack);
    move_away(&stack);
    // Its source starts `at: beginning`, which is before the damage.
    recover(&stack, &mut router);
}

#[test]
fn a_damaged_state_is_rejected_and_its_backup_loses_nothing() {
    let (stack, mut router, backup) = killed_with_all_kinds_of_state();
    stack.vcenter.append(50);
    damage(&stack);
    check_refused(&stack);
    move_away(&stack);
    let restored = event_router(&stack, &["restore", backup.to_str().unwrap()]);
    assert!(restored.status.success(), "{restored:?}");
    recover(&stack, &mut router);
}

/// Flips a byte anywhere in the files. The start fails with an error or succeeds; no event is lost
/// either way.
#[test]
fn a_flipped_byte_anywhere_is_rejected_or_loses_nothing() {
    let mut random = seed::random();
    let (stack, mut router, _) = killed_with_all_kinds_of_state();
    let config = fs::read_to_string(stack.config_file()).unwrap();
    let files = ["state.db", "state.db-wal", "state.db-shm", "lock"];
    for name in std::iter::repeat_n(files, seed::rounds(1)).flatten() {
        stack.vcenter.append(50);
        let path = stack.data().join(name);
        let bytes = fs::metadata(&path).unwrap().len() as usize;
        seed::tried(1, "byte of a file flipped below the router");
        flip(&path, random.random_range(0..bytes), random.random_range(0..8));
        let mut start = Router::spawn(stack.folder.path(), stack.admin, &config);
        let refused = wait_until(LIMIT, || !start.running() || start.is_ready()) && !start.running();
        drop(start);
        if refused {
            assert_eq!(name, "state.db", "the others can be done without");
            check_refused(&stack);
            move_away(&stack);
        }
        recover(&stack, &mut router);
        router.kill();
    }
}
