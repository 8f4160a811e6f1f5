//! Messages about a configuration do not show the secrets in it.

use super::command;

/// Nothing that stands in the place of a secret is shown by a message about it.
#[test]
fn configuration_errors_do_not_show_misplaced_secrets() {
    const MISPLACED: &str = "tainted-admin-pa55";
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let env = ("TAINT".to_owned(), String::new());
    let source = |password: &str| {
        format!(
            "sources:\n  - name: vc\n    type: vcenter\n    address: https://vc.example\n    username: ro\n    {password}\nprocessors: [{{name: b, type: blackhole}}]\n"
        )
    };
    let target = |settings: &str| {
        format!(
            "{}  - {{name: t, type: cloudevents, url: 'http://t.example', {settings}}}\n",
            source("password: fine-pa55\n")
                .replace("processors: [{name: b, type: blackhole}]\n", "processors:\n")
        )
    };
    let places = [
        source(&format!("password: [{MISPLACED}]")),
        source(&format!("password: {{{MISPLACED}: x}}")),
        source(&format!("password: {{x: {MISPLACED}}}")),
        source(&format!("passwordFile: {MISPLACED}")),
        source(&format!("passwordFile: [{MISPLACED}]")),
        source(&format!("passwordFile: /{MISPLACED}")),
        source(&format!("{MISPLACED}: x")),
        source(&format!("password: x${{{MISPLACED}}}")),
        source(&format!("password: x${{{}}}", MISPLACED.replace('-', "_"))),
        source(&format!("password: *{MISPLACED}")),
        source(&format!("password: !{MISPLACED} x")),
        source(&format!("password: \"{MISPLACED}")),
        source(&format!("password: {{{MISPLACED}: 1, {MISPLACED}: 2}}")),
        target(&format!("auth: {MISPLACED}")),
        target(&format!("auth: [{MISPLACED}]")),
        target(&format!("auth: {{{MISPLACED}}}")),
        target(&format!("auth: {{token: [{MISPLACED}]}}")),
        target(&format!("auth: {{tokenFile: {MISPLACED}}}")),
        target(&format!("headers: [{MISPLACED}]")),
        target(&format!("headers: {{{MISPLACED}: \"\\u0001\"}}")),
        target(&format!("headers: {{X-Key: [{MISPLACED}]}}")),
        target(&format!("headers: {{X-Key: \"{MISPLACED}\\u0001\"}}")),
        target(&format!("proxy: '{MISPLACED}'")),
        target(&format!("timeout: '{MISPLACED}'")),
        target(&format!("urlFile: '{MISPLACED}'")),
        target(&format!("{MISPLACED}: x")),
    ];
    for text in places {
        std::fs::write(&file, format!("apiVersion: event-router/v1\n{text}")).unwrap();
        let shown = command(&file, &env, &["check"]);
        assert!(shown.contains("config.yaml:"), "{text}\n{shown}");
        for part in [MISPLACED, &MISPLACED.replace('-', "_"), "admin-pa55"] {
            assert!(!shown.contains(part), "{text}\n{shown}");
        }
    }
}

/// Secrets that are too short to be redacted cause a warning.
#[test]
fn short_secrets_cause_a_warning() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let env = ("TAINT".to_owned(), String::new());
    for (password, is_short) in [("abc", true), ("päs", true), ("abcd", false)] {
        let text = format!(
            "apiVersion: event-router/v1\nephemeral: true\nsources: [{{name: vc, type: vcenter, address: 'https://vc.example', username: ro, password: {password}}}]\nprocessors: [{{name: b, type: blackhole}}]\n"
        );
        std::fs::write(&file, text).unwrap();
        let shown = command(&file, &env, &["check"]);
        assert_eq!(shown.contains("fewer than 4 characters"), is_short, "{password}: {shown}");
    }
}
