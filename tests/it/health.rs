//! `health` as the probe of a container runs it: one line and an exit code.

use std::net::TcpListener;
use std::time::Duration;

use crate::common::http_get;
use crate::common::router::Launch;
use crate::common::stack::Stack;
use serde_json::json;
use testbed::vcenter::Options;

/// Exit code, standard output and standard error.
fn health(arguments: &[&str]) -> (Option<i32>, String, String) {
    let all = [&["health"], arguments].concat();
    let output = Launch::new(all.iter().copied()).command().output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

#[track_caller]
fn expect(arguments: &[&str], code: i32, part: &str) {
    let (found, stdout, stderr) = health(arguments);
    assert_eq!(found, Some(code), "{stdout}{stderr}");
    let told = if code == 0 { &stdout } else { &stderr };
    assert!(told.contains(part), "no {part:?} in {told}");
    assert_eq!(stdout.lines().count() + stderr.lines().count(), 1, "{stdout}{stderr}");
}

#[test]
fn a_running_router_is_healthy_until_it_ends() {
    let stack = Stack::new(Options::default(), ["batched"]);
    let auth = json!({"username": "operator", "password": "s3cret-of-the-listener"});
    let config = stack.config().set_admin("auth", auth);
    let mut router = stack.start(&config);
    let file = stack.config_file().display().to_string();
    let address = stack.admin.to_string();
    expect(&["--config", &file], 0, "healthy: http://127.0.0.1:");
    expect(&["--address", &address], 0, "/healthz");
    router.kill();
    expect(&["--config", &file], 1, "unhealthy: no connection to http://127.0.0.1:");
}

#[test]
fn a_listener_with_tls_is_asked_over_tls() {
    let stack = Stack::new(Options::default(), ["batched"]);
    let key = rcgen::generate_simple_self_signed(["other.example".into()]).unwrap();
    let (cert, key_file) = (stack.folder.path().join("cert.pem"), stack.folder.path().join("key.pem"));
    std::fs::write(&cert, key.cert.pem()).unwrap();
    std::fs::write(&key_file, key.signing_key.serialize_pem()).unwrap();
    let config = stack.config().set_admin("tls", json!({"certFile": cert, "keyFile": key_file}));
    let _router = stack.spawn(&config);
    let file = stack.config_file().display().to_string();
    let limit = Duration::from_secs(60);
    let healthy = crate::common::wait_until(limit, || health(&["--config", &file]).0 == Some(0));
    assert!(healthy, "{:?}", health(&["--config", &file]));
    expect(&["--address", &format!("https://{}", stack.admin)], 0, "healthy: https://");
    assert!(http_get(stack.admin, "/healthz", limit).is_err(), "it does not speak plain HTTP");
}

/// The script of a probe needs neither the secrets nor a listener that answers.
#[test]
fn other_states_have_other_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.yaml");
    let write = |admin: &str| {
        let text = format!(
            "apiVersion: event-router/v1\nadmin: {{bindAddress: '{admin}'}}\nsources: [{{name: vc, type: vcenter, address: vc.example, username: u, passwordFile: /nonexistent/pw}}]\nprocessors: [{{name: p, type: blackhole}}]\n"
        );
        std::fs::write(&file, text).unwrap();
        file.display().to_string()
    };
    expect(&["--config", &write("none")], 2, "the admin listener is turned off");
    let busy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = busy.local_addr().unwrap().to_string();
    let answers = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = busy.accept().unwrap();
        let _ = stream.read(&mut [0; 1_024]).unwrap();
        let body = "no progress: core\n";
        let head = format!("HTTP/1.1 503 Service Unavailable\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + body).as_bytes()).unwrap();
    });
    expect(&["--config", &write(&address)], 1, "answered 503: no progress: core");
    answers.join().unwrap();
    expect(&["--address", "ftp://host"], 2, "use a URL such as http://");
}
