//! The commands that show events and their ways, as an operator types them.

use serde_json::{Value, json};
use testbed::openfaas::{Function, Gateway, GatewayOptions};
use testbed::vcenter::{Options, VCenter};

use crate::common::config::{RouterConfig, Section};
use crate::common::free_address;
use crate::common::router::Launch;

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

    // Events of a file, as the router delivers them. Their unknown severity passes the route of
    // errors.
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
    assert_eq!(takes(0), [&Value::Null, &true.into(), &true.into()], "{told}");
    assert_eq!(takes(1), [&Value::Null, &false.into(), &true.into()], "{told}");
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
