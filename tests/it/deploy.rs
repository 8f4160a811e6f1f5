//! The files in `deploy/`, judged by the programs that read them.

use std::fmt::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use event_router::cluster::{Bucket, Connection, Keeper, KvError, LeaseEvent};
use event_router::processor::nats::settings::NatsConfig;
use event_router::settings::{Auth, Secret};
use serde_json::json;
use testbed::vcenter::Options;
use tokio::time::timeout;

use crate::common::peer::skip;
use crate::common::stack::Stack;
use crate::common::{free_address, wait_until};
use crate::nats_support::{self, NatsServer, command};
use crate::processors_support::Authority;

const LIMIT: Duration = Duration::from_secs(120);

/// systemd's own rating counts from 0 (locked down) to 10. The units of most distributions have
/// over 9.
#[test]
fn systemd_rates_the_unit_as_locked_down() {
    const EXPOSURE_MAX: f64 = 2.0;
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/systemd/event-router.service");
    let rated = Command::new("systemd-analyze").args(["security", "--offline=true", unit]).output();
    let Ok(rated) = rated else { return skip("systemd-analyze") };
    let text = String::from_utf8_lossy(&rated.stdout);
    let (_, level) = text.split_once("exposure level for event-router.service: ").expect("a rating");
    let level: f64 = level.split(' ').next().unwrap().parse().unwrap();
    assert!(level <= EXPOSURE_MAX, "{text}");
}

/// One of the servers of `deploy/nats`, on loopback and with the passwords `maker`, `router` and
/// `system`.
fn nats_server(name: &str, routes: SocketAddr, peers: &str, authority: &Authority) -> Option<NatsServer> {
    let (address, monitor) = (free_address(), free_address());
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let write = |name: &str, text: &str| std::fs::write(path(name), text).expect("write a file");
    let deployed = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/nats"));
    for (file, to) in [("nats-server.conf", "nats.conf"), ("users.conf", "users.conf")] {
        std::fs::copy(deployed.join(file), path(to)).expect("copy a file");
    }
    let issued = authority.issue("127.0.0.1");
    write("ca.pem", &authority.pem);
    write("cert.pem", &issued.cert_pem);
    write("key.pem", &issued.key_pem);
    write("passwords.conf", "MAKER: maker\nROUTER: router\nSYSTEM: system\n");
    let mut node = format!("PEERS: [{peers}]\nDISK: 1GB\n");
    let values = [
        ("NAME", name.to_owned()),
        ("CLIENTS", address.to_string()),
        ("MONITOR", monitor.to_string()),
        ("ROUTES", routes.to_string()),
        ("CERT", path("cert.pem").display().to_string()),
        ("KEY", path("key.pem").display().to_string()),
        ("CA", path("ca.pem").display().to_string()),
        ("STORE", path("data").display().to_string()),
    ];
    for (variable, value) in values {
        writeln!(node, "{variable}: {value:?}").expect("a string grows");
    }
    write("node.conf", &node);
    // The file for users sets the same variables.
    let example = std::fs::read_to_string(deployed.join("node.conf")).expect("readable");
    let names = |text: &str| {
        let lines = text.lines().filter_map(|line| line.split_once(": ").map(|(name, _)| name.to_owned()));
        lines.filter(|name| !name.contains([' ', '#'])).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(names(&example), names(&node));
    NatsServer::start_in(folder, address)
}

/// The servers start with the files, let the three users do what they need, and nothing more.
#[test]
fn the_nats_servers_keep_events_with_the_least_rights() {
    let authority = Authority::new();
    let routes: Vec<_> = (0..3).map(|_| free_address()).collect();
    let peers = routes.iter().map(|route| format!("\"tls://{route}\"")).collect::<Vec<_>>().join(", ");
    if crate::common::peer::peer("nats-server").is_none() {
        return;
    }
    let servers: Vec<_> = routes
        .iter()
        .enumerate()
        .map(|(n, route)| nats_server(&format!("nats-{n}"), *route, &peers, &authority).expect("it starts"))
        .collect();
    let stack = Stack::new(Options { backlog: 20, ..Options::default() }, [""; 0]);
    let ca = stack.folder.path().join("ca.pem");
    std::fs::write(&ca, &authority.pem).expect("write a file");
    let urls: Vec<_> = servers.iter().map(|server| format!("tls://{}", server.address)).collect();
    let as_user = |user: &str| {
        nats_support::config_with(&stack, json!(urls))
            .set_processor("log", "auth", json!({"username": user, "password": user}))
            .set_processor("log", "tls", json!({"caFile": ca}))
    };
    let file = |user: &str| stack.write(&as_user(user)).display().to_string();
    // The cluster needs a leader first.
    let mut told = String::new();
    let made = wait_until(LIMIT, || {
        let (code, text) = command(&["log", "init", "--max-bytes", "64MiB", "--config", &file("maker")]);
        told = text;
        code == Some(0)
    });
    assert!(made, "{told}");
    let (code, told) = command(&["log", "check", "--config", &file("router")]);
    assert!(code == Some(0) && told.contains("ok: events with 3 replicas"), "{told}");
    // The router's user makes nothing, and the maker publishes nothing.
    let other = file("router").replace("config.yaml", "other.yaml");
    std::fs::write(&other, as_user("router").set_processor("log", "stream", "more").text()).expect("a file");
    let (code, told) = command(&["log", "init", "--max-bytes", "1MiB", "--config", &other]);
    assert!(code == Some(1), "{told}");
    let (code, told) = command(&["log", "check", "--config", &file("maker")]);
    assert!(code == Some(1) && told.contains("allow the user to publish"), "{told}");
    // Events arrive.
    let router = stack.start(&as_user("router"));
    let delivered = || router.metric("event_router_destination_delivered_events_total", "log") >= 20.0;
    assert!(wait_until(LIMIT, delivered), "{}", router.metrics());
    // The router's user keeps leases, and the maker none.
    let bucket = |user: &str| {
        let mut settings = NatsConfig::new(&urls);
        settings.auth = Auth::Basic { username: user.into(), password: Secret::inline(user) };
        settings.tls.ca_files = vec![ca.clone()];
        let connection = Connection::new(settings.link()).expect("a good CA file");
        Bucket::new(Arc::new(connection), &settings.bucket())
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let renew_every = Duration::from_millis(500);
        let mut keeper = Keeper::new(bucket("router"), "reader.vc1".into(), "a", renew_every);
        let acquired = timeout(LIMIT, keeper.next()).await;
        assert_eq!(acquired, Ok(LeaseEvent::Acquired("".into())));
        keeper.want(false);
        let released = async { while keeper.next().await != LeaseEvent::Released {} };
        timeout(LIMIT, released).await.expect("the lease is given back");
        assert_eq!(bucket("router").keys("reader.").await, Ok(vec!["reader.vc1".to_owned()]));
        let refused = bucket("maker").get("reader.vc1").await;
        assert!(matches!(refused, Err(KvError::Unknown(_))), "{refused:?}");
    });
}
