//! The operator's page: in a real browser, and its rules of access from a plain client.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use testbed::sink::Behavior;
use testbed::vcenter::{Options, Pace};

use crate::common::child::Process;
use crate::common::config::RouterConfig;
use crate::common::peer::peer;
use crate::common::stack::Stack;
use crate::common::{http_get, wait_until};

const LIMIT: Duration = Duration::from_secs(60);
/// A browser on a machine that is busy with other tests.
const BROWSER_LIMIT: Duration = Duration::from_secs(400);
/// The screen of the dead letters of the target that refuses some events.
const LETTERS: &str = "/dead-letters?destination=target-2";
const OPERATOR: (&str, &str) = ("operator", "operator-pa55word");
const VIEWER: (&str, &str) = ("viewer", "viewer-pa55word");

/// A vCenter with steady events; a target that is well, one that is down, and one that refuses some
/// events for good.
fn stack() -> Stack {
    let options = Options { backlog: 300, pace: Pace::Rate(20.0), ..Options::default() };
    let stack = Stack::new(options, ["batched", "batched", "structured"]);
    stack.targets[1].sink.set(Behavior::status(503));
    stack.targets[2].sink.refuse("VmPoweredOnEvent", Behavior::status(422));
    stack
}

fn credentials((username, password): (&str, &str)) -> Value {
    json!({"username": username, "password": password})
}

/// A configuration whose page may write.
fn config(stack: &Stack) -> RouterConfig {
    let config = stack.config().set_admin("auth", credentials(OPERATOR));
    config.set_admin("viewer", credentials(VIEWER)).set_admin("write", true)
}

/// A client of the page: the answer's status and body.
struct Client<'s> {
    stack: &'s Stack,
    client: reqwest::Client,
}

impl<'s> Client<'s> {
    fn new(stack: &'s Stack) -> Self {
        Client { stack, client: reqwest::Client::builder().no_proxy().build().unwrap() }
    }

    fn send(&self, request: reqwest::RequestBuilder, user: Option<(&str, &str)>) -> (u16, String) {
        let request = match user {
            Some((name, password)) => request.basic_auth(name, Some(password)),
            None => request,
        };
        self.stack.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    }

    fn get(&self, path: &str, user: Option<(&str, &str)>) -> (u16, String) {
        self.send(self.client.get(format!("http://{}{path}", self.stack.admin)), user)
    }

    /// Waits for the first dead letter. Its event is tried for some 20 s.
    fn wait_for_letters(&self) {
        let letters = || self.get(LETTERS, Some(OPERATOR)).1;
        assert!(wait_until(LIMIT, || letters().contains("VmPoweredOnEvent")), "{}", letters());
    }

    /// Posts a form, with this `Origin`.
    fn post(&self, path: &str, user: (&str, &str), origin: &str, form: &[(&str, &str)]) -> (u16, String) {
        let body: Vec<String> = form.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = self.client.post(format!("http://{}{path}", self.stack.admin));
        let request = request.header("origin", origin).body(body.join("&"));
        self.send(request.header("content-type", "application/x-www-form-urlencoded"), Some(user))
    }
}

#[test]
fn only_an_operator_with_a_form_of_the_page_changes_something() {
    let stack = stack();
    let router = stack.start(&config(&stack));
    let client = Client::new(&stack);
    client.wait_for_letters();
    assert_eq!(client.get(LETTERS, None).0, 401);
    assert_eq!(client.get("/", None).0, 401);
    let (code, page) = client.get(LETTERS, Some(VIEWER));
    assert!(code == 200 && page.contains("VmPoweredOnEvent") && !page.contains("method=\"post\""), "{page}");

    let (_, page) = client.get(LETTERS, Some(OPERATOR));
    let after = |mark: &str| page.split_once(mark).map_or("", |(_, rest)| rest);
    let token = after("name=\"token\" value=\"").split('"').next().unwrap().to_owned();
    assert_eq!(token.len(), 32, "{page}");
    let own = format!("http://{}", stack.admin);
    let without_token = [("destination", "target-2"), ("count", "999999")];
    let drop = "/dead-letters/drop";
    assert_eq!(client.post(drop, VIEWER, &own, &without_token).0, 403, "a viewer");
    assert_eq!(client.post(drop, OPERATOR, &own, &without_token).0, 403, "no token");
    let with_token = [("destination", "target-2"), ("count", "999999"), ("token", token.as_str())];
    assert_eq!(client.post(drop, OPERATOR, "http://evil.example", &with_token).0, 403, "another site");
    let (code, page) = client.post(drop, OPERATOR, &own, &with_token);
    assert!(code == 200 && page.contains("Nothing has changed"), "{page}");
    let all = [("count", "999999"), ("token", token.as_str())];
    assert!(client.post(drop, OPERATOR, &own, &all).1.contains("Choose a group"), "never all at once");

    // The right number drops them, and leaves a line in the log. The last ones may still come.
    stack.vcenter.set_pace(Pace::Idle);
    let dropped = || {
        let (_, page) = client.get(LETTERS, Some(OPERATOR));
        let typed = page.split_once("Type ").map_or("", |(_, rest)| rest).split(' ').next().unwrap_or("");
        let form = [("destination", "target-2"), ("count", typed), ("token", token.as_str())];
        client.post(drop, OPERATOR, &own, &form).1.contains("Dropped ")
    };
    assert!(wait_until(LIMIT, dropped), "{}", client.get(LETTERS, Some(OPERATOR)).1);
    let told = || router.stderr().contains("an operator changes dead letters");
    assert!(wait_until(LIMIT, told), "{}", router.stderr().text());
}

#[test]
fn the_page_changes_nothing_by_default_and_loads_nothing_from_elsewhere() {
    let stack = stack();
    let _router = stack.router();
    stack.targets[0].wait_for(300, LIMIT);
    let client = Client::new(&stack);
    let (code, page) = client.get("/dead-letters?destination=target-2", None);
    assert!(code == 200 && !page.contains("method=\"post\""), "{page}");
    let own = format!("http://{}", stack.admin);
    let form = [("destination", "target-2"), ("count", "1"), ("token", "")];
    assert_eq!(client.post("/dead-letters/drop", OPERATOR, &own, &form).0, 403);
    for path in [
        "/",
        "/events",
        "/tap",
        "/replay",
        "/dead-letters",
        "/source?name=vc",
        "/destination?name=target-0",
        "/page.css",
    ] {
        let request = client.client.get(format!("http://{}{path}", stack.admin)).send();
        let answer = stack.runtime.block_on(request).unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        let policy = answer.headers()["content-security-policy"].to_str().unwrap();
        assert!(policy.starts_with("default-src 'self';"), "{policy}");
    }
    assert_eq!(http_get(stack.admin, "/destination?name=none", LIMIT).unwrap().0, 404);
    // Another name for this machine could be that of another web site.
    let request = client.client.get(format!("http://{}/events", stack.admin)).header("host", "evil.example");
    let (_, page) = client.send(request, None);
    assert!(page.contains("Set <code>admin.auth</code>") && !page.contains("specversion"), "{page}");
}

#[test]
fn updates_are_bounded_and_leave_room_for_health() {
    let stack = stack();
    let _router = stack.router();
    let client = Client::new(&stack);
    let open = || {
        let request = client.client.get(format!("http://{}/", stack.admin));
        stack.runtime.block_on(request.header("accept", "text/event-stream").send()).unwrap()
    };
    let streams: Vec<reqwest::Response> =
        (0..event_router::limits::PAGE_UPDATES_MAX).map(|_| open()).collect();
    assert!(streams.iter().all(|stream| stream.status() == 200));
    assert_eq!(open().status(), 503);
    assert_eq!(http_get(stack.admin, "/healthz", LIMIT).unwrap().0, 200);
    drop(streams);
    assert!(wait_until(LIMIT, || open().status() == 200), "the places are free again");
}

#[test]
fn write_needs_credentials_and_a_safe_connection() {
    let stack = stack();
    let check = |config: &RouterConfig, wanted: &str| {
        let mut router = stack.spawn(config);
        assert_eq!(router.wait(LIMIT).code(), Some(2), "{wanted}");
        assert!(router.stderr().contains(wanted), "{}", router.stderr().text());
    };
    check(&stack.config().set_admin("write", true), "`write` requires `auth`");
    let open = config(&stack).set_admin("bindAddress", "0.0.0.0:0");
    check(&open, "`write` requires `tls`");
    check(&stack.config().set_admin("viewer", credentials(VIEWER)), "`viewer` requires `auth`");
}

/// The modules of the browser test, which scripts/peers installs beside the programs.
fn modules(node: &Path) -> PathBuf {
    node.parent().and_then(Path::parent).expect("peers/bin/node").join("browser/node_modules")
}

#[test]
fn every_screen_works_in_a_browser() {
    let (Some(node), Some(chromium)) = (peer("node"), peer("chromium")) else { return };
    let stack = stack();
    let _router = stack.start(&config(&stack));
    stack.targets[0].wait_for(300, LIMIT);
    Client::new(&stack).wait_for_letters();
    let folder =
        std::env::var_os("PAGE_SCREENSHOTS").map_or_else(|| stack.folder.path().into(), PathBuf::from);
    let mut command = Command::new(&node);
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/browser/page.js"))
        .arg(chromium)
        .arg(format!("http://{}", stack.admin))
        .arg(folder)
        .env("NODE_PATH", modules(&node))
        .env("HOME", stack.folder.path())
        .stdin(Stdio::piped());
    let mut browser = Process::spawn(&mut command);
    let lines = browser.stdout.clone();
    let has = |line: &str| lines.all().iter().any(|have| have.starts_with(line));
    wait_until(BROWSER_LIMIT, || has("REPAIR") || !browser.running());
    assert!(has("REPAIR"), "{}\n{}", lines.text(), browser.stderr.text());
    for target in &stack.targets {
        target.sink.set(Behavior::default());
        target.sink.refuse_nothing();
    }
    let accepted = stack.targets[2].tally().unique;
    writeln!(browser.child.stdin.as_mut().expect("it is piped")).unwrap();
    let status = browser.wait(BROWSER_LIMIT);
    assert!(
        status.is_some_and(|status| status.success()) && has("DONE"),
        "{}\n{}",
        lines.text(),
        browser.stderr.text()
    );
    assert!(stack.targets[2].tally().unique > accepted, "the replayed events arrived");
    assert!(stack.targets[0].report().total.duplicates >= 300, "the range arrived once more");
}
