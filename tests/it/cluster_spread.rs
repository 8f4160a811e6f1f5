//! Nodes of a cluster share its vCenters evenly, with a real nats-server: a node that joins gets
//! its part while events flow, and nothing is lost or delivered twice.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::sink::Behavior;
use testbed::vcenter::{Options, Pace, VCenter};

use crate::common::config::{RouterConfig, Section};
use crate::common::router::Router;
use crate::common::stack::Stack;
use crate::common::{free_address, http_get, wait_until};
use crate::nats_support::{NatsServer, command};

const LIMIT: Duration = Duration::from_secs(120);
const SOURCES: usize = 4;

/// Four vCenters with events at a steady rate, and their target.
struct Sharing {
    stack: Stack,
    /// The vCenters beside that of the stack.
    others: Vec<VCenter>,
    server: NatsServer,
}

struct Node {
    admin: SocketAddr,
    router: Router,
    _folder: TempDir,
}

fn options(name: usize) -> Options {
    Options { name: format!("vc{name}"), pace: Pace::Rate(100.0), ..Options::default() }
}

impl Sharing {
    /// `None` where nats-server is missing and may be.
    fn new() -> Option<Self> {
        let server = NatsServer::start("")?;
        let stack = Stack::new(options(0), ["batched"]);
        let start = |n| stack.runtime.block_on(VCenter::start(options(n))).expect("a vCenter on loopback");
        let others: Vec<VCenter> = (1..SOURCES).map(start).collect();
        others.iter().for_each(|vcenter| stack.targets[0].verifier.watch(vcenter));
        let sharing = Sharing { stack, others, server };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, sharing.config("a", sharing.stack.admin, &folder).text()).unwrap();
        let (code, told) = command(&["log", "init", "--replicas", "1", "--config", file.to_str().unwrap()]);
        assert_eq!(code, Some(0), "{told}");
        Some(sharing)
    }

    fn config(&self, node: &str, admin: SocketAddr, folder: &TempDir) -> RouterConfig {
        let Options { user, password, .. } = Options::default();
        let source = |(n, vcenter): (usize, &VCenter)| {
            Section::vcenter(&format!("vc{}", n + 1), &vcenter.url(), &user, &password)
        };
        let config = self.stack.config().data(&folder.path().join("data"));
        let config = self.others.iter().enumerate().map(source).fold(config, RouterConfig::source);
        config
            .set("cluster", json!({"node": node, "servers": self.server.url()}))
            .set("checkpointInterval", "200ms")
            .set_processor("target-0", "overflow", json!({"policy": "block"}))
            .set_admin("bindAddress", admin.to_string())
    }

    fn node(&self, name: &str) -> Node {
        let (admin, folder) = (free_address(), tempfile::tempdir().unwrap());
        let config = self.config(name, admin, &folder).text();
        let router = Router::start(folder.path(), admin, &config);
        Node { admin, router, _folder: folder }
    }

    /// Waits for so many more events.
    fn more(&self, events: u64) {
        let target = &self.stack.targets[0];
        target.wait_for(target.tally().unique + events, LIMIT);
    }
}

impl Node {
    /// The states of its sources.
    fn states(&self) -> BTreeMap<String, String> {
        let (_, body) = http_get(self.admin, "/readyz", LIMIT).unwrap_or_default();
        let body: Value = serde_json::from_str(&body).unwrap_or_default();
        let sources = body["sources"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        sources.iter().map(|source| (text(&source["name"]), text(&source["state"]))).collect()
    }

    fn reads(&self) -> usize {
        self.states().values().filter(|state| ["reading", "waiting"].contains(&state.as_str())).count()
    }

    /// Waits until it reads so many sources, and keeps them.
    fn wait_reads(&self, sources: usize) {
        let mut since = None;
        let settled = wait_until(LIMIT, || {
            if self.reads() != sources {
                since = None;
                return false;
            }
            since.get_or_insert_with(Instant::now).elapsed() >= Duration::from_secs(3)
        });
        assert!(settled, "{sources} expected: {:?}\n{}", self.states(), self.router.stderr().text());
    }
}

#[test]
fn nodes_share_their_vcenters_without_a_loss_or_a_duplicate() {
    let Some(sharing) = Sharing::new() else { return };
    let mut first = sharing.node("a");
    first.wait_reads(SOURCES);
    let mut second = sharing.node("b");
    second.wait_reads(SOURCES / 2);
    first.wait_reads(SOURCES / 2);
    sharing.more(400);
    // A node that stops leaves its sources to the other one, and gets its share again.
    assert_eq!(first.router.terminate(LIMIT).code(), Some(0), "{}", first.router.stderr().text());
    second.wait_reads(SOURCES);
    sharing.more(400);
    first.router.restart();
    first.wait_reads(SOURCES / 2);
    second.wait_reads(SOURCES / 2);
    sharing.more(400);
    // The sources that this node handed over come back to it.
    second.router.kill();
    let killed = Instant::now();
    first.wait_reads(SOURCES);
    println!("all vCenters are read again {:?} after a kill", killed.elapsed());
    sharing.stack.vcenter.set_pace(Pace::Idle);
    sharing.others.iter().for_each(|vcenter| vcenter.set_pace(Pace::Idle));
    let target = &sharing.stack.targets[0];
    let complete = wait_until(LIMIT, || target.report().is_complete());
    let report = target.report();
    assert!(complete && report.total.wrong_ids == 0, "{report:?}");
    // Only the kill may repeat events: those of two checkpoint intervals and of the requests in
    // flight.
    assert!(report.total.duplicates <= 2 * 200, "{report:?}");
}

#[test]
fn events_that_wait_for_a_target_keep_their_node() {
    let Some(sharing) = Sharing::new() else { return };
    let first = sharing.node("a");
    first.wait_reads(SOURCES);
    sharing.stack.targets[0].sink.set(Behavior::status(503));
    // The oldest event that waits is soon too old for a hand-over.
    std::thread::sleep(Duration::from_secs(6));
    let second = sharing.node("b");
    std::thread::sleep(Duration::from_secs(10));
    assert_eq!((first.reads(), second.reads()), (SOURCES, 0), "{}", first.router.stderr().text());
    assert!(!first.router.stderr().contains("handing this one over"), "{}", first.router.stderr().text());
    // Once the target takes events, the nodes share.
    sharing.stack.targets[0].sink.set(Behavior::default());
    second.wait_reads(SOURCES / 2);
}
