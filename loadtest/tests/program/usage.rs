//! Answers of `loadtest` to wrong arguments and files, and its help.

use crate::common::loadtest;

#[test]
fn wrong_arguments_exit_with_2() {
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
fn an_invalid_workload_exits_with_2_and_lists_all_errors() {
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
fn unwritable_and_colliding_output_files_are_rejected_before_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let workload = "rate: 5\nduration: 1s\n";
    std::fs::write(at("w.yaml"), workload).unwrap();
    let check = |arguments: &[&str], part: &str| {
        let outcome = loadtest(&[arguments, &["--router", "/nonexistent/event-router"]].concat());
        assert!(outcome.code == 2 && outcome.stderr.contains(part), "{arguments:?}: {outcome:?}");
    };
    let lost = ["run", &at("w.yaml"), "--json", &at("keep.json"), "--html", "/nonexistent/x.html"];
    check(&lost, "cannot write /nonexistent/x.html");
    check(&["limit", "--json", &at("")], "cannot write");
    check(&["run", &at("w.yaml"), "--json", &at("a"), "--html", &at("a")], "would be written over");
    check(&["run", &at("w.yaml"), "--json", &at("w.yaml")], "would be written over");
    check(&["run", &at("w.yaml"), "--html", "-"], "stdout is not one");
    let report = loadtest(&["report", &at("w.yaml"), &at("w.yaml")]);
    assert!(report.code == 2 && report.stderr.contains("would be written over"), "{report:?}");
    let report = loadtest(&["report", &at("w.yaml"), "-"]);
    assert!(report.code == 2 && report.stderr.contains("stdout is not one"), "{report:?}");
    assert_eq!(std::fs::read_to_string(at("w.yaml")).unwrap(), workload);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "a look leaves no file");
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
fn help_matches_its_snapshot() {
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
