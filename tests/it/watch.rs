//! The commands that show events and their ways, as an operator types them.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use testbed::openfaas::{Function, Gateway, GatewayOptions};
use testbed::vcenter::{Options, VCenter};

use crate::common::config::{RouterConfig, Section};
use crate::common::router::{Launch, Router};
use crate::common::stack::Stack;
use crate::common::{free_address, wait_until};
use testbed::sink::{Behavior, Reply};

/// Exit code, standard output and standard error.
fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Launch::new(arguments.iter().copied()).command().output().expect("the program starts");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn good(arguments: &[&str]) -> String {
    let (code, told, errors) = run(arguments);
    assert_eq!(code, Some(0), "{arguments:?}: {told}{errors}");
    told
}

#[track_caller]
fn bad(arguments: &[&str], code: i32) -> String {
    let (found, told, errors) = run(arguments);
    assert_eq!(found, Some(code), "{arguments:?}: {told}{errors}");
    told + &errors
}

/// A row of a table: the line that begins with these cells.
#[track_caller]
fn row<'t>(table: &'t str, cells: &[&str]) -> &'t str {
    let begins = |line: &&str| line.split_whitespace().take(cells.len()).eq(cells.iter().copied());
    table.lines().find(begins).unwrap_or_else(|| panic!("no row {cells:?} in {table}"))
}

/// A configuration of a vCenter and a gateway, neither of which needs to exist.
fn config(vcenter: &str, gateway: &str) -> RouterConfig {
    let Options { user, password, .. } = Options::default();
    RouterConfig::new("/nonexistent/data".as_ref(), free_address())
        .source(Section::vcenter("vc", vcenter, &user, &password).set("address", vcenter))
        .processor(Section::openfaas("fn", gateway, "admin", "secret"))
        .processor(Section::default().set("name", "audit").set("type", "console"))
        .processor(Section::default().set("name", "pager").set("type", "console"))
        .pattern("vms", json!({"data": {"Vm": {"Name": [{"prefix": "web-"}]}}}), &["audit"])
        .any_route(
            Section::default().set("name", "errors").set("severity", ["error"]).set("processors", ["pager"]),
        )
        .route("functions", &["vc"], &["fn"])
}

fn written(config: &RouterConfig) -> (tempfile::TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("config.yaml");
    std::fs::write(&file, config.text()).expect("the file is written");
    let file = file.display().to_string();
    (folder, file)
}

#[test]
fn routes_test_tells_who_gets_an_event_and_why_others_do_not() {
    let (folder, file) = written(&config("https://vc.invalid/sdk", "http://gateway.invalid"));
    let test = ["routes", "test", "-c", &file, "--type", "VmPoweredOnEvent", "--severity", "info"];
    let told = good(&test);
    assert!(
        row(&told, &["audit", "no", "vms"])
            .ends_with(r#"`$.data.Vm.Name` allows [{"prefix":"web-"}]; the event has "test""#),
        "{told}"
    );
    assert!(row(&told, &["pager", "no", "errors"]).ends_with(r#"the event has "info""#), "{told}");
    assert!(row(&told, &["fn", "?", "functions"]).contains("--connect"), "{told}");
    let web = [&test[..], &["--field", "vm.name=web-1"]].concat();
    row(&good(&web), &["audit", "yes", "vms"]);
    good(&[&web[..], &["--to", "audit"]].concat());
    bad(&[&web[..], &["--to", "pager"]].concat(), 1);

    // Events of a file, as the router delivers them. The route of errors depends on their severity,
    // which is unknown.
    let event = |name: &str| {
        json!({
            "specversion": "1.0", "id": "1", "source": "https://vc.invalid/sdk", "subject": "VmRemovedEvent",
            "type": "com.vmware.event.router/event", "data": {"Key": 1, "Vm": {"Name": name}},
        })
    };
    let events = folder.path().join("events.json").display().to_string();
    std::fs::write(&events, format!("{}\n{}", event("web-1"), event("db-1"))).expect("the file is written");
    let told = good(&["routes", "test", "-c", &file, &events, "--json"]);
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let takes = |at: usize| -> Vec<&Value> {
        let destinations = told[at]["destinations"].as_array().expect("destinations");
        destinations.iter().map(|one| &one["takes"]).collect()
    };
    assert_eq!(takes(0), [&Value::Null, &true.into(), &Value::Null], "{told}");
    assert_eq!(takes(1), [&Value::Null, &false.into(), &Value::Null], "{told}");
    assert_eq!(told[0]["subject"], "VmRemovedEvent");

    for (wrong, part) in [
        (&["--type", "VmPoweredOn"][..], "did you mean `VmPoweredOnEvent`?"),
        (&["/nonexistent/events"], "cannot read `/nonexistent/events`"),
        (&[&file], "the input is not JSON"),
        (&[&events, "--source", "x"], "no source `x`; there are: vc"),
    ] {
        let told = bad(&[&["routes", "test", "-c", &file][..], wrong].concat(), 2);
        assert!(told.contains(part), "{told}");
    }
}

#[test]
fn routes_test_asks_a_gateway_for_its_functions() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let gateway = runtime.block_on(Gateway::start(GatewayOptions::default())).expect("a gateway");
    gateway.deploy(Function::new("on", "VmPoweredOnEvent"));
    gateway.deploy(Function::new("off", "vm.powered.off,Host*"));
    let (_folder, file) = written(&config("https://vc.invalid/sdk", &gateway.url()));
    let test = ["routes", "test", "-c", &file, "--type", "VmPoweredOnEvent", "--connect"];
    let told = good(&[&test[..], &["--to", "fn/on"]].concat());
    row(&told, &["fn/on.openfaas-fn", "yes", "functions"]);
    assert!(
        row(&told, &["fn/off.openfaas-fn", "no", "functions"]).ends_with(
            "its topics are `vm.powered.off`, `Host*`; the event's are `VmPoweredOnEvent`, `vm.powered.on`"
        ),
        "{told}"
    );
    assert_eq!(gateway.invocations("on"), 0, "nothing is delivered");
}

#[test]
fn events_describe_shows_members_names_and_samples() {
    let told = good(&["events", "describe", "VmPoweredOnEvent"]);
    for part in [
        "  extends      VmEvent, Event\n",
        "  topics       VmPoweredOnEvent, vm.powered.on\n",
        "\nVm.Name ",
        "\"subject\": \"VmPoweredOnEvent\"",
        "\"_typeName\": \"VmPoweredOnEvent\"",
        "xsi:type=\"VmPoweredOnEvent\"",
    ] {
        assert!(told.contains(part), "no {part:?} in {told}");
    }
    assert!(bad(&["events", "describe", "VmPowerdOnEvent"], 2).contains("`VmPoweredOnEvent`"));
    // By a vCenter, and with the routes of a configuration.
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let vcenter = runtime.block_on(VCenter::start(Options::default())).expect("a vCenter");
    let (_folder, file) = written(&config(&vcenter.url(), "http://gateway.invalid"));
    let list = good(&["events", "list", "--json", "-c", &file]);
    let list: Vec<Value> = serde_json::from_str(&list).expect("JSON");
    let on = list.iter().find(|info| info["type"] == "VmPoweredOnEvent").expect("a known type");
    let told = good(&["events", "describe", "VmPoweredOnEvent", "--connect", "-c", &file]);
    let line = |name: &str, member: &str| format!("  {name:<12} {}\n", on[member].as_str().expect("a text"));
    assert!(told.contains(&line("category", "category")), "{told}");
    assert!(told.contains(&line("description", "description")), "{told}");
    assert!(row(&told, &["vms", "no"]).contains("`$.data.Vm.Name`"), "{told}");
    let told = good(&["events", "describe", "a.b.unknown", "--connect", "-c", &file]);
    assert!(told.contains("does not list this type") && told.contains("EventEx"), "{told}");
}

#[test]
fn graph_draws_the_configuration() {
    let (_folder, file) = written(&config("https://vc.invalid/sdk", "http://gateway.invalid"));
    let told = good(&["graph", "-c", &file]);
    assert!(told.starts_with("flowchart LR\n") && told.contains("s0 --> r0\n"), "{told}");
    let told = good(&["graph", "-c", &file, "--format", "dot"]);
    assert!(told.starts_with("digraph router {\n") && told.contains("r2 -> p0;\n"), "{told}");
    assert!(!told.contains("secret"), "{told}");
}

const LIMIT: Duration = Duration::from_secs(60);

/// A `tap` that runs beside the router.
struct Tap {
    child: Child,
    lines: BufReader<std::process::ChildStdout>,
}

impl Tap {
    /// Starts it. It watches once `head`, which every table begins with, was printed and the router
    /// has logged the request.
    fn start(router: &Router, file: &str, arguments: &[&str]) -> Tap {
        let before = requests(router);
        let arguments = [&["tap", "-c", file][..], arguments].concat();
        let mut command = Launch::new(arguments).command();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        assert!(wait_until(LIMIT, || requests(router) > before), "the router got no request");
        let lines = BufReader::new(child.stdout.take().expect("a pipe"));
        Tap { child, lines }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).expect("UTF-8");
        line
    }

    /// Waits for its end. Returns its exit code, the rest of its output and its messages.
    fn end(mut self) -> (Option<i32>, String, String) {
        let (mut rest, mut told) = (String::new(), String::new());
        self.lines.read_to_string(&mut rest).expect("UTF-8");
        self.child.stderr.take().expect("a pipe").read_to_string(&mut told).expect("UTF-8");
        (self.child.wait().expect("it ends").code(), rest, told)
    }
}

/// The number of taps that the router has served.
fn requests(router: &Router) -> usize {
    router.stderr().text().matches("showing events on request").count()
}

#[test]
fn tap_shows_events_as_they_pass() {
    let stack = Stack::new(Options::default(), ["structured", "binary"]);
    let config = stack.config();
    let file = stack.write(&config).display().to_string();
    let router = stack.start(&config);
    // By a pattern, as JSON that `routes test` reads.
    let pattern = json!({"data": {"Key": [{"numeric": [">", 0]}]}}).to_string();
    let by_pattern = ["--pattern", &pattern, "--source", "vc", "--output", "json", "--limit", "3"];
    let by_pattern = Tap::start(&router, &file, &by_pattern);
    let mut none = Tap::start(&router, &file, &["--type", "NoSuchEvent"]);
    assert!(none.line().starts_with("TIME "), "the head of the table");
    let requests = Tap::start(&router, &file, &["--to", "target-1", "--output", "request", "--limit", "1"]);
    stack.vcenter.append(50);
    let (code, shown, told) = by_pattern.end();
    assert_eq!((code, shown.lines().count()), (Some(0), 3), "{shown}{told}");
    let events = stack.folder.path().join("tapped.json").display().to_string();
    std::fs::write(&events, &shown).expect("the file is written");
    row(&good(&["routes", "test", "-c", &file, &events]), &["target-0", "yes", "all"]);
    // The request is the one that the target got.
    let (code, shown, _) = requests.end();
    assert_eq!(code, Some(0));
    assert!(shown.starts_with(&format!("POST {}", stack.targets[1].sink.url())), "{shown}");
    let id = shown.lines().find_map(|line| line.strip_prefix("ce-id: ")).expect("a header of binary mode");
    stack.targets[1].wait_for(50, LIMIT);
    let received = stack.targets[1].sink.received();
    let sent = received.iter().find(|sent| sent.headers.get("ce-id").is_some_and(|own| own == id));
    let body = String::from_utf8(sent.expect("it was sent").body.to_vec()).expect("UTF-8");
    assert!(shown.contains(&body), "{shown} has not {body}");
    // The one that found nothing ends on a signal, with a summary.
    let pid = none.child.id().to_string();
    assert!(
        std::process::Command::new("kill").args(["-INT", &pid]).status().is_ok_and(|kill| kill.success())
    );
    let (code, shown, told) = none.end();
    assert_eq!((code, &*shown), (Some(0), ""), "{told}");
    assert!(told.starts_with("0 events shown; ") && told.contains(" did not match"), "{told}");
}

#[test]
fn tap_shows_the_answers_of_a_target() {
    let stack = Stack::new(Options::default(), ["structured", "structured"]);
    stack.targets[0].sink.set(Behavior::reply(Reply::Status(503)));
    let config = stack.config();
    let file = stack.write(&config).display().to_string();
    let router = stack.start(&config);
    let mut tap = Tap::start(&router, &file, &["--to", "target-0", "--limit", "2"]);
    stack.vcenter.append(1);
    assert!(tap.line().contains("ANSWER"));
    let line = tap.line();
    assert!(line.contains("target-0") && line.contains("failed in") && line.contains("503"), "{line}");
    let (code, rest, _) = tap.end();
    assert!(code == Some(0) && rest.contains(", attempt 2: "), "{rest}");
    // Arguments and parts that do not exist.
    for (arguments, code, part) in [
        (&["--output", "request"][..], 2, "needs `--to`"),
        (&["--pattern", "{"], 2, "`--pattern` is not JSON"),
        (&["--pattern", "{\"subject\": [{\"prefx\": \"x\"}]}"], 1, "did you mean `prefix`?"),
        (&["--source", "x"], 1, "no source `x`; there are: vc"),
        (&["--to", "x"], 1, "no destination `x`; there are the processors: target-0, target-1"),
        (&["--for", "1", "--type", "NoSuchEvent"], 1, "0 events shown"),
    ] {
        let told = bad(&[&["tap", "-c", &file][..], arguments].concat(), code);
        assert!(told.contains(part), "{arguments:?}: {told}");
    }
    drop(router);
    assert!(bad(&["tap", "-c", &file], 1).contains("no router runs"));
}

#[test]
fn the_events_that_a_router_has_read_are_counted_and_tested() {
    let stack = Stack::new(Options::default(), ["batched"]);
    let config = stack.config().pattern("none", json!({"subject": ["NoSuchEvent"]}), &["target-0"]);
    let file = stack.write(&config).display().to_string();
    let router = stack.start(&config);
    stack.vcenter.append(300);
    let counts = || -> Vec<Value> {
        serde_json::from_str(&good(&["events", "top", "-c", &file, "--json"])).expect("JSON")
    };
    let total = |counts: &[Value]| counts.iter().filter_map(|one| one["eventsTotal"].as_u64()).sum::<u64>();
    assert!(wait_until(LIMIT, || total(&counts()) >= 300), "{:?}", counts());
    let counted = counts();
    assert!(counted.iter().is_sorted_by_key(|one| std::cmp::Reverse(one["eventsTotal"].as_u64())));
    let most = counted[0]["subject"].as_str().expect("a type");
    let told = good(&["events", "top", "-c", &file, "--source", "vc", "--limit", "2"]);
    assert!(
        told.starts_with("EVENTS ") && told.lines().nth(1).is_some_and(|row| row.ends_with(most)),
        "{told}"
    );
    // The last events, by the configuration that is running and by another one.
    let told = bad(&["routes", "test", "--last", "3", "-c", &file], 1);
    assert_eq!(told.matches(r#"`$.subject` allows ["NoSuchEvent"]; the event has"#).count(), 3, "{told}");
    let other = stack.folder.path().join("other.yaml");
    std::fs::write(&other, stack.config().data(&stack.folder.path().join("none")).text()).expect("written");
    let (other, data) = (other.display().to_string(), stack.data().display().to_string());
    let told = good(&["routes", "test", "--last", "3", "-c", &other, "--data-dir", &data]);
    assert_eq!(told.matches("target-0     yes").count(), 3, "{told}");
    drop(router);
    assert!(bad(&["events", "top", "-c", &file], 1).contains("no router runs"));
    assert!(bad(&["routes", "test", "--last", "3", "-c", &file], 2).contains("no router runs"));
}

/// A `top` in a terminal of 80 columns and 24 lines, which `script` makes.
struct Top {
    script: Child,
    /// All that it has written to the terminal.
    typescript: PathBuf,
    pid_file: PathBuf,
}

impl Top {
    fn start(stack: &Stack, file: &str) -> Top {
        let [pid_file, typescript] = ["top.pid", "typescript"].map(|name| stack.folder.path().join(name));
        // A former one has left its own behind.
        let _ = std::fs::remove_file(&typescript);
        let program = env!("CARGO_BIN_EXE_event-router");
        let line =
            format!("stty cols 80 rows 24; echo $$ > {}; exec {program} top -c {file}", pid_file.display());
        let mut command = std::process::Command::new("script");
        command.args(["--quiet", "--return", "--flush", "--command", &line]).arg(&typescript);
        command.env("TERM", "xterm-256color").env("SHELL", "/bin/sh");
        let script = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
        let script = script.expect("`script` of util-linux, which every Debian has");
        let top = Top { script, typescript, pid_file };
        top.wait_for("DESTINATION");
        top
    }

    /// Waits until it has written this to the terminal.
    fn wait_for(&self, part: &str) {
        let shown =
            || String::from_utf8_lossy(&std::fs::read(&self.typescript).unwrap_or_default()).into_owned();
        assert!(wait_until(LIMIT, || shown().contains(part)), "no {part:?} in {:?}", shown());
    }

    fn press(&mut self, keys: &[u8]) {
        let stdin = self.script.stdin.as_mut().expect("a pipe");
        stdin.write_all(keys).and_then(|()| stdin.flush()).expect("the terminal takes keys");
    }

    /// Waits for its end. It must have left the alternate screen and shown the cursor.
    fn end(mut self) -> Option<i32> {
        let code = self.script.wait().expect("it ends").code();
        self.wait_for("\u{1b}[?1049l");
        self.wait_for("\u{1b}[?25h");
        code
    }
}

#[test]
fn top_draws_the_router_and_restores_the_terminal() {
    let stack = Stack::new(Options::default(), ["batched"]);
    let config = stack.config();
    let file = stack.write(&config).display().to_string();
    let router = stack.start(&config);
    // A destination is shown once it has events.
    stack.vcenter.append(10);
    stack.targets[0].wait_for(10, LIMIT);
    let mut top = Top::start(&stack, &file);
    top.wait_for("target-0");
    // Open the destination, go back, and end.
    top.press(b"\r");
    top.wait_for("breaker");
    top.press(b"\x7fq");
    assert_eq!(top.end(), Some(0));
    // Ctrl-C is a key in a terminal; a signal comes from elsewhere.
    let mut top = Top::start(&stack, &file);
    top.press(b"\x03");
    assert_eq!(top.end(), Some(0));
    let top = Top::start(&stack, &file);
    let pid = std::fs::read_to_string(&top.pid_file).expect("its id");
    let kill = std::process::Command::new("kill").args(["-TERM", pid.trim()]).status();
    assert!(kill.is_ok_and(|kill| kill.success()));
    assert_eq!(top.end(), Some(0));
    // Without a terminal, or without a router, it says so.
    assert!(bad(&["top", "-c", &file], 1).contains("needs a terminal"));
    drop(router);
}
