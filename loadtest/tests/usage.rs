//! What `loadtest` says to wrong arguments and files, and its help.
#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::loadtest;

#[test]
fn wrong_arguments_end_with_2() {
    for arguments in [
        &["run"][..],
        &["run", "steady", "--rate", "fast"],
        &["run", "steady", "--shape", "pigeon"],
        &["run", "steady", "--pid", "1"],
        &["run", "no-such-file.yaml"],
        &["run", "steady", "--rate", "0"],
        &["run", "backlog", "--duration", "5s"],
        &["run", "steady", "--duration", "5s", "--warm-up", "5s"],
        &["run", "steady", "--cpus", "1023"],
        &["run", "steady", "--attach", "x.yaml", "--admin", "hello world"],
        &["run", "steady", "--attach", "x.yaml", "--admin", "localhost"],
        &["limit", "--from", "20", "--max", "10"],
        &["limit", "--full", "--shape", "batched"],
        &["limit", "--from", "none"],
        &["limit", "no-such-file.yaml"],
        &["workloads", "no-such"],
        &["fly"],
    ] {
        let outcome = loadtest(arguments);
        assert_eq!(outcome.code, 2, "{arguments:?}: {outcome:?}");
        assert!(!outcome.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn a_workload_that_is_wrong_ends_with_2_and_all_its_errors() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("wrong.yaml");
    std::fs::write(&file, "vcenters: none\nrate: 5\nspeed: 3\n").unwrap();
    let outcome = loadtest(&["run", file.to_str().unwrap()]);
    assert_eq!(outcome.code, 2);
    let name = file.display();
    assert!(outcome.stderr.contains(&format!("{name}:1: vcenters: must be a whole number")), "{outcome:?}");
    assert!(outcome.stderr.contains(&format!("{name}:3: speed: there is no such field")), "{outcome:?}");
    std::fs::write(&file, "rate: 5\n").unwrap();
    let outcome = loadtest(&["run", file.to_str().unwrap()]);
    assert_eq!(outcome.code, 2);
    assert!(outcome.stderr.contains("the run has no end"), "{outcome:?}");
}

#[test]
fn workloads_are_listed_and_printed() {
    let list = loadtest(&["workloads"]);
    assert_eq!(list.code, 0);
    assert!(list.stdout.lines().count() > 10 && list.stdout.contains("all-troubles "), "{}", list.stdout);
    let printed = loadtest(&["workloads", "steady"]);
    assert!(printed.stdout.starts_with("description: "), "{}", printed.stdout);
}

#[test]
fn help_is_as_it_was() {
    let mut all = String::new();
    for command in
        [&[][..], &["run"], &["limit"], &["vcenter"], &["sink"], &["compare"], &["report"], &["workloads"]]
    {
        let mut arguments = command.to_vec();
        arguments.push("--help");
        let outcome = loadtest(&arguments);
        assert_eq!(outcome.code, 0);
        all.push_str(&format!("--- {}\n{}\n", arguments.join(" "), outcome.stdout));
    }
    insta::assert_snapshot!(all);
}
