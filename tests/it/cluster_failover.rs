//! Two routers of a cluster, with a real nats-server: one reads the vCenter, and the other one goes
//! on where it was. Nothing is lost, whoever dies, stops or loses its connection.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand::Rng;
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::vcenter::{Options, Pace};

use crate::common::config::RouterConfig;
use crate::common::router::Router;
use crate::common::stack::Stack;
use crate::common::{free_address, http_get, seed, wait_until};
use crate::nats_support::{NatsServer, command};

const LIMIT: Duration = Duration::from_secs(120);
const RATE: f64 = 500.0;
const ROUNDS: usize = 4;

/// The synthetic vCenter and its target, and what the nodes have in common.
struct Cluster {
    stack: Stack,
    server: NatsServer,
}

/// A router of the cluster, with a disk of its own.
struct Node {
    name: &'static str,
    admin: SocketAddr,
    folder: TempDir,
    router: Router,
}

impl Cluster {
    /// `None` where nats-server is missing and may be.
    fn new(options: Options) -> Option<Self> {
        let server = NatsServer::start("")?;
        let stack = Stack::new(options, ["batched"]);
        let cluster = Cluster { stack, server };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.yaml");
        std::fs::write(&file, cluster.config("a", cluster.stack.admin, &folder).text()).unwrap();
        let file = file.to_str().unwrap();
        let (code, told) = command(&["log", "init", "--replicas", "1", "--config", file]);
        assert_eq!((code, told.contains("made the bucket events-state")), (Some(0), true), "{told}");
        let (code, told) = command(&["log", "check", "--config", file]);
        assert_eq!((code, told.contains("has 1 replicas")), (Some(1), true), "{told}");
        Some(cluster)
    }

    fn config(&self, name: &str, admin: SocketAddr, folder: &TempDir) -> RouterConfig {
        let cluster = json!({"node": name, "servers": self.server.url()});
        let config = self.stack.config().data(&folder.path().join("data"));
        config
            .set("cluster", cluster)
            .set("checkpointInterval", "200ms")
            .set_processor("target-0", "overflow", json!({"policy": "block"}))
            .set_admin("bindAddress", admin.to_string())
    }

    /// Starts a node and waits until it is ready.
    fn node(&self, name: &'static str) -> Node {
        let (admin, folder) = (free_address(), tempfile::tempdir().unwrap());
        let config = self.config(name, admin, &folder).text();
        let router = Router::start(folder.path(), admin, &config);
        Node { name, admin, folder, router }
    }

    fn unique(&self) -> u64 {
        self.stack.targets[0].tally().unique
    }

    /// Waits until so many more events have arrived.
    fn more(&self, events: u64) {
        self.stack.targets[0].wait_for(self.unique() + events, LIMIT);
    }

    /// Waits until the events of less than a second are missing.
    fn catch_up(&self) {
        let report = || self.stack.targets[0].report();
        assert!(wait_until(LIMIT, || report().total.missing < RATE as u64 / 2), "{:?}", report());
    }

    /// Ends the events, and checks that all have arrived with their ids. Returns the number of
    /// those that came twice.
    fn complete(&self) -> u64 {
        self.stack.vcenter.set_pace(Pace::Idle);
        let target = &self.stack.targets[0];
        let complete = wait_until(LIMIT, || target.report().is_complete());
        let report = target.report();
        assert!(complete, "{report:?}");
        assert_eq!((report.total.wrong_ids, report.total.missing), (0, 0), "{report:?}");
        report.total.duplicates
    }
}

impl Node {
    fn source(&self) -> Value {
        let (_, body) = http_get(self.admin, "/readyz", LIMIT).unwrap_or_default();
        let body: Value = serde_json::from_str(&body).unwrap_or_default();
        body["sources"][0].clone()
    }

    fn is_standby(&self) -> bool {
        self.source()["state"] == "standby"
    }

    fn is_reading(&self) -> bool {
        ["reading", "waiting"].iter().any(|state| self.source()["state"] == *state)
    }

    fn wait_reading(&self) {
        let reading = wait_until(LIMIT, || self.is_reading());
        assert!(reading, "{}: {}\n{}", self.name, self.source(), self.router.stderr().text());
    }

    fn wait_standby(&self) {
        let standby = wait_until(LIMIT, || self.is_standby());
        assert!(standby, "{}: {}\n{}", self.name, self.source(), self.router.stderr().text());
    }
}

fn options() -> Options {
    Options { backlog: 100, pace: Pace::Rate(RATE), ..Options::default() }
}

#[test]
fn another_node_goes_on_when_one_is_killed() {
    let Some(cluster) = Cluster::new(options()) else { return };
    let mut reading = cluster.node("a");
    reading.wait_reading();
    let mut waiting = cluster.node("b");
    waiting.wait_standby();
    let mut random = seed::random();
    let rounds = seed::rounds(ROUNDS);
    let mut took = Vec::new();
    for _ in 0..rounds {
        // The events that came at once after the last take-over are in the record by then.
        cluster.catch_up();
        cluster.more(random.random_range(200..600));
        // The one that waits has not even logged in.
        assert_eq!(waiting.router.metric("event_router_lease_held", "vc"), 0.0);
        let owner = format!("node {} reads it", reading.name);
        assert!(wait_until(LIMIT, || waiting.source()["reason"] == owner), "{}", waiting.source());
        reading.router.kill();
        let killed = Instant::now();
        waiting.wait_reading();
        took.push(killed.elapsed());
        cluster.more(200);
        reading.router.restart();
        reading.router.wait_ready();
        reading.wait_standby();
        std::mem::swap(&mut reading, &mut waiting);
    }
    let duplicates = cluster.complete();
    println!("take-overs after {took:?}, {duplicates} events came twice");
    seed::tried(rounds, "kill -9 of the node that reads");
    // Those of two checkpoint intervals, of a write to the bucket and of the requests in flight.
    let bound = rounds as u64 * (2.0 * RATE) as u64;
    assert!(duplicates <= bound, "{duplicates} duplicates, at most {bound}");
    assert!(reading.folder.path().exists() && waiting.router.running());
}

#[test]
fn a_node_that_stops_hands_over_at_once_without_duplicates() {
    let Some(cluster) = Cluster::new(options()) else { return };
    let mut reading = cluster.node("a");
    reading.wait_reading();
    let mut waiting = cluster.node("b");
    waiting.wait_standby();
    for _ in 0..3 {
        cluster.more(300);
        assert_eq!(reading.router.terminate(LIMIT).code(), Some(0), "{}", reading.router.stderr().text());
        let stopped = Instant::now();
        waiting.wait_reading();
        println!("handed over after {:?}", stopped.elapsed());
        cluster.more(100);
        reading.router.restart();
        reading.router.wait_ready();
        std::mem::swap(&mut reading, &mut waiting);
    }
    assert_eq!(cluster.complete(), 0);
    let report = cluster.stack.targets[0].report();
    assert_eq!(report.total.out_of_order, 0, "{report:?}");
}

#[test]
fn a_node_that_was_frozen_ends_when_it_wakes() {
    let Some(cluster) = Cluster::new(options()) else { return };
    let mut frozen = cluster.node("a");
    frozen.wait_reading();
    let waiting = cluster.node("b");
    waiting.wait_standby();
    cluster.more(300);
    frozen.router.signal("STOP");
    waiting.wait_reading();
    cluster.more(300);
    frozen.router.signal("CONT");
    let status = frozen.router.wait(LIMIT);
    let told = frozen.router.stderr().text();
    assert_eq!(status.code(), Some(1), "{told}");
    assert!(told.contains("b has taken over source `vc`"), "{told}");
    cluster.complete();
}

#[test]
fn the_position_in_the_bucket_counts_until_its_record_is_deleted() {
    let Some(cluster) = Cluster::new(Options { backlog: 200, ..Options::default() }) else { return };
    let mut node = cluster.node("a");
    cluster.stack.targets[0].wait_for(200, LIMIT);
    let stop = |node: &mut Node| assert_eq!(node.router.terminate(LIMIT).code(), Some(0));
    stop(&mut node);
    let file = node.folder.path().join("config.yaml");
    let (code, told) = command(&["checkpoint", "set", "vc", "beginning", "--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("delete the record `reader.vc`"), "{told}");
    // The bucket knows that all were delivered.
    node.router.restart();
    node.wait_reading();
    cluster.stack.vcenter.append(50);
    cluster.stack.targets[0].wait_for(250, LIMIT);
    assert_eq!(cluster.stack.targets[0].report().total.duplicates, 0);
    stop(&mut node);
    // Without its record, the position of the first node that starts counts.
    let (code, told) = command(&["checkpoint", "set", "vc", "beginning", "--config", file.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{told}");
    cluster.stack.runtime.block_on(async {
        let client = async_nats::connect(cluster.server.url()).await.unwrap();
        let bucket = async_nats::jetstream::new(client).get_key_value("events-state").await.unwrap();
        bucket.delete("reader.vc").await.unwrap();
    });
    node.router.restart();
    let again = || cluster.stack.targets[0].report().total.duplicates == 250;
    assert!(wait_until(LIMIT, again), "{:?}", cluster.stack.targets[0].report());
}

#[test]
fn deliveries_pause_while_the_bucket_is_away() {
    let Some(mut cluster) = Cluster::new(options()) else { return };
    let mut reading = cluster.node("a");
    reading.wait_reading();
    let mut waiting = cluster.node("b");
    waiting.wait_standby();
    cluster.more(300);
    cluster.server.signal("STOP");
    // The lease runs out, and nothing is delivered any more.
    let told = || reading.router.stderr().contains("the lease of source `vc` has run out");
    assert!(wait_until(LIMIT, told), "{}", reading.router.stderr().text());
    cluster.server.signal("CONT");
    cluster.more(300);
    cluster.complete();
    // Both nodes live, or have ended on purpose.
    for node in [&mut reading, &mut waiting] {
        let told = node.router.stderr().text();
        assert!(node.router.running() || told.contains("has taken over source"), "{}: {told}", node.name);
    }
}

#[test]
fn a_vcenter_that_one_node_cannot_reach_goes_to_another_one() {
    let Some(cluster) = Cluster::new(options()) else { return };
    // The position that a node leaves outlives one that cannot use it.
    let mut before = cluster.node("c");
    cluster.more(300);
    assert_eq!(before.router.terminate(LIMIT).code(), Some(0));
    let (admin, folder) = (free_address(), tempfile::tempdir().unwrap());
    let config = cluster.config("a", admin, &folder);
    let config = config.set_source("vc", "address", format!("http://{}", free_address())).text();
    let cut_off = Router::start(folder.path(), admin, &config);
    let held = || cut_off.metric("event_router_lease_held", "vc") == 1.0;
    assert!(wait_until(LIMIT, held), "{}", cut_off.stderr().text());
    let other = cluster.node("b");
    other.wait_reading();
    assert!(cut_off.stderr().contains("this node cannot reach it; another node may try"));
    cluster.more(300);
    assert_eq!(cluster.complete(), 0);
}
