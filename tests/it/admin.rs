//! The admin listener from outside: its pages need credentials, and no client can block it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::time::Duration;

use crate::common::http_get;
use crate::common::stack::Stack;
use event_router::limits::ADMIN_CONNECTIONS_MAX;
use serde_json::json;
use testbed::vcenter::Options;

const LIMIT: Duration = Duration::from_secs(20);

fn stack() -> Stack {
    Stack::new(Options { backlog: 10, ..Options::default() }, ["batched"])
}

#[test]
fn silent_clients_do_not_block_others() {
    let stack = stack();
    let _router = stack.router();
    let mut mute: Vec<TcpStream> = (0..40).map(|_| TcpStream::connect(stack.admin).unwrap()).collect();
    mute[0].write_all(b"GET /healthz HT").unwrap();
    let (status, _) = http_get(stack.admin, "/healthz", LIMIT).unwrap();
    assert_eq!(status, 200);
}

/// Each client opens an HTTP/2 connection and sends no request.
#[test]
fn idle_connections_give_way_to_new_ones() {
    const OPENING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00";
    let stack = stack();
    let _router = stack.router();
    let open = |_| {
        let mut stream = TcpStream::connect(stack.admin).unwrap();
        // The router's SETTINGS frame shows that the connection has its place.
        stream.write_all(OPENING).unwrap();
        stream.read_exact(&mut [0; 9]).unwrap();
        stream
    };
    let idle: Vec<TcpStream> = (0..ADMIN_CONNECTIONS_MAX).map(open).collect();
    let (status, _) = http_get(stack.admin, "/healthz", LIMIT).unwrap();
    assert_eq!(status, 200);
    drop(idle);
}

#[test]
fn pages_other_than_health_require_credentials_and_show_none() {
    let stack = stack();
    let auth = json!({"username": "operator", "password": "s3cret-of-the-listener"});
    let router = stack.start(&stack.config().set_admin("auth", auth));
    stack.targets[0].wait_for(10, LIMIT);
    let get = |path: &str, password: Option<&str>| {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.get(format!("http://{}{path}", stack.admin));
        let request = match password {
            Some(password) => request.basic_auth("operator", Some(password)),
            None => request,
        };
        stack.runtime.block_on(async {
            let answer = request.send().await.unwrap();
            (answer.status().as_u16(), answer.text().await.unwrap())
        })
    };
    for path in ["/healthz", "/readyz"] {
        assert_eq!(get(path, None).0, 200, "{path}");
    }
    for path in ["/metrics", "/stats"] {
        assert_eq!(get(path, None).0, 401, "{path}");
        assert_eq!(get(path, Some("wrong")).0, 401, "{path}");
        let (status, body) = get(path, Some("s3cret-of-the-listener"));
        assert_eq!(status, 200, "{path}");
        assert!(body.contains("event"), "{path}: {body}");
    }
    let secrets = ["s3cret-of-the-listener", &Options::default().password];
    let shown = [
        get("/metrics", Some(secrets[0])).1,
        get("/stats", Some(secrets[0])).1,
        get("/readyz", None).1,
        router.stderr().text(),
        router.stdout().text(),
    ];
    for secret in secrets {
        assert!(shown.iter().all(|text| !text.contains(secret)), "{secret} is shown");
    }
}

#[test]
fn the_configured_certificate_serves_https_and_no_http() {
    let stack = stack();
    let (cert, key) = (stack.folder.path().join("admin.pem"), stack.folder.path().join("admin.key"));
    // Writes a new certificate, and returns a client that trusts no other.
    let issue = || {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        std::fs::write(&cert, made.cert.pem()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let root = reqwest::Certificate::from_pem(made.cert.pem().as_bytes()).unwrap();
        reqwest::Client::builder().no_proxy().tls_certs_only([root]).build().unwrap()
    };
    let client = issue();
    let spawn = |key: &Path| {
        let tls = json!({"certFile": cert, "keyFile": key});
        stack.spawn(&stack.config().set_admin("tls", tls))
    };
    let mut router = spawn(&key);
    stack.targets[0].wait_for(10, LIMIT);
    let url = format!("https://{}/metrics", stack.admin);
    let get = |client: &reqwest::Client| {
        let answer = client.get(&url).send();
        stack.runtime.block_on(async { answer.await?.text().await })
    };
    let body = get(&client).unwrap();
    assert!(body.contains("event_router_source_events_total"), "{body}");
    let renewed = issue();
    assert!(get(&renewed).is_ok(), "the new certificate is used without a restart");
    assert!(http_get(stack.admin, "/metrics", LIMIT).is_err(), "no plain HTTP");
    assert_eq!(router.terminate(LIMIT).code(), Some(0));

    // A certificate in place of the key fails the start.
    let mut router = spawn(&cert);
    assert_eq!(router.wait(LIMIT).code(), Some(2));
    assert!(router.stderr().contains("keyFile"), "{}", router.stderr().text());
}
