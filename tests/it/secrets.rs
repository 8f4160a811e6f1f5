//! A secret never reaches a log, a metric, an error or a dump. Every place of a configuration that
//! takes a secret gets one. The router goes through success and every kind of failure, and all its
//! output is searched for the secrets, plain and encoded.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::common::router::Router;
use crate::common::stack::Stack;
use crate::common::{free_address, http_get_with, wait_until};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use testbed::sink::Behavior;
use testbed::vcenter::Options;

const LIMIT: Duration = Duration::from_secs(30);

const VCENTER: &str = "planted-vcenter-Pa55";
const BEARER: &str = "planted-bearer-t0ken";
const HEADER: &str = "planted-header-k3y";
const BASIC: &str = "planted-basic-pa55";
const PROXY: &str = "planted-proxy-pa55";
const GATEWAY: &str = "planted-gateway-pa55";
const AWS_KEY: &str = "planted-aws-s3cret";
const AWS_TOKEN: &str = "planted-aws-session";
const ADMIN: &str = "planted-admin-pa55";
const USERINFO: &str = "planted-userinfo-pa55";
const SECRETS: [&str; 10] =
    [VCENTER, BEARER, HEADER, BASIC, PROXY, GATEWAY, AWS_KEY, AWS_TOKEN, ADMIN, USERINFO];

/// Forms of a secret after a transformation.
fn looks(secret: &str) -> Vec<String> {
    let users = ["admin", "operator", "user"].map(|user| format!("{user}:{secret}"));
    let encoded = users.iter().map(|pair| BASE64_STANDARD.encode(pair));
    // Base64 in the middle of a longer text: the common part of all three alignments.
    let inner = (0..3).map(|at| BASE64_STANDARD.encode(&secret.as_bytes()[at..]));
    let inner = inner.map(|text| text[..text.len() - 4].to_owned());
    let reversed = secret.chars().rev().collect();
    [secret.to_owned(), reversed].into_iter().chain(encoded).chain(inner).collect()
}

#[track_caller]
fn search(what: &str, bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    for secret in SECRETS {
        for look in looks(secret) {
            if let Some(at) = text.find(&look) {
                let around: String =
                    text[..at].chars().rev().take(200).collect::<Vec<_>>().into_iter().rev().collect();
                let line = text[..at].rfind('\n').map_or(0, |at| at + 1);
                let line: String = text[line..at].chars().take(300).collect();
                panic!("{what} shows {secret} as {look:?}, behind {around:?}, in the line {line:?}");
            }
        }
    }
}

/// A target that refuses everything and echoes the request in its answer, as some do for debugging.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            std::thread::spawn(move || {
                let mut stream = stream;
                let mut request = Vec::new();
                let mut part = [0; 4096];
                // Until the request pauses: the test's requests come in one piece.
                let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
                while let Ok(length @ 1..) = stream.read(&mut part) {
                    request.extend_from_slice(&part[..length]);
                }
                // The headers that matter first, since only the beginning of an answer is kept.
                let text = String::from_utf8_lossy(&request).into_owned();
                let is_secret =
                    |line: &&str| line.to_lowercase().contains("auth") || line.contains("planted");
                let said: Vec<&str> = text.lines().filter(is_secret).collect();
                let said = said.join(" ");
                let _ = write!(
                    stream,
                    "HTTP/1.1 400 Bad Request\r\nContent-Length: {}\r\nX-Echo: {said}\r\nConnection: close\r\n\r\n{said}",
                    said.len()
                );
            });
        }
    });
    address
}

/// A secret in every place that a configuration has for one.
fn config(stack: &Stack) -> String {
    let (nobody, echo, admin) = (free_address(), echo(), stack.admin);
    let (data, vcenter) = (stack.data(), stack.vcenter.url());
    // Libraries of the router also log at this level.
    format!(
        "apiVersion: event-router/v1
dataDir: {}
admin:
  bindAddress: {admin}
  auth: {{username: operator, password: {ADMIN}}}
shutdownTimeout: 1s
log: {{level: trace, invocations: true}}
sources:
  - name: vc
    type: vcenter
    address: {vcenter}
    username: {}
    password: {VCENTER}
    startAt: beginning
processors:
  - name: target-0
    type: cloudevents
    url: {}
    mode: structured
    retry: {{blame: {{400: event}}}}
  - name: echo-bearer
    type: cloudevents
    url: http://{echo}/bearer
    auth: {{token: {BEARER}}}
    headers: {{X-Api-Key: {HEADER}}}
    retry: {{blame: {{4xx: event}}}}
  - name: echo-basic
    type: cloudevents
    url: http://{echo}/basic
    auth: {{username: user, password: {BASIC}}}
    retry: {{blame: {{4xx: event}}}}
  - name: nobody
    type: cloudevents
    url: http://{nobody}/
    auth: {{token: {BEARER}}}
  - name: proxied
    type: cloudevents
    url: http://target.invalid/
    proxy: http://user:{PROXY}@{echo}
    retry: {{blame: {{4xx: event}}}}
  - name: proxied-by-nobody
    type: cloudevents
    url: http://target.invalid/
    proxy: http://user:{PROXY}@{nobody}
  - name: aws
    type: eventbridge
    region: eu-central-1
    auth: {{accessKeyId: AKPLANTED, secretAccessKey: {AWS_KEY}, sessionToken: {AWS_TOKEN}}}
    endpoint: http://{echo}
    buses: [{{name: default, forwardAll: true}}]
",
        data.display(),
        Options::default().user,
        stack.targets[0].sink.url(),
    )
}

/// As [`config`], with a gateway that never lists its functions: nothing is read before it has.
fn config_with_functions(stack: &Stack) -> String {
    let functions = format!(
        "  - name: functions
    type: openfaas
    gateway: http://{}
    auth: {{username: admin, password: {GATEWAY}}}
",
        echo()
    );
    config(stack) + &functions
}

fn command(config: &Path, args: &[&str]) -> (String, Vec<u8>) {
    let output = Command::new(env!("CARGO_BIN_EXE_event-router"))
        .args(args)
        .arg("--config")
        .arg(config)
        .env_remove("EVENT_ROUTER_CONFIG")
        .env("RUST_BACKTRACE", "full")
        .env("RUST_LOG", "trace")
        .output()
        .unwrap();
    (format!("`{}`", args.join(" ")), [output.stdout, output.stderr].concat())
}

#[test]
fn planted_secrets_are_nowhere() {
    let stack =
        Stack::new(Options { backlog: 20, password: VCENTER.into(), ..Options::default() }, ["structured"]);
    stack.targets[0].sink.next(3, Behavior::status(400));
    let text = config(&stack);
    let mut router = Router::spawn_with(
        stack.folder.path(),
        stack.admin,
        &text,
        vec![("RUST_BACKTRACE".into(), "full".into()), ("RUST_LOG".into(), "trace".into())],
    );
    let came = wait_until(LIMIT, || stack.targets[0].tally().unique == 17);
    assert!(came, "{}", router.stderr().text());
    // Every failing destination has failed: a dead letter for a refusal, a breaker for an
    // unreachable target.
    let file = stack.config_file();
    let letters = || String::from_utf8(command(&file, &["dlq", "list", "--json"]).1).unwrap();
    let failed = |name: &str| letters().matches(&format!("\"destination\":\"{name}")).count() >= 20;
    for name in ["echo-bearer", "echo-basic", "proxied\""] {
        assert!(wait_until(LIMIT, || failed(name)), "{name}: {}", letters());
    }
    // A refused password, after the end of a session.
    stack.vcenter.set_password("another");
    stack.vcenter.kill_sessions();
    assert!(wait_until(LIMIT, || router.stderr().contains("InvalidLogin")), "{}", router.stderr().text());

    let authorization =
        format!("Authorization: Basic {}\r\n", BASE64_STANDARD.encode(format!("operator:{ADMIN}")));
    for path in ["/metrics", "/stats", "/readyz", "/healthz", "/", "/nothing"] {
        let (_, body) = http_get_with(stack.admin, path, &authorization, LIMIT).unwrap();
        search(path, body.as_bytes());
    }
    let backup = stack.folder.path().join("backup.db");
    for args in [
        &["dlq", "list"][..],
        &["dlq", "list", "--json"],
        &["dlq", "show", "1"],
        &["dlq", "show", "1", "--json"],
        &["dlq", "replay", "--all"],
        &["checkpoint", "show"],
        &["backup", backup.to_str().unwrap()],
        &["check"],
        &["check", "--connect"],
        &["events", "list"],
    ] {
        let (what, shown) = command(&file, args);
        assert!(!shown.is_empty(), "{what} says something");
        search(&what, &shown);
    }
    search("the backup", &std::fs::read(&backup).unwrap());
    router.terminate(LIMIT);
    search("stdout", router.stdout().text().as_bytes());
    search("stderr", router.stderr().text().as_bytes());
    for entry in std::fs::read_dir(stack.data()).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            search(&entry.path().display().to_string(), &std::fs::read(entry.path()).unwrap());
        }
    }
    // The compressed parts are the events that dead letters and spools hold.
    let letters = event_router::state::StoreReader::open(&stack.data()).unwrap();
    for letter in letters.dead_letters(&Default::default()).unwrap() {
        search("a dead letter", format!("{letter:?}").as_bytes());
        let whole = letters.dead_letter(letter.row).unwrap().unwrap();
        if let Ok(batch) = event_router::state::codec::decode_blob(whole.payload.bytes()) {
            search("a dead letter's event", format!("{:?}", batch.failed).as_bytes());
            search("a dead letter's event", &batch.arena);
        }
    }
}

#[test]
fn a_gateway_that_refuses_shows_no_secret() {
    let stack = Stack::new(Options { password: VCENTER.into(), ..Options::default() }, ["structured"]);
    let mut router = Router::spawn(stack.folder.path(), stack.admin, &config_with_functions(&stack));
    let refused = wait_until(LIMIT, || router.stderr().contains("functions"));
    assert!(refused && wait_until(LIMIT, || router.stderr().contains("400")), "{}", router.stderr().text());
    let (what, shown) = command(&stack.config_file(), &["check", "--connect"]);
    search(&what, &shown);
    router.signal("TERM");
    router.wait(LIMIT);
    search("stderr", router.stderr().text().as_bytes());
}

/// A panic shows formatted values, and they hold no secret.
#[test]
fn a_panic_shows_no_secret() {
    let stack = Stack::new(Options::default(), ["structured"]);
    let (loaded, _) =
        event_router::settings::load_str_with(&config(&stack), Path::new("config.yaml"), &|_| None).unwrap();
    let shown = std::panic::catch_unwind(|| panic!("{loaded:?} {loaded:#?}")).unwrap_err();
    let shown = shown.downcast::<String>().unwrap();
    assert!(shown.contains("proxied-by-nobody"));
    search("a panic", shown.as_bytes());
}

/// Credentials in an address are rejected, and not repeated.
#[test]
fn credentials_in_an_address_are_not_repeated() {
    let stack = Stack::new(Options::default(), ["structured"]);
    let good = config_with_functions(&stack);
    let file = stack.config_file();
    let vcenter = stack.vcenter.url();
    let target = stack.targets[0].sink.url();
    for (part, with) in [
        (vcenter.as_str(), vcenter.replace("http://", &format!("http://user:{USERINFO}@"))),
        (target.as_str(), target.replace("http://", &format!("http://user:{USERINFO}@"))),
        ("http://target.invalid/", format!("http://user:{USERINFO}@target.invalid/")),
        // Neither a number nor a list nor a map is a password.
        (VCENTER, format!("[{USERINFO}]")),
        (VCENTER, format!("{{a: {USERINFO}}}")),
        (BEARER, format!("\"{USERINFO}\\n\\u0001\"")),
        (PROXY, format!("{USERINFO} with a space")),
        (HEADER, format!("\"{USERINFO}\\u0001\"")),
    ] {
        std::fs::write(&file, good.replace(part, &with)).unwrap();
        let (what, shown) = command(&file, &["check"]);
        search(&format!("{what} of {part}"), &shown);
    }
}
