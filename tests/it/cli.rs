//! The commands as an operator types them, against real peers.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use crate::common::config::{RouterConfig, Section};
use crate::common::router::{Launch, Router};
use crate::common::stack::Stack;
use crate::common::transactions::transaction;
use crate::common::vcsim::{PASSWORD, USER, Vcsim};
use crate::common::{free_address, wait_until};
use event_router::state::{Storage, Store, Write, spool_name};
use serde_json::{Value, json};
use testbed::sink::{Behavior, Reply};
use testbed::vcenter::{Options, VCenter};

const LIMIT: Duration = Duration::from_secs(60);

fn run(arguments: &[&str]) -> Output {
    Launch::new(arguments.iter().copied()).command().output().unwrap()
}

/// Exit code, standard output and standard error.
fn told(output: &Output) -> (Option<i32>, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn good(arguments: &[&str]) -> String {
    let (code, stdout, stderr) = told(&run(arguments));
    assert_eq!(code, Some(0), "{arguments:?}: {stdout}{stderr}");
    stdout
}

#[track_caller]
fn bad(arguments: &[&str], code: i32) -> String {
    let (found, stdout, stderr) = told(&run(arguments));
    assert_eq!(found, Some(code), "{arguments:?}: {stdout}{stderr}");
    stdout + &stderr
}

/// The stack's configuration in a file.
fn config(stack: &Stack) -> String {
    stack.write(&stack.config()).display().to_string()
}

#[test]
fn an_unknown_old_flag_is_refused() {
    let told = bad(&["-confg", "x"], 2);
    assert!(told.contains("unknown flag `-confg`") && told.contains("-config FILE"), "{told}");
    let told = bad(&["-config"], 2);
    assert!(told.contains("needs a value"), "{told}");
    let told = bad(&["-config", "/nonexistent/config"], 2);
    assert!(told.contains("/nonexistent/config: cannot be read"), "{told}");
    let told = bad(&["--config", "x", "--frobnicate"], 2);
    assert!(told.contains("--frobnicate"), "{told}");
}

#[test]
fn check_connect_checks_every_peer() {
    let stack =
        Stack::new(Options { clock_offset_us: 90_000_000, ..Options::default() }, ["batched", "batched"]);
    let config = config(&stack);
    let told = good(&["check", "--connect", "-c", &config]);
    let line = |told: &str, name: &str| told.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    let source = line(&told, "source vc");
    assert!(
        source.contains(" ok ") && source.contains("VMware vCenter Server") && source.contains("latency"),
        "{told}"
    );
    let offset: f64 = source.split("clock ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!((80.0..100.0).contains(&offset) && source.contains("set the clocks"), "{source}");
    assert!(line(&told, "processor target-1").contains(" ok "), "{told}");
    assert_eq!(stack.targets[0].tally().delivered, 0, "no event is delivered");
    assert_eq!(stack.vcenter.counters().calls_of("Logout"), 1);

    stack.runtime.block_on(stack.targets[1].sink.outage());
    stack.vcenter.set_password("another");
    let told = bad(&["check", "--connect", "-c", &config], 1);
    assert!(line(&told, "source vc").contains("InvalidLogin"), "{told}");
    assert!(line(&told, "processor target-0").contains(" ok "), "{told}");
    assert!(line(&told, "processor target-1").contains(" failed "), "{told}");
    assert_eq!(stack.vcenter.counters().calls_of("Login"), 2, "one try: the account must not be locked");
}

/// From the file over SOAP to the vCenter, through each format, and from a file of its own.
#[test]
fn check_connect_logs_in_with_awkward_passwords() {
    let stack = Stack::new(Options::default(), ["structured"]);
    let (folder, user) = (stack.folder.path(), Options::default().user);
    let path = |name: &str| folder.join(name).display().to_string();
    for password in [
        "true",
        "~",
        "- x",
        "&a",
        "!t",
        r#"<a b="c">&amp;]]>'"#,
        " x  ",
        "x\r\n\ty\n",
        "pä密🔒\u{a0}",
        "$${HOME} #\\",
    ] {
        stack.vcenter.set_password(password);
        let quoted = serde_json::to_string(password).unwrap();
        let native = stack.config().set_source("vc", "password", password).text();
        let in_file = |vc: Section| vc.without("password").set("passwordFile", path("password"));
        let file = stack.config().change_source("vc", in_file).text();
        let (url, sink) = (stack.vcenter.url(), stack.targets[0].sink.url());
        let old = format!(
            "eventProvider: {{type: vcenter, name: vc, vcenter: {{address: {url}, auth: {{type: basic_auth, basicAuth: {{username: {user}, password: {quoted}}}}}}}}}\n\
             eventProcessor: {{type: knative, name: kn, knative: {{encoding: binary, destination: {{uri: {sink:?}}}}}}}\n\
             metricsProvider: {{type: default, name: m, default: {{bindAddress: \"{}\"}}}}\n",
            stack.admin
        );
        std::fs::write(path("password"), format!("{password}\n")).unwrap();
        for (name, text) in [("native.yaml", native), ("file.yaml", file), ("v1alpha1.yaml", old)] {
            std::fs::write(path(name), text).unwrap();
            good(&["check", "--connect", "-c", &path(name)]);
        }
        std::fs::write(path("converted.yaml"), good(&["config", "convert", &path("v1alpha1.yaml")])).unwrap();
        good(&["check", "--connect", "-c", &path("converted.yaml")]);
        // The control: a wrong password fails.
        stack.vcenter.set_password(&format!("{password}x"));
        assert!(bad(&["check", "--connect", "-c", &path("native.yaml")], 1).contains("InvalidLogin"));
    }
}

fn vcenter_config(folder: &Path, url: &str, user: &str, password: &str) -> String {
    let path = folder.join("vcenter.yaml");
    let config = RouterConfig::new(&folder.join("data"), free_address())
        .source(Section::vcenter("vc", url, user, password).without("startAt"))
        .processor(Section::default().set("name", "out").set("type", "console"));
    std::fs::write(&path, config.text()).unwrap();
    path.display().to_string()
}

fn check_event_list(config: &str) {
    let list: Vec<Value> = serde_json::from_str(&good(&["events", "list", "--json", "-c", config])).unwrap();
    let of =
        |name: &str| list.iter().find(|entry| entry["type"] == name).unwrap_or_else(|| panic!("no {name}"));
    let on = of("VmPoweredOnEvent");
    assert_eq!((&on["class"], &on["topic"]), (&"VmPoweredOnEvent".into(), &"vm.powered.on".into()));
    assert!(
        on["category"].is_string() && on["description"].as_str().is_some_and(|text| !text.is_empty()),
        "{on}"
    );
    let table = good(&["events", "list", "-c", config]);
    assert!(table.starts_with("TYPE ") && table.lines().count() == list.len() + 1, "{table}");
    assert!(table.lines().any(|line| line.starts_with("VmPoweredOnEvent ")));
}

#[test]
fn events_list_asks_the_vcenter() {
    let folder = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let vcenter = runtime.block_on(VCenter::start(Options::default())).unwrap();
    let options = Options::default();
    let config = vcenter_config(folder.path(), &vcenter.url(), &options.user, &options.password);
    check_event_list(&config);
    let list: Vec<Value> = serde_json::from_str(&good(&["events", "list", "--json", "-c", &config])).unwrap();
    let by_id = |class: &str| list.iter().any(|entry| entry["class"] == class && entry["type"] != class);
    assert!(by_id("EventEx"), "an EventEx is listed by its eventTypeId");
    let told = bad(&["events", "list", "-c", &config, "--source", "other"], 2);
    assert!(told.contains("no source `other`; there are: vc"), "{told}");
    vcenter.set_password("another");
    assert!(bad(&["events", "list", "-c", &config], 1).contains("InvalidLogin"));
}

#[test]
fn events_list_asks_vcsim() {
    let Some(vcsim) = Vcsim::start(&[]) else { return };
    let folder = tempfile::tempdir().unwrap();
    check_event_list(&vcenter_config(folder.path(), vcsim.url(), USER, PASSWORD));
}

#[test]
fn emit_delivers_a_test_event_by_the_routes() {
    let stack = Stack::new(Options::default(), ["structured", "binary"]);
    let config = stack
        .config()
        .pattern("on", json!({"subject": ["VmPoweredOnEvent"]}), &["target-0", "target-1"])
        .pattern("rest", json!({"subject": ["UserLoginSessionEvent"]}), &["target-1"]);
    let config = stack.write(&config).display().to_string();
    let emit = |more: &[&str]| {
        let mut arguments = vec!["emit", "-c", &config];
        arguments.extend(more);
        told(&run(&arguments))
    };
    let (code, stdout, stderr) =
        emit(&["--type", "VmPoweredOnEvent", "--field", "vm.name=web-1", "--field", "key=7"]);
    assert_eq!((code, &*stderr), (Some(0), ""), "{stdout}");
    assert!(stdout.starts_with("VmPoweredOnEvent "), "{stdout}");
    for target in ["target-0", "target-1"] {
        assert!(
            stdout.lines().any(|line| line.starts_with(target) && line.ends_with("delivered")),
            "{stdout}"
        );
    }
    let event: Value = serde_json::from_slice(&stack.targets[0].sink.received()[0].body).unwrap();
    assert!(stdout.contains(event["id"].as_str().unwrap()), "{stdout}");
    assert_eq!(
        (&event["subject"], &event["source"]),
        (&"VmPoweredOnEvent".into(), &stack.vcenter.url().into())
    );
    assert_eq!((&event["data"]["Vm"]["Name"], &event["data"]["Key"]), (&"web-1".into(), &7.into()));

    let (code, stdout, _) = emit(&["--type", "UserLoginSessionEvent"]);
    assert_eq!(
        (code, stdout.contains("target-0"), stdout.contains("target-1")),
        (Some(0), false, true),
        "{stdout}"
    );
    let (code, stdout, _) = emit(&["--type", "VmPoweredOffEvent"]);
    assert_eq!((code, stdout.contains("no destination takes it")), (Some(1), true), "{stdout}");
    let (code, stdout, _) = emit(&["--type", "VmPoweredOffEvent", "--to", "target-0"]);
    assert_eq!((code, stdout.contains("delivered")), (Some(0), true), "{stdout}");

    stack.targets[1].sink.set(Behavior::reply(Reply::Status(418)));
    let (code, stdout, _) = emit(&["--type", "VmPoweredOnEvent"]);
    assert_eq!(code, Some(1), "{stdout}");
    assert!(
        stdout
            .lines()
            .any(|line| line.starts_with("target-1") && line.contains("failed:") && line.contains("418")),
        "{stdout}"
    );
    assert_eq!(stack.targets[1].sink.received().iter().filter(|call| !call.taken).count(), 1, "no retries");

    for (wrong, part) in [
        (&["--type", "VmPoweredOn"][..], "did you mean `VmPoweredOnEvent`?"),
        (&["--type", "VmPoweredOnEvent", "--field", "vm"], "NAME=VALUE"),
        (&["--type", "VmPoweredOnEvent", "--to", "x"], "no processor `x`; there are: target-0, target-1"),
    ] {
        let (code, _, stderr) = emit(wrong);
        assert!(code == Some(2) && stderr.contains(part), "{stderr}");
    }
    assert!(!stack.folder.path().join("data").exists(), "no state is made");
    assert_eq!(stack.vcenter.counters().calls_of("Login"), 0, "no vCenter is touched");
}

fn shown(config: &str) -> Value {
    serde_json::from_str(&good(&["checkpoint", "show", "--json", "-c", config])).unwrap()
}

#[test]
fn checkpoints_are_shown_moved_and_forgotten() {
    let stack = Stack::new(Options { backlog: 500, ..Options::default() }, ["batched", "batched"]);
    let config = config(&stack);
    let told = bad(&["checkpoint", "show", "-c", &config], 1);
    assert!(told.contains("holds no state yet"), "{told}");
    stack.targets[1].sink.set(Behavior::reply(Reply::Status(503)));
    let mut router = Router::launch(stack.admin, Launch::new(["run", "-c", &config]));
    router.wait_ready();
    stack.targets[0].wait_for(500, LIMIT);

    // Beside the running router.
    let owed = wait_until(LIMIT, || {
        shown(&config)["sources"][0]["unsettled"] == serde_json::json!({"target-1": 500})
    });
    let seen = shown(&config);
    assert!(owed, "{seen:#}");
    assert_eq!((&seen["sources"][0]["source"], &seen["sources"][0]["seen"]), (&"vc".into(), &500.into()));
    let table = good(&["checkpoint", "show", "-c", &config]);
    assert!(table.lines().any(|line| line.split_whitespace().eq(["target-1", "500", "0"])), "{table}");
    assert!(bad(&["checkpoint", "forget", "vc", "-c", &config], 1).contains("in use by process"));
    assert!(bad(&["checkpoint", "set", "vc", "now", "-c", &config], 1).contains("in use by process"));

    stack.targets[1].sink.set(Behavior::default());
    stack.targets[1].wait_for(500, LIMIT);
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
    let before = shown(&config);
    let told = good(&["checkpoint", "set", "vc", "beginning", "--dry-run", "-c", &config]);
    assert!(
        told.contains("would be set") && told.contains("; at least 500 events would be delivered again"),
        "{told}"
    );
    assert_eq!(shown(&config), before, "a dry run changes nothing");
    let told = bad(&["checkpoint", "set", "other", "now", "-c", &config], 1);
    assert!(told.contains("no checkpoint of source `other`; there are: vc"), "{told}");
    assert!(bad(&["checkpoint", "set", "vc", "yesterday", "-c", &config], 2).contains("an age such as `2h`"));

    // Back: everything comes again, with its old id.
    good(&["checkpoint", "set", "vc", "2020-01-01T00:00:00Z", "-c", &config]);
    assert_eq!(shown(&config)["sources"][0]["resume"], "2020-01-01T00:00:00Z");
    router.restart();
    assert!(
        wait_until(LIMIT, || stack.targets[0].tally().duplicates >= 500),
        "{:?}",
        stack.targets[0].report()
    );
    assert_eq!(router.terminate(LIMIT).code(), Some(0));
    assert_eq!(stack.targets[0].report().total.wrong_ids, 0);

    let told = bad(&["checkpoint", "forget", "other", "-c", &config], 1);
    assert!(told.contains("there are: vc"), "{told}");
    let dir = stack.folder.path().join("data").display().to_string();
    good(&["checkpoint", "forget", "vc", "--data-dir", &dir]);
    assert_eq!(shown(&config)["sources"], serde_json::json!([]));
}

#[test]
fn events_of_a_removed_destination_are_reported_and_kept_until_dropped() {
    let stack = Stack::new(Options { backlog: 10, ..Options::default() }, ["batched"]);
    let config = config(&stack);
    let mut store = Store::open(&stack.folder.path().join("data")).unwrap();
    let parked = spool_name("bus", Some(7));
    for (n, name) in ["bus", &parked, "bus-2/function"].into_iter().enumerate() {
        let mut writes = transaction(n as u32 + 1, &store);
        writes.retain_mut(|write| match write {
            Write::SpoolAppend(append) => {
                append.destination = name.to_owned();
                true
            }
            _ => false,
        });
        store.apply(&writes).unwrap();
    }
    drop(store);

    let mut router = Router::launch(stack.admin, Launch::new(["run", "-c", &config]));
    router.wait_ready();
    for destination in ["destination=bus ", "destination=bus-2/function "] {
        let told = |line: &&str| line.contains(destination) && line.contains("`event-router spool drop`");
        let told = router.stderr().text().lines().filter(told).count();
        assert_eq!(told, 1, "{destination}: {}", router.stderr().text());
    }
    let listed =
        || -> Value { serde_json::from_str(&good(&["spool", "list", "--json", "-c", &config])).unwrap() };
    assert_eq!((&listed()["bus"]["events"], &listed()["bus-2/function"]["events"]), (&10.into(), &5.into()));
    assert!(bad(&["spool", "drop", "bus", "-c", &config], 1).contains("in use by process"));
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());

    let told = bad(&["spool", "drop", "bus-2", "-c", &config], 1);
    assert!(told.contains("no spool of a destination `bus-2`; there are: bus, bus-2/function"), "{told}");
    assert!(good(&["spool", "drop", "bus", "-c", &config]).contains("bus: 10 events dropped"));
    let table = good(&["spool", "list", "-c", &config]);
    let rows: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().take(2).collect()).collect();
    assert_eq!(rows, [["DESTINATION", "EVENTS"], ["bus-2/function", "5"]]);
}

#[test]
fn a_backup_of_a_running_router_is_restored() {
    let stack = Stack::new(Options { backlog: 300, ..Options::default() }, ["batched"]);
    let config = config(&stack);
    let backup = stack.folder.path().join("backup").display().to_string();
    let mut router = Router::launch(stack.admin, Launch::new(["run", "-c", &config]));
    router.wait_ready();
    stack.targets[0].wait_for(300, LIMIT);
    let settled = || shown(&config)["sources"][0]["unsettled"] == serde_json::json!({});
    assert!(wait_until(LIMIT, || settled() && shown(&config)["sources"][0]["seen"] == 300));
    good(&["backup", &backup, "-c", &config]);
    assert!(bad(&["backup", &backup, "-c", &config], 1).contains("exists already"));
    assert!(bad(&["restore", &backup, "-c", &config], 1).contains("in use by process"));
    let at_backup = shown(&config);
    stack.vcenter.append(200);
    stack.targets[0].wait_for(500, LIMIT);
    assert_eq!(router.terminate(LIMIT).code(), Some(0));
    assert_ne!(shown(&config), at_backup);
    good(&["restore", &backup, "-c", &config]);
    assert_eq!(shown(&config), at_backup);
    router.restart();
    assert!(
        wait_until(LIMIT, || stack.targets[0].tally().duplicates >= 200),
        "{:?}",
        stack.targets[0].report()
    );
    assert_eq!(router.terminate(LIMIT).code(), Some(0));
    let report = stack.targets[0].report();
    assert_eq!((report.total.duplicates, report.is_complete()), (200, true), "{report:?}");
}

#[test]
fn a_full_or_closed_output_causes_no_panic() {
    let folder = tempfile::tempdir().unwrap();
    let config = vcenter_config(folder.path(), "https://127.0.0.1:9/sdk", "user", "password");
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    for (stdout, code, said) in [
        (std::process::Stdio::from(full), 1, "cannot write to standard output"),
        (std::process::Stdio::from(std::io::pipe().unwrap().1), 0, ""),
    ] {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_event-router"));
        let output =
            command.args(["check", "-c", &config]).stdout(stdout).stderr(std::process::Stdio::piped());
        let output = output.output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(said) && !stderr.contains("panicked"), "{stderr}");
    }
}

#[test]
fn completions_and_manual_cover_every_command() {
    let commands =
        ["run", "check", "events", "emit", "checkpoint", "spool", "backup", "restore", "completions"];
    for shell in ["bash", "zsh", "fish"] {
        let script = good(&["completions", shell]);
        assert!(commands.iter().all(|command| script.contains(command)), "{shell}");
    }
    assert!(good(&["man"]).contains(".TH event-router 1"));
    let folder = tempfile::tempdir().unwrap();
    good(&["man", "--output", folder.path().to_str().unwrap()]);
    for command in commands {
        let page = std::fs::read_to_string(folder.path().join(format!("event-router-{command}.1"))).unwrap();
        assert!(page.contains("DESCRIPTION"), "{command}");
    }
}
