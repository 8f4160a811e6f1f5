//! Servers that repeat every secret that the router knows, in every escaping, and events that try
//! to forge output. Logs in both formats, pages, commands, the store, backups and dead-letter
//! targets are searched.
//!
//! Each answer has the mark [`MARK`], so that a test notices if an answer is not shown at all and
//! so proves nothing.

mod configuration;
mod forged;
mod forms;
mod servers;

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::router::Router;
use crate::common::stack::Stack;
use crate::common::{http_get_with, wait_until};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use forms::*;
use servers::{aws, collector, gateway, target, vcenter};
use testbed::vcenter::Options;

const LIMIT: Duration = Duration::from_secs(60);
/// Is in the answers of all servers, before the secret.
const MARK: &str = "repeated:";

/// The values of `knativeerrordata` in JSON.
fn error_data(text: &str) -> String {
    let values = text.split("\"knativeerrordata\":\"").skip(1).filter_map(|rest| rest.split('"').next());
    values.map(|value| String::from_utf8(BASE64_STANDARD.decode(value).unwrap()).unwrap() + "\n").collect()
}

struct Servers {
    letters: SocketAddr,
    got: Arc<Mutex<String>>,
}

/// A configuration with all secrets, and servers that repeat them.
fn config(stack: &Stack, format: &str, servers: &Servers) -> String {
    let folder = stack.folder.path();
    let url_file = folder.join("url");
    let hook = target(&[PATH, QUERY]);
    std::fs::write(&url_file, format!("http://{hook}/hooks/{PATH}?sig={QUERY}\n")).unwrap();
    let user = Options::default().user;
    // In a double-quoted scalar of YAML, as in JSON.
    let quoted = |text: &str| serde_json::to_string(text).unwrap();
    let failing: String = (0..6)
        .map(|n| {
            format!(
                "  - {{name: failing-{n}, type: vcenter, address: 'http://{}', protocol: soap, username: ro, password: {}}}\n",
                vcenter(),
                quoted(VCENTER)
            )
        })
        .collect();
    let refusing = [
        ("bearer", format!("url: 'http://{}/', auth: {{token: {}}}", target(&[BEARER]), quoted(BEARER))),
        ("header", format!("url: 'http://{}/', headers: {{X-Key: {}}}", target(&[HEADER]), quoted(HEADER))),
        (
            "basic",
            format!(
                "url: 'http://{}/', auth: {{username: user, password: {}}}",
                target(&[BASIC]),
                quoted(BASIC)
            ),
        ),
        ("proxied", format!("url: 'http://t.invalid/', proxy: 'http://user:{PROXY}@{}'", target(&[PROXY]))),
        ("file", format!("urlFile: {}", quoted(url_file.to_str().unwrap()))),
        ("variable", "url: '${TAINT_URL}'".to_owned()),
        ("query", format!("url: 'http://{}/plain?token={QUERY}'", target(&[QUERY]))),
    ];
    let refusing: String = refusing
        .iter()
        .flat_map(|(name, settings)| {
            // One that stores its dead letters, and one that passes them on.
            [("", ""), ("-on", ", deadLetterTo: letters")].map(|(suffix, more)| {
                format!("  - {{name: {name}{suffix}, type: cloudevents, ordering: none, {settings}, retry: {{blame: {{3xx: event, 4xx: event}}}}{more}}}\n")
            })
        })
        .collect();
    let gateways: String = (0..4)
        .map(|n| {
            format!(
                "  - {{name: gateway-{n}, type: openfaas, gateway: 'http://{}', auth: {{username: admin, password: {}}}}}\n",
                gateway(),
                quoted(GATEWAY)
            )
        })
        .collect();
    format!(
        "apiVersion: event-router/v1
dataDir: {}
admin: {{bindAddress: '{}', auth: {{username: operator, password: {ADMIN}}}}}
shutdownTimeout: 1s
log: {{level: trace, format: {format}}}
sources:
  - {{name: vc, type: vcenter, address: '{}', username: {user}, password: {}, startAt: beginning}}
{failing}processors:
  - {{name: letters, type: cloudevents, url: 'http://{}/'}}
{refusing}{gateways}  - name: aws
    type: eventbridge
    region: eu-central-1
    auth: {{accessKeyId: AK, secretAccessKey: {}, sessionToken: {}}}
    endpoint: http://{}
    buses: [{{name: default, forwardAll: true}}]
    retry: {{attempts: 50, backoffMin: 10ms, backoffMax: 20ms}}
",
        stack.data().display(),
        stack.admin,
        stack.vcenter.url(),
        quoted(VCENTER),
        servers.letters,
        quoted(AWS_KEY),
        quoted(AWS_TOKEN),
        aws(),
    )
}

fn command(config: &Path, env: &(String, String), args: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_event-router"))
        .args(args)
        .arg("--config")
        .arg(config)
        .env_remove("EVENT_ROUTER_CONFIG")
        .env(&env.0, &env.1)
        .output()
        .unwrap();
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

fn no_secret_is_shown(format: &str) {
    let options = Options { backlog: 40, password: VCENTER.into(), ..Options::default() };
    let stack = Stack::new(options, std::iter::empty::<&str>());
    let (letters, got) = collector();
    let servers = Servers { letters, got };
    let text = config(&stack, format, &servers);
    let hook = target(&[VARIABLE]);
    let env = ("TAINT_URL".to_owned(), format!("http://{hook}/x/{VARIABLE}?y={VARIABLE}"));
    let variables = vec![env.clone(), ("RUST_LOG".to_owned(), "trace".to_owned())];
    let mut router = Router::spawn_with(stack.folder.path(), stack.admin, &text, variables);
    let file = stack.config_file();
    // Wait until every server has repeated its secrets several times, and was quoted.
    let stored = || command(&file, &env, &["dlq", "list", "--json"]);
    let names = ["bearer", "header", "basic", "proxied", "file", "variable", "query"];
    let is_done = |listed: &str, name: &str| {
        let its = listed.lines().filter(|line| line.contains(&format!("\"destination\":\"{name}\"")));
        its.filter(|line| line.contains(MARK)).count() >= 30
    };
    let mut listed = String::new();
    let came = wait_until(LIMIT, || {
        listed = stored();
        names.iter().all(|name| is_done(&listed, name))
    });
    assert!(came, "{listed}\n{}", router.stderr().text());
    let authorization =
        format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(format!("operator:{ADMIN}")));
    let page = |path: &str| http_get_with(stack.admin, path, &authorization, LIMIT).unwrap().1;
    // Each source has failed, and says so in the words of the vCenter.
    let mut ready = String::new();
    let failed = wait_until(LIMIT, || {
        ready = page("/readyz");
        ready.matches(MARK).count() >= 4
    });
    assert!(failed, "{ready}");
    let log = || router.stderr().text();
    assert!(wait_until(LIMIT, || log().contains("/system/namespaces")), "{}", log());
    assert!(wait_until(LIMIT, || log().matches("Refused").count() >= 3), "{}", log());
    // Pages and commands.
    for path in ["/metrics", "/stats", "/readyz", "/healthz", "/"] {
        search(path, &page(path));
    }
    let backup = stack.folder.path().join("backup.db");
    for args in [
        &["dlq", "list"][..],
        &["dlq", "list", "--json"],
        &["dlq", "show", "1"],
        &["dlq", "show", "2", "--json"],
        &["checkpoint", "show"],
        &["spool", "list"],
        &["backup", backup.to_str().unwrap()],
        &["check"],
        &["check", "--connect"],
    ] {
        search(&args.join(" "), &command(&file, &env, args));
    }
    // The dead-letter target.
    let sent = wait_until(LIMIT, || error_data(&servers.got.lock().unwrap()).matches(MARK).count() >= 100);
    let got = servers.got.lock().unwrap().clone();
    assert!(sent, "{got}");
    search("the dead-letter target", &got);
    search("knativeerrordata", &error_data(&got));
    router.terminate(LIMIT);
    // The log. Its lines are whole, and JSON if they are to be.
    let log = router.stderr().text();
    search("stdout", &router.stdout().text());
    search("the log", &log);
    assert!(log.contains(MARK) && log.contains('…'));
    if format == "json" {
        for line in log.lines().filter(|line| line.starts_with('{')) {
            let _: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
        }
        assert!(log.lines().filter(|line| line.starts_with('{')).count() > 100);
    }
    // The store and its backup. Their compressed parts are the events of dead letters and spools.
    let files = std::fs::read_dir(stack.data()).unwrap().map(|entry| entry.unwrap().path());
    for path in files.chain([backup]).filter(|path| path.is_file()) {
        search(&path.display().to_string(), &String::from_utf8_lossy(&std::fs::read(&path).unwrap()));
    }
    let reader = event_router::state::StoreReader::open(&stack.data()).unwrap();
    for letter in reader.dead_letters(&Default::default()).unwrap() {
        search("a dead letter", &format!("{letter:?}"));
        let whole = reader.dead_letter(letter.row).unwrap().unwrap();
        if let Ok(batch) = event_router::state::codec::decode_blob(whole.payload.bytes()) {
            search("a dead letter's event", &format!("{:?}", batch.failed));
            search("a dead letter's event", &String::from_utf8_lossy(&batch.arena));
        }
    }
}

#[test]
fn repeated_secrets_are_nowhere_with_logs_for_people() {
    no_secret_is_shown("human");
}

#[test]
fn repeated_secrets_are_nowhere_with_logs_in_json() {
    no_secret_is_shown("json");
}

/// A secret URL has the same name everywhere: scheme, host and a hash. A plain one stays readable.
#[test]
fn a_secret_url_is_shown_by_host_and_hash() {
    let stack = Stack::new(Options { backlog: 1, ..Options::default() }, std::iter::empty::<&str>());
    let (letters, got) = collector();
    let hook = target(&[PATH]);
    let url_file = stack.folder.path().join("url");
    std::fs::write(&url_file, format!("http://{hook}/hooks/{PATH}?sig={QUERY}\n")).unwrap();
    let (user, password) = (Options::default().user, Options::default().password);
    let text = format!(
        "apiVersion: event-router/v1
dataDir: {}
admin: {{bindAddress: '{}'}}
sources: [{{name: vc, type: vcenter, address: '{}', username: {user}, password: {password}, startAt: beginning}}]
processors:
  - {{name: letters, type: cloudevents, url: 'http://{letters}/kept/here?sig={QUERY}'}}
  - {{name: hook, type: cloudevents, urlFile: '{}', retry: {{blame: {{4xx: event}}}}, deadLetterTo: letters}}
",
        stack.data().display(),
        stack.admin,
        stack.vcenter.url(),
        url_file.display(),
    );
    let mut router = Router::start(stack.folder.path(), stack.admin, &text);
    let name = format!("http://{hook}/#");
    let sent = wait_until(LIMIT, || got.lock().unwrap().contains("knativeerrordest"));
    let got = got.lock().unwrap().clone();
    assert!(sent && got.contains(&format!("\"knativeerrordest\":\"{name}")), "{got}");
    let (_, stats) = http_get_with(stack.admin, "/stats", "", LIMIT).unwrap();
    assert!(stats.contains(&name), "{stats}");
    assert!(stats.contains(&format!("http://{letters}/kept/here?sig=…")), "{stats}");
    let env = ("TAINT".to_owned(), String::new());
    let shown = command(&stack.config_file(), &env, &["check", "--connect"]);
    assert!(shown.contains(&name), "{shown}");
    router.terminate(LIMIT);
    let log = router.stderr().text();
    assert!(log.contains(&name), "{log}");
    for (what, text) in [("stats", stats), ("check", shown), ("the log", log)] {
        search(what, &text);
    }
}
