//! `check` reports what `run` would run into: the data directory, keys, rights and exposed secrets.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::common::child::Process;
use crate::common::config::Section;
use crate::common::router::{Launch, Router};
use crate::common::stack::Stack;
use crate::common::wait_until;
use serde_json::json;
use testbed::vcenter::{Options, Trouble};

const LIMIT: Duration = Duration::from_secs(60);

/// Exit code and all output of `check` with these arguments.
fn check(arguments: &[&str]) -> (Option<i32>, String) {
    let all = [&["check"], arguments].concat();
    let output = Launch::new(all.iter().copied()).command().output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

#[track_caller]
fn expect(arguments: &[&str], code: i32, parts: &[&str]) -> String {
    let (found, told) = check(arguments);
    assert_eq!(found, Some(code), "{told}");
    parts.iter().for_each(|part| assert!(told.contains(part), "no {part:?} in:\n{told}"));
    told
}

/// A configuration that needs no peer.
fn write(folder: &Path, text: &str) -> String {
    let path = folder.join("config.yaml");
    fs::write(&path, format!("apiVersion: event-router/v1\n{text}")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path.display().to_string()
}

const PARTS: &str = "sources: [{name: vc, type: vcenter, address: vc.example, username: u, password: long-enough}]\nprocessors: [{name: p, type: blackhole}]\n";

#[test]
fn an_unusable_data_directory_is_found_before_a_start() {
    let folder = tempfile::tempdir().unwrap();
    let with = |dir: &str| write(folder.path(), &format!("dataDir: {dir}\n{PARTS}"));
    let path = |name: &str| folder.path().join(name).display().to_string();
    fs::write(path("file"), "").unwrap();
    for (dir, part) in [
        (path("file"), "not a directory"),
        ("/proc/event-router".into(), "cannot make the directory"),
        ("/sys/event-router".into(), "cannot make the directory"),
        (path(&"x".repeat(300)), "too long"),
    ] {
        expect(&[&with(&dir)], 2, &[part, "config.yaml: "]);
        expect(&["--no-secrets", &with(&dir)], 0, &[]);
    }
    for (dir, begin) in [("~/er", "`~`"), ("$HOME/er", "`$HOME`")] {
        expect(&[&with(dir)], 2, &["config.yaml:2: dataDir: begins with", begin]);
    }
    let told = expect(&["--config", &with(&path("new"))], 0, &["1 source, 1 processor, 1 route"]);
    assert!(told.contains(&format!("data directory {} (made by the first `run`)", path("new"))), "{told}");
    assert!(!folder.path().join("new").exists(), "a check makes nothing");
}

#[test]
fn a_file_is_checked_without_its_secrets() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(
        folder.path(),
        "dataDir: /proc/x\nsources: [{name: vc, type: vcenter, address: vc.example, username: u, passwordFile: /none/such, tls: {caFile: /none/ca}}]\nprocessors: [{name: p, type: cloudevents, url: 'https://x', auth: {token: '${NO_SUCH_TOKEN}'}}]\n",
    );
    expect(
        &[&file],
        2,
        &["passwordFile: cannot read", "caFile: cannot be read", "`NO_SUCH_TOKEN` is not set"],
    );
    expect(&["--no-secrets", &file], 0, &["1 source"]);
    // Every other mistake is still one.
    let wrong = fs::read_to_string(&file).unwrap().replace("username", "usrname");
    fs::write(&file, wrong).unwrap();
    expect(&["--no-secrets", &file], 2, &["`usrname`", "did you mean `username`?"]);
    expect(&["--no-secrets", "--connect", &file], 2, &["cannot be used with"]);
}

#[test]
fn an_unknown_type_does_not_hide_other_errors() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(
        folder.path(),
        "ephemeral: true\nsources:\n  - name: vc\n    type: vcentre\n    address: vc.example\n    usrname: u\n    password: long-enough\n    pageSize: 0\nprocessors: [{name: p, type: blackhole}]\n",
    );
    expect(
        &[&file],
        2,
        &[
            "config.yaml:5: sources[0].type: must be",
            "config.yaml:7: ",
            "`usrname`",
            "config.yaml:9: sources[0].pageSize",
        ],
    );
}

#[test]
fn exposed_secrets_and_settings_that_lose_events_are_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    let file = write(
        folder.path(),
        "ephemeral: true\nadmin: {bindAddress: '0.0.0.0:1', auth: {token: abc}}\nsources:\n  - {name: a, type: vcenter, address: 'http://vc.example', username: u, password: long-enough, sweep: {interval: 5m, window: 1m}}\n  - {name: b, type: vcenter, address: 'http://vc.example', username: u, password: long-enough, tls: {insecure: true, caFile: /etc/ssl/certs/ca-certificates.crt}}\nprocessors: [{name: p, type: blackhole}]\n",
    );
    let told = expect(
        &["--no-secrets", &file],
        0,
        &[
            "config.yaml:3: warning: admin.auth.token: has fewer than 4 characters",
            "config.yaml:3: warning: admin.bindAddress: clients send the credentials of `auth` over plain HTTP",
            "config.yaml:5: warning: sources[0].address: sends credentials over plain HTTP",
            "config.yaml:5: warning: sources[0].sweep.window: a sweep every 5m that reads the last 1m misses",
            "config.yaml:6: warning: sources[1].address: source `a` reads the same vCenter",
            "config.yaml:6: warning: sources[1].tls: `insecure` accepts any certificate, so `caFile` has no effect",
        ],
    );
    assert!(!told.contains("chmod"), "{told}");
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let told = expect(
        &["--no-secrets", &file],
        0,
        &["config.yaml:3: warning: admin.auth.token: every user of this machine"],
    );
    assert_eq!(told.matches("chmod").count(), 1, "{told}");
    // The formats of the old router.
    let old = "eventProvider: {type: vcenter, name: vc, vcenter: {address: 'http://vc.example/sdk', auth: {type: basic_auth, basicAuth: {username: u, password: abc}}}}\n\
               eventProcessor: {type: openfaas, name: fn, openfaas: {address: 'http://gw.example', auth: {type: basic_auth, basicAuth: {username: u, password: long-enough}}}}\n\
               metricsProvider: {type: default, name: m, default: {}}\n";
    fs::write(&file, old).unwrap();
    expect(
        &[&file],
        0,
        &[
            "config.yaml:1: warning: eventProvider.vcenter.address: sends credentials over plain HTTP",
            "config.yaml:1: warning: eventProvider.vcenter.auth.basicAuth.password: has fewer than 4 characters",
            "config.yaml:1: warning: eventProvider.vcenter.auth.basicAuth.password: every user",
            "config.yaml:2: warning: eventProcessor.openfaas.address: sends credentials over plain HTTP",
            "config.yaml:3: warning: metricsProvider.default.bindAddress: everybody who reaches this address",
            "no data directory: positions and waiting events are kept only while the router runs",
        ],
    );
}

/// The second one could never start.
#[test]
fn two_listeners_on_one_address_are_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let check = |admin: &str, second: &str, exit, told: &[&str]| {
        let text = format!(
            "ephemeral: true\nadmin: {{bindAddress: '{admin}'}}\nsources:\n  - {{name: a, type: webhook, bindAddress: '127.0.0.1:9001'}}\n  - {{name: b, type: webhook, bindAddress: '{second}'}}\nprocessors: [{{name: p, type: blackhole}}]\n"
        );
        expect(&["--no-secrets", &write(folder.path(), &text)], exit, told);
    };
    let taken = "config.yaml:6: sources[1].bindAddress: source `a` listens on `127.0.0.1:9001`, so";
    check("none", "127.0.0.1:9001", 2, &[taken]);
    check("none", "0.0.0.0:9001", 2, &[taken]);
    check("none", "127.0.0.1:9002", 0, &[]);
    let admin = "config.yaml:6: sources[1].bindAddress: `admin.bindAddress` is `0.0.0.0:9002`, so";
    check("0.0.0.0:9002", "127.0.0.1:9002", 2, &[admin]);
}

#[test]
fn a_key_that_is_not_its_certificates_is_found_before_a_start() {
    let stack = Stack::new(Options::default(), ["batched"]);
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    for name in ["one", "other"] {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        fs::write(path(&format!("{name}.crt")), made.cert.pem()).unwrap();
        fs::write(path(&format!("{name}.key")), made.signing_key.serialize_pem()).unwrap();
    }
    let pair = |key: &str| json!({"certFile": path("one.crt"), "keyFile": path(key)});
    for (key, code) in [("one.key", 0), ("other.key", 2)] {
        let source = stack.config().set_source("vc", "tls", pair(key));
        let source = source.set_source("vc", "address", "https://vc.example/sdk").text();
        let admin = stack.config().set_admin("tls", pair(key)).text();
        for text in [source, admin] {
            fs::write(path("c.yaml"), &text).unwrap();
            let (found, told) = check(&[&path("c.yaml")]);
            assert_eq!(found, Some(code), "{key}: {told}");
            assert!(code == 0 || told.contains("one.crt") || told.contains("belong together"), "{told}");
        }
    }
}

#[test]
fn missing_rights_and_two_sources_of_one_vcenter_are_found_by_connecting() {
    let stack = Stack::new(Options::default(), ["batched"]);
    let file = stack.write(&stack.config()).display().to_string();
    for method in ["CreateCollectorForEvents", "ReadNextEvents"] {
        stack.vcenter.trouble(method, 1, Trouble::Fault("NoPermission".into()));
        expect(&["--connect", &file], 1, &["NoPermission", "Read-only"]);
    }
    expect(&["--connect", &file], 0, &[" ok ", "admin", "can listen on 127.0.0.1:"]);
    // The same vCenter under two names, in `check` and in `run`.
    let address = stack.vcenter.url().replace("127.0.0.1", "localhost");
    let user = Options::default();
    let twin = Section::vcenter("twin", &address, &user.user, &user.password);
    let config = stack.config().source(twin);
    let file = stack.write(&config).display().to_string();
    expect(&["--connect", &file], 0, &["source twin is the same vCenter as source vc"]);
    let router: Router = stack.start(&config);
    let told = || router.stderr().contains("two sources read the same vCenter");
    assert!(wait_until(LIMIT, told), "{}", router.stderr().text());
}

#[test]
fn an_interrupted_check_logs_out() {
    let stack = Stack::new(Options::default(), ["batched"]);
    let file = stack.write(&stack.config()).display().to_string();
    stack.vcenter.trouble("CreateCollectorForEvents", 1, Trouble::Hang);
    let mut child = Process::spawn(&mut Launch::new(["check", "--connect", "-c", &file]).command());
    let logged_in = || stack.vcenter.counters().calls_of("CreateCollectorForEvents") > 0;
    assert!(wait_until(LIMIT, logged_in), "{}", child.stderr.text());
    child.signal("INT");
    assert_eq!(child.wait(LIMIT).and_then(|status| status.code()), Some(1), "{}", child.stderr.text());
    assert_eq!(stack.vcenter.counters().calls_of("Logout"), 1);
}
