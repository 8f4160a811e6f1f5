//! Broken files as people make them: each is reported with all its errors and their lines, and
//! nothing worse happens.

use std::path::Path;

use crate::common::router::Launch;

const NATIVE: &str = "apiVersion: event-router/v1\ndataDir: /state\nsources:\n  - name: vc1\n    type: vcenter\n    address: vc1.example\n    username: ro\n    password: hunter2\nprocessors:\n  - name: out\n    type: cloudevents\n    url: http://target.example\n";
const V1ALPHA1: &str = "apiVersion: event-router.vmware.com/v1alpha1\nkind: RouterConfig\nmetadata:\n  name: demo\neventProvider:\n  type: vcenter\n  name: vc1\n  vcenter:\n    address: https://vc1.example/sdk\n    insecureSSL: false\n    checkpoint: false\n    auth:\n      type: basic_auth\n      basicAuth:\n        username: ro\n        password: hunter2\neventProcessor:\n  type: openfaas\n  name: fn\n  openfaas:\n    address: http://gateway:8080\n    async: false\nmetricsProvider:\n  type: default\n  name: m\n  default:\n    bindAddress: 0.0.0.0:8082\n";
const ARRAY: &str = r#"[
  {
    "type": "stream",
    "provider": "vmware_vcenter",
    "address": "https://vc1.example/sdk",
    "auth": {"method": "user_password", "secret": {"username": "ro", "password": "hunter2"}},
    "options": {"insecure": "false"}
  },
  {
    "type": "processor",
    "provider": "openfaas",
    "address": "http://gateway:8080",
    "auth": {"method": "basic_auth", "secret": {"username": "admin", "password": "hunter2"}},
    "options": {"async": "false"}
  },
  {"type": "metrics", "provider": "internal", "address": "0.0.0.0:8080", "auth": {"method": "none"}}
]
"#;

/// The output of `check` for a file, without its folder. It must exit with 2, and each line must
/// name the file and a line of it, unless the file cannot be read.
fn told(folder: &Path, name: &str, bytes: &[u8]) -> String {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    of(folder, &path)
}

fn of(folder: &Path, path: &Path) -> String {
    let run = |command: &[&str]| {
        let launch =
            Launch::new(command.iter().map(|word| word.to_string()).chain([path.display().to_string()]));
        let output = launch.command().output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command:?} {}: {text}", path.display());
        assert!(output.stdout.is_empty(), "{command:?}: {:?}", String::from_utf8_lossy(&output.stdout));
        assert!(!text.contains("panicked") && !text.contains("hunter2"), "{text}");
        text
    };
    let text = run(&["check", "--config"]);
    assert_eq!(run(&["run", "--config"]), text, "the same words at a start");
    assert_eq!(run(&["config", "convert"]), text, "the same words at a conversion");
    for line in text.lines() {
        // A file that is not read at all has no line.
        let unread = line.strip_prefix(&format!("{}: ", path.display()));
        if unread.is_some_and(|why| why.starts_with("has more than") || why.starts_with("cannot be read")) {
            continue;
        }
        let place = line.strip_prefix(&format!("{}:", path.display())).and_then(|rest| rest.split_once(": "));
        assert!(place.is_some_and(|(line, _)| line.parse::<usize>().is_ok_and(|line| line > 0)), "{line}");
    }
    text.replace(&format!("{}/", folder.display()), "")
}

/// All files of one format, each with its messages.
fn all(extension: &str, good: &str, broken: &[(&str, &str, &str)]) -> String {
    let folder = tempfile::tempdir().unwrap();
    broken
        .iter()
        .map(|(name, from, to)| {
            assert!(good.contains(from), "{name}: {from}");
            told(folder.path(), &format!("{name}.{extension}"), good.replacen(from, to, 1).as_bytes()) + "\n"
        })
        .collect()
}

#[test]
fn every_error_of_a_native_file_is_reported() {
    let broken = [
        ("unknown-keys", "username: ro", "user: ro\n    tls:\n      insecureSSL: true\n      frobnicate: 1"),
        (
            "wrong-types",
            "dataDir: /state",
            "dataDir: [a]\nmemoryMax: many\nshutdownTimeout: 5\nroutes: {}\nlog: loud",
        ),
        ("twice", "username: ro", "username: ro\n    username: rw\n    password: hunter2"),
        (
            "same-names",
            "    url:",
            "    url: http://a\n  - name: out\n    type: console\n  - name: vc1\n    type: console\n    url:",
        ),
        (
            "missing-references",
            "processors:",
            "routes:\n  - sources: [vc2]\n    processors: [outt, nobody]\n  - processors: []\n    pattern: {subject: x}\nprocessors:",
        ),
        (
            "xml-of-json",
            "processors:",
            "    protocol: vijson\nprocessors:\n  - name: xml\n    type: console\n    payload: xml",
        ),
        ("tabs", "    address", "\taddress"),
        ("unclosed-quote", "dataDir: /state", "dataDir: '/state"),
        ("unclosed-double", "password: hunter2", "password: \"hunter2"),
        ("indentation", "    url:", "   url:"),
        ("no-space", "username: ro", "username:ro"),
        ("json-brace", "apiVersion: event-router/v1", "{\"apiVersion\": \"event-router/v1\","),
        ("two-documents", "processors:", "---\nprocessors:"),
        ("merge-conflict", "sources:", "<<<<<<< HEAD\nsources:"),
        ("only-types", "    url: http://target.example\n", ""),
        ("wrong-type", "type: cloudevents", "type: knative"),
        ("other-version", "event-router/v1", "event-router/v2"),
        (
            "missing-file",
            "password: hunter2",
            "passwordFile: /nonexistent/pw\n    tls: {caFile: /nonexistent/ca.pem}",
        ),
        (
            "numbers",
            "    url:",
            "    concurrency: 0\n    retry: {attempts: -1, maxAge: 1w}\n    batch: {bytes: 1 MB}\n    url:",
        ),
    ];
    insta::assert_snapshot!(all("yaml", NATIVE, &broken));
}

#[test]
fn every_error_of_a_v1alpha1_file_is_reported() {
    let broken = [
        ("unknown-keys", "    async: false", "    asynchron: false\nmetrics: {}"),
        ("wrong-types", "insecureSSL: false", "insecureSSL: 'yes'"),
        ("twice", "  type: openfaas", "  type: openfaas\n  type: knative"),
        ("missing-blocks", "  openfaas:\n    address: http://gateway:8080\n    async: false\n", ""),
        ("other-block", "  type: openfaas", "  type: knative"),
        ("tabs", "    auth:", "\tauth:"),
        ("unclosed-quote", "password: hunter2", "password: 'hunter2"),
        ("indentation", "      basicAuth:", "     basicAuth:"),
        ("list", "eventProcessor:\n  type", "eventProcessor:\n- type"),
        (
            "no-auth",
            "    auth:\n      type: basic_auth\n      basicAuth:\n        username: ro\n        password: hunter2\n",
            "",
        ),
        ("wrong-auth", "type: basic_auth", "type: basic"),
        ("bad-address", "0.0.0.0:8082", "0.0.0.0"),
        ("horizon", "type: vcenter", "type: horizon"),
        ("template", "password: hunter2", "password: {{ .Values.password }}"),
        (
            "missing-ca",
            "metricsProvider:",
            "certificates: {rootCAs: [/nonexistent/ca.pem]}\nmetricsProvider:",
        ),
        (
            "no-metrics",
            "metricsProvider:\n  type: default\n  name: m\n  default:\n    bindAddress: 0.0.0.0:8082\n",
            "",
        ),
    ];
    insta::assert_snapshot!(all("yaml", V1ALPHA1, &broken));
}

#[test]
fn every_error_of_a_json_array_is_reported() {
    let broken = [
        ("trailing-comma", "\"none\"}}\n", "\"none\"}},\n"),
        ("missing-comma", "\"vmware_vcenter\",", "\"vmware_vcenter\""),
        (
            "unclosed-string",
            "\"hunter2\"}},\n    \"options\": {\"insecure\"",
            "\"hunter2}},\n    \"options\": {\"insecure\"",
        ),
        ("unclosed-array", "\"none\"}}\n]", "\"none\"}}\n"),
        ("single-quotes", "\"openfaas\"", "'openfaas'"),
        ("comments", "    \"provider\": \"openfaas\"", "    // functions\n    \"provider\": \"openfaas\""),
        ("smart-quotes", "\"openfaas\"", "“openfaas”"),
        ("wrong-types", "\"options\": {\"async\": \"false\"}", "\"options\": [\"async\"]"),
        ("wrong-provider", "\"openfaas\"", "\"knative\""),
        ("no-secret", ", \"secret\": {\"username\": \"ro\", \"password\": \"hunter2\"}", ""),
        ("empty-password", "\"ro\", \"password\": \"hunter2\"", "\"ro\", \"password\": \"\""),
        ("no-stream", "\"stream\"", "\"steam\""),
        ("bad-address", "http://gateway:8080", "gateway:8080"),
        ("two-values", "]\n", "]\n[]\n"),
    ];
    insta::assert_snapshot!(all("json", ARRAY, &broken));
}

#[test]
fn bytes_that_are_no_text_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let check = |name: &str, bytes: &[u8]| told(folder.path(), name, bytes);
    let mut said = check("empty", b"");
    said += &check("blank", b"\n\n   \n# nothing\n");
    said += &check("nul-bytes", b"apiVersion: event-router/v1\nsources: \0\0\0\n");
    said += &check("binary", &(0..=255u8).cycle().take(5_000).collect::<Vec<_>>());
    said += &check("elf", b"\x7fELF\x02\x01\x01\0\0\0");
    said += &check(
        "utf-16",
        &"apiVersion: event-router/v1\n".encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>(),
    );
    said += &check("latin-1", b"apiVersion: event-router/v1\ndataDir: /caf\xe9\n");
    said += &check("html", b"<!DOCTYPE html>\n<html><body>404</body></html>\n");
    said += &check("large", &vec![b'#'; 10 << 20]);
    let many = check(
        "many-lines",
        "a: b
"
        .repeat(800_000)
        .as_bytes(),
    );
    assert_eq!(many.lines().count(), 101);
    said += &format!(
        "{}
",
        many.lines().last().unwrap()
    );
    said += &check("deep", "[".repeat(100_000).as_bytes());
    said += &check("deep-yaml", ("a: ".to_owned() + &"[".repeat(100_000)).as_bytes());
    said += &check("laughs", laughs().as_bytes());
    said += &check(
        "carriage-returns",
        NATIVE.replace('\n', "\r").replace("type: vcenter", "type: vcentre").as_bytes(),
    );
    said +=
        &check("windows", NATIVE.replace('\n', "\r\n").replace("type: vcenter", "type: vcentre").as_bytes());
    std::fs::create_dir(folder.path().join("directory")).unwrap();
    said += &of(folder.path(), &folder.path().join("directory"));
    said += &of(folder.path(), &folder.path().join("nonexistent"));
    insta::assert_snapshot!(said);
}

/// Aliases of aliases: a few lines that mean a billion values.
fn laughs() -> String {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for at in 1..10 {
        let all = vec![format!("*a{}", at - 1); 10].join(", ");
        text += &format!("a{at}: &a{at} [{all}]\n");
    }
    text
}

/// The control: without the breakage the files are good.
#[test]
fn unbroken_files_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in [("a.yaml", NATIVE), ("b.yaml", V1ALPHA1), ("c.json", ARRAY)] {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let output = Launch::new(["check".into(), "--config".into(), path.into_os_string()])
            .command()
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
