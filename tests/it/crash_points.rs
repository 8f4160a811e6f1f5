//! The router is killed at chosen points: before the n-th operation on its disk, while it writes
//! checkpoints, spools, stores dead letters or drains a spool. A second test simulates power
//! losses: each state of the disk that may remain holds everything that the stored position relies
//! on.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::time::Duration;

use serde_json::json;

use crate::common::config::{RouterConfig, Section};
use crate::common::disk::{Disk, Replay};
use crate::common::router::Router;
use crate::common::stack::Stack;
use crate::common::{seed, wait_until};
use event_router::event::Identity;
use event_router::state::{DeadLetterFilter, Storage, Store, StoreReader, Write, codec};
use rand::Rng;
use rand::rngs::StdRng;
use testbed::sink::Behavior;
use testbed::vcenter::Options;

const LIMIT: Duration = Duration::from_secs(60);
/// More events than fit into the memory of [`config`].
const SPILLING: u64 = 6_000;
const ROUNDS: usize = 1;
/// A commit is a write for each changed page, and a sync: points before, within and after the first
/// ones.
const OPERATIONS_MAX: i64 = 40;

/// Little memory, so that a destination without a target soon spills.
fn config(stack: &Stack) -> RouterConfig {
    stack.config().set("memoryMax", "4MiB").set("checkpointInterval", "20ms")
}

struct Scene {
    stack: Stack,
    disk: Disk,
    router: Router,
    random: StdRng,
}

impl Scene {
    /// A target of this content mode, which gets the trouble, and a healthy one. The router spills
    /// for the first instead of holding up the source.
    fn new(target: impl Into<Section>) -> Option<Scene> {
        let stack = Stack::new(Options::default(), [target.into(), Section::from("batched")]);
        let disk = stack.disk()?;
        let router = stack.start_on(&disk, false, &config(&stack));
        Some(Scene { stack, disk, router, random: seed::random() })
    }

    fn answer(&self, status: u16) {
        self.stack.targets[0].sink.set(Behavior::status(status));
    }

    /// Kills the router at an operation of what `provoke` makes it write, then starts it again.
    fn kill(&mut self, provoke: impl FnOnce(&Scene)) {
        let n = self.random.random_range(1..=OPERATIONS_MAX);
        self.disk.kill_at(n);
        provoke(self);
        let status = self.router.wait(LIMIT);
        assert_eq!(status.signal(), Some(9), "{status:?}: {}", self.router.stderr().text());
        self.disk.kill_at(0);
        seed::tried(1, "kill -9 before an operation on the disk");
        self.router.restart();
    }

    /// All is well from now on: every event arrives.
    fn judge(&self, ordered: bool) {
        self.answer(202);
        for (target, ordered) in self.stack.targets.iter().zip([ordered, true]) {
            target.wait_for(self.stack.vcenter.produced(), LIMIT);
            let report = target.report();
            assert!(report.is_complete(), "{report:?}");
            assert!(!ordered || report.total.out_of_order == 0, "{report:?}");
        }
    }

    fn spooled(&self) -> u64 {
        let spools = StoreReader::open(&self.stack.data()).unwrap().spools().unwrap();
        spools.values().map(|size| size.rows).sum()
    }
}

#[test]
fn a_kill_around_a_checkpoint_loses_nothing() {
    let Some(mut scene) = Scene::new("batched") else { return };
    for _ in 0..seed::rounds(ROUNDS) {
        scene.kill(|scene| {
            // A checkpoint follows each.
            let killed = wait_until(LIMIT, || {
                scene.stack.vcenter.append(20);
                !scene.disk.armed()
            });
            assert!(killed, "the operation never came");
        });
    }
    scene.judge(true);
}

#[test]
fn a_kill_around_a_spool_append_loses_nothing() {
    let Some(mut scene) = Scene::new("batched") else { return };
    scene.answer(503);
    for _ in 0..seed::rounds(ROUNDS) {
        scene.kill(|scene| {
            scene.stack.vcenter.append(SPILLING);
        });
    }
    assert!(wait_until(LIMIT, || scene.spooled() > 0));
    scene.judge(true);
}

#[test]
fn a_kill_around_a_dead_letter_loses_nothing() {
    let target = Section::from("structured").set("retry", json!({"blame": {"400": "event"}}));
    let Some(mut scene) = Scene::new(target) else { return };
    scene.answer(400);
    for _ in 0..seed::rounds(ROUNDS) {
        scene.kill(|scene| {
            scene.stack.vcenter.append(100);
        });
    }
    // Each is a dead letter, once; so each can still be delivered.
    let letters = || {
        let reader = StoreReader::open(&scene.stack.data()).unwrap();
        let filter = DeadLetterFilter { limit: Some(usize::MAX), ..DeadLetterFilter::default() };
        reader.dead_letters(&filter).unwrap()
    };
    let produced = scene.stack.vcenter.produced();
    let kept = || letters().iter().map(|letter| letter.facts.id).collect::<BTreeSet<_>>().len() as u64;
    assert!(wait_until(LIMIT, || kept() == produced), "{} of {produced}", kept());
    assert_eq!(letters().len() as u64, produced);
    scene.answer(202);
    let replay = std::process::Command::new(env!("CARGO_BIN_EXE_event-router"))
        .args(["dlq", "replay", "--all", "--config"])
        .arg(scene.stack.config_file())
        .output()
        .unwrap();
    assert!(replay.status.success(), "{replay:?}");
    scene.judge(false);
}

#[test]
fn a_kill_while_a_spool_is_drained_loses_nothing() {
    let Some(mut scene) = Scene::new("batched") else { return };
    for _ in 0..seed::rounds(ROUNDS) {
        scene.answer(503);
        scene.stack.vcenter.append(SPILLING);
        assert!(wait_until(LIMIT, || scene.spooled() > 0));
        scene.kill(|scene| scene.answer(202));
    }
    scene.judge(true);
}

/// Identities that the position of this store relies on and the store does not hold.
fn unfounded(data: &Path, destinations: &[&str]) -> Vec<(String, Identity)> {
    let reader = StoreReader::open(data).unwrap();
    reader.verify().unwrap();
    let Some(checkpoint) = reader.load("vc").unwrap() else { return Vec::new() };
    let filter = DeadLetterFilter { limit: Some(usize::MAX), ..DeadLetterFilter::default() };
    let mut kept: BTreeMap<String, BTreeSet<Identity>> = BTreeMap::new();
    for letter in reader.dead_letters(&filter).unwrap() {
        kept.entry(letter.facts.destination).or_default().insert(letter.facts.identity);
    }
    for destination in destinations {
        for row in reader.peek(destination, 0, u64::MAX).unwrap() {
            let batch = codec::decode_blob(&row.blob).unwrap();
            kept.entry(destination.to_string()).or_default().extend(batch.records.iter().map(|r| r.identity));
        }
    }
    let mut missing = Vec::new();
    for (minute, keys) in &checkpoint.seen {
        for identity in keys.iter().map(|key| Identity { minute: *minute, key }) {
            for destination in destinations {
                let is_kept = kept.get(*destination).is_some_and(|kept| kept.contains(&identity));
                if !is_kept && !checkpoint.owes(destination, identity) {
                    missing.push((destination.to_string(), identity));
                }
            }
        }
    }
    missing
}

#[test]
fn the_position_is_synced_after_everything_it_relies_on() {
    let mut random = seed::random();
    let refusing = Section::from("structured").set("retry", json!({"blame": {"400": "event"}}));
    let stack = Stack::new(Options::default(), [Section::from("batched"), refusing]);
    let Some(disk) = stack.disk() else { return };
    // Neither takes one event: all of them are owed, spooled, or dead letters.
    stack.targets[0].sink.set(Behavior::status(503));
    stack.targets[1].sink.set(Behavior::status(400));
    let destinations = ["target-0", "target-1"];
    let mut router = stack.start_on(&disk, true, &config(&stack));
    for _ in 0..3 {
        stack.vcenter.append(SPILLING / 2);
    }
    // Something is spooled, something is a dead letter, and the position has passed both.
    let relied_on = || {
        let reader = StoreReader::open(&stack.data()).unwrap();
        let Some(checkpoint) = reader.load("vc").unwrap() else { return false };
        let seen: u64 = checkpoint.seen.values().map(|keys| keys.len()).sum();
        let owed = |to: &str| checkpoint.unsettled.get(to).map_or(0, Vec::len) as u64;
        let spooled = reader.spools().unwrap().contains_key("target-0");
        spooled && destinations.iter().all(|to| owed(to) < seen)
    };
    assert!(wait_until(LIMIT, relied_on), "{}", router.stderr().text());
    router.kill();

    let operations = disk.log();
    let mut points: Vec<usize> =
        (0..seed::rounds(25)).map(|_| random.random_range(0..operations.len())).collect();
    points.sort_unstable();
    let (mut replay, mut done) = (Replay::default(), 0);
    for (round, point) in points.into_iter().enumerate() {
        operations[done..point].iter().for_each(|operation| replay.step(operation));
        done = point;
        let left = stack.folder.path().join(format!("loss-{round}"));
        replay.lose_power(&mut random, &left);
        seed::tried(1, "power lost below the router");
        if left.join("state.db").exists() {
            assert_eq!(unfounded(&left, &destinations), [], "power lost after operation {point}");
        }
    }

    // The control: the check notices a spooled batch that the disk did not keep.
    let data = stack.data();
    assert_eq!(unfounded(&data, &destinations), []);
    let spooled = StoreReader::open(&data).unwrap().peek("target-0", 0, u64::MAX).unwrap();
    let rows = spooled.iter().map(|row| row.row).collect();
    Store::open(&data).unwrap().apply(&[Write::SpoolRemove { rows }]).unwrap();
    assert!(!unfounded(&data, &destinations).is_empty());
}
