//! Faults of the disk below the processor `file`, and of the process that writes. After each, every
//! event is in the file, in order, and every line is whole; another destination notices nothing.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::common::config::{RouterConfig, Section};
use crate::common::disk::{Disk, EIO, ENOSPC};
use crate::common::peer::skip;
use crate::common::router::Router;
use crate::common::small_disk::SmallDisk;
use crate::common::stack::Stack;
use crate::common::wait_until;
use serde_json::Value;
use testbed::vcenter::Options;

const LIMIT: Duration = Duration::from_secs(60);

/// A router that writes to a file in `folder`, and to a target that works.
fn config(stack: &Stack, folder: &Path, more: &Section) -> RouterConfig {
    let path = folder.join("events.jsonl").display().to_string();
    let file = Section::default()
        .set("name", "archive")
        .set("type", "file")
        .set("path", path)
        .set("retry", serde_json::json!({"backoffMin": "50ms", "backoffMax": "100ms"}))
        .set("breaker", serde_json::json!({"probeInterval": "100ms"}));
    stack.config().processor(file.with(more))
}

/// The keys in the file and its rotated predecessors, in order. A line that is not whole fails.
fn keys(folder: &Path) -> Vec<i32> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension() == Some(OsStr::new("jsonl")))
        .collect();
    // `events.jsonl` comes last: a point sorts behind a dash.
    files.sort();
    let text: String = files.iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    assert!(text.is_empty() || text.ends_with('\n'), "a torn line: {:?}", text.lines().last());
    let key = |line: &str| {
        let event: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        event["data"]["Key"].as_i64().unwrap() as i32
    };
    text.lines().map(key).collect()
}

/// The keys of the events of a vCenter.
fn created(stack: &Stack) -> Vec<i32> {
    (0..stack.vcenter.produced()).map(|index| stack.vcenter.fact(index).unwrap().key).collect()
}

/// Waits until the file has as many events as the vCenter.
fn until_complete(stack: &Stack, folder: &Path, router: &Router) {
    let all: BTreeSet<i32> = created(stack).into_iter().collect();
    let came = wait_until(LIMIT, || {
        let whole = fs::read(folder.join("events.jsonl")).is_ok_and(|bytes| bytes.ends_with(b"\n"));
        whole && keys(folder).into_iter().collect::<BTreeSet<_>>() == all
    });
    assert!(came, "{} of {} events: {}", keys(folder).len(), all.len(), router.stderr().text());
}

fn until_log(router: &Router, part: &str) {
    let came = wait_until(LIMIT, || router.stderr().text().contains(part));
    assert!(came, "`{part}` is not in the log: {}", router.stderr().text());
}

fn stack() -> Stack {
    Stack::new(Options { backlog: 100, ..Options::default() }, ["batched"])
}

#[test]
fn fault_full_disk_holds_the_events_and_tears_no_line() {
    let Some(disk) = SmallDisk::mount(1_024) else {
        skip("the right to mount");
        return;
    };
    let stack = stack();
    let router = stack.start(&config(&stack, disk.path(), &Section::default()));
    until_complete(&stack, disk.path(), &router);
    disk.fill();
    stack.vcenter.append(500);
    stack.targets[0].wait_for(600, LIMIT);
    until_log(&router, "make room on that disk");
    // Nothing of what failed is left, although a part of it was written.
    let ends = || fs::read(disk.path().join("events.jsonl")).unwrap().ends_with(b"\n");
    assert!(wait_until(LIMIT, ends), "a torn line is left");
    disk.empty();
    until_complete(&stack, disk.path(), &router);
    assert_eq!(keys(disk.path()), created(&stack), "in order, and once");
}

/// `fail_at` fails every operation from the next one on, the cutting off of a torn line too.
#[test]
fn fault_broken_disk_holds_the_events() {
    for errno in [EIO, ENOSPC] {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("archive");
        fs::create_dir(&folder).unwrap();
        let Some(disk) = Disk::of(&folder) else { return };
        let stack = stack();
        let router = stack.start_on(&disk, false, &config(&stack, &folder, &Section::default()));
        until_complete(&stack, &folder, &router);
        disk.fail_at(2, errno);
        stack.vcenter.append(200);
        stack.targets[0].wait_for(300, LIMIT);
        until_log(&router, &format!("os error {errno}"));
        disk.fail_at(0, 0);
        until_complete(&stack, &folder, &router);
        let written = keys(&folder);
        let mut once = written.clone();
        once.dedup();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once, created(&stack), "{written:?}");
    }
}

#[test]
fn fault_kill_leaves_no_torn_line_and_loses_no_event() {
    let folder = tempfile::tempdir().unwrap();
    let stack = stack();
    let mut router = stack.start(&config(&stack, folder.path(), &Section::default()));
    for _ in 0..5 {
        stack.vcenter.append(400);
        let before = fs::metadata(folder.path().join("events.jsonl")).map_or(0, |facts| facts.len());
        let grows = || fs::metadata(folder.path().join("events.jsonl")).is_ok_and(|f| f.len() > before);
        assert!(wait_until(LIMIT, grows), "{}", router.stderr().text());
        router.kill();
        // A power loss would leave this much of a line.
        let path = folder.path().join("events.jsonl");
        let torn = fs::File::options().append(true).open(path).unwrap();
        std::io::Write::write_all(&mut { torn }, b"{\"id\":\"6f1c").unwrap();
        router.restart();
    }
    until_log(&router, "removed an incomplete last line");
    until_complete(&stack, folder.path(), &router);
}

#[test]
fn fault_missing_directory_and_foreign_file_say_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("archive");
    let stack = stack();
    let router = stack.start(&config(&stack, &archive, &Section::default()));
    until_log(&router, "create the directory");
    fs::create_dir(&archive).unwrap();
    until_complete(&stack, &archive, &router);
    assert_eq!(keys(&archive), created(&stack));
}

/// The steps of logrotate: move, then SIGHUP, or no signal.
#[test]
fn rotation_by_another_program_loses_no_event() {
    let folder = tempfile::tempdir().unwrap();
    let stack = stack();
    let mut router = stack.start(&config(&stack, folder.path(), &Section::default()));
    until_complete(&stack, folder.path(), &router);
    let path = folder.path().join("events.jsonl");
    fs::rename(&path, folder.path().join("events-1.jsonl")).unwrap();
    router.signal("HUP");
    until_log(&router, "opening files again on SIGHUP");
    stack.vcenter.append(100);
    until_complete(&stack, folder.path(), &router);
    fs::rename(&path, folder.path().join("events-2.jsonl")).unwrap();
    stack.vcenter.append(100);
    until_complete(&stack, folder.path(), &router);
    assert!(router.running(), "SIGHUP does not stop it");
    assert_eq!(keys(folder.path()), created(&stack), "in order, and once");
    assert!(router.terminate(LIMIT).success());
}

#[test]
fn rotation_by_size_keeps_every_event() {
    let folder = tempfile::tempdir().unwrap();
    let stack = stack();
    let more = Section::default().set("bytesMax", "64KiB").set("keep", 1_000);
    let more = more.set("batch", serde_json::json!({"events": 50}));
    let router = stack.start(&config(&stack, folder.path(), &more));
    stack.vcenter.append(900);
    until_complete(&stack, folder.path(), &router);
    let mut written = keys(folder.path());
    written.sort_unstable();
    assert_eq!(written, created(&stack));
    assert!(fs::read_dir(folder.path()).unwrap().count() > 3, "it was rotated");
}
