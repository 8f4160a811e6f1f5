//! Text from outside stays in bounded lines of its own.

use super::forms::HEADER;
use super::servers::{serve, target};
use super::{LIMIT, MARK, command};
use crate::common::router::Router;
use crate::common::stack::Stack;
use crate::common::{http_get_with, wait_until};
use testbed::vcenter::Options;

/// The words of an event and a fault of megabytes stay bounded lines of their own.
#[test]
fn text_from_outside_forges_and_floods_nothing() {
    // XML cannot carry an escape character, but its C1 form.
    const FORGED: &str = "com.x\r\n2026-01-01T00:00:00.000000Z ERROR forged\u{9b}2J\u{202e}\u{2028}.";
    let huge = serve(|n, _, _| {
        let text = format!("{MARK}\nforged {n} ").repeat(5_000_000 / 20);
        let fault =
            format!("<Envelope><Body><Fault><faultstring>{text}</faultstring></Fault></Body></Envelope>");
        ("500 Internal Server Error".into(), fault)
    });
    let stack = Stack::new(Options::default(), std::iter::empty::<&str>());
    let (user, password) = (Options::default().user, Options::default().password);
    let refusing = target(&[HEADER]);
    let text = format!(
        "apiVersion: event-router/v1
dataDir: {}
admin: {{bindAddress: '{}'}}
log: {{level: debug}}
sources:
  - {{name: vc, type: vcenter, address: '{}', username: {user}, password: {password}, startAt: beginning}}
  - {{name: huge, type: vcenter, address: 'http://{huge}', protocol: soap, username: ro, password: some-pa55}}
processors: [{{name: refusing, type: cloudevents, url: 'http://{refusing}/', retry: {{blame: {{3xx: event, 4xx: event}}}}}}]
",
        stack.data().display(),
        stack.admin,
        stack.vcenter.url(),
    );
    let mut router = Router::start(stack.folder.path(), stack.admin, &text);
    let forged: String = FORGED.chars().map(|char| format!("&#{};", u32::from(char))).collect();
    stack.vcenter.append_raw(
        "EventEx",
        &format!("<userName>u</userName><eventTypeId>{forged}</eventTypeId><severity>info</severity><message>m</message>"),
    );
    let log = || router.stderr().text();
    assert!(wait_until(LIMIT, || log().contains("becomes a dead letter")), "{}", log());
    assert!(wait_until(LIMIT, || log().contains(MARK)), "{}", log());
    let (_, ready) = http_get_with(stack.admin, "/readyz", "", LIMIT).unwrap();
    let (_, stats) = http_get_with(stack.admin, "/stats", "", LIMIT).unwrap();
    let file = stack.config_file();
    let env = ("TAINT".to_owned(), String::new());
    let list = command(&file, &env, &["dlq", "list"]);
    let show = command(&file, &env, &["dlq", "show", "1"]);
    let json = command(&file, &env, &["dlq", "show", "1", "--json"]);
    let table = command(&file, &env, &["check", "--connect"]);
    router.terminate(LIMIT);
    let log = router.stderr().text();
    for (what, text) in [
        ("log", &log),
        ("readyz", &ready),
        ("stats", &stats),
        ("list", &list),
        ("show", &show),
        ("json", &json),
        ("table", &table),
    ] {
        assert!(!text.contains(['\u{1b}', '\u{9b}', '\r', '\u{202e}', '\u{2028}']), "{what}: {text:?}");
        assert!(
            text.lines().all(|line| !line.starts_with("2026-01-01") && !line.starts_with("forged")),
            "{what}"
        );
        assert!(text.lines().all(|line| line.len() < 64 << 10), "{what}: {}", text.len());
    }
    // A table of one group and a table of one letter, with a blank line between them.
    assert_eq!(list.lines().count(), 5, "{list}");
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["subject"], FORGED, "JSON keeps the value");
}
