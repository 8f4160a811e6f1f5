//! Two routers that share two vCenters, and three NATS servers, under whatever can happen to them:
//! kills, freezes, stops and cut links, in random order and under load. A verifier that knows every
//! event finds nothing lost.
//!
//! `scripts/torture --ha` runs many rounds of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::json;
use tempfile::TempDir;
use testbed::vcenter::{Options, Pace, VCenter};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;

use crate::common::config::{RouterConfig, Section};
use crate::common::router::Router;
use crate::common::stack::Stack;
use crate::common::{free_address, seed, wait_until};
use crate::nats_support::{NatsServer, command};

const LIMIT: Duration = Duration::from_secs(120);
/// Events per second of each vCenter.
const RATE: f64 = 250.0;
const NODES: usize = 2;

/// One thing that happens to a part.
#[derive(Clone, Copy, Debug)]
enum Nemesis {
    KillNode,
    StopNode,
    /// Frozen for longer than its lease, so that it is deposed.
    FreezeNode,
    /// Frozen for a moment.
    PauseNode,
    KillServer,
    FreezeServer,
    /// All three at once.
    KillServers,
    FreezeServers,
    /// The servers hear nothing from a node, or it hears nothing from them, or both.
    MuteNode,
    DeafNode,
    CutOffNode,
}

const ALL: [Nemesis; 11] = [
    Nemesis::KillNode,
    Nemesis::StopNode,
    Nemesis::FreezeNode,
    Nemesis::PauseNode,
    Nemesis::KillServer,
    Nemesis::FreezeServer,
    Nemesis::KillServers,
    Nemesis::FreezeServers,
    Nemesis::MuteNode,
    Nemesis::DeafNode,
    Nemesis::CutOffNode,
];

impl Nemesis {
    /// Events that it may repeat, of one vCenter: those of two checkpoint intervals, of a write to
    /// the bucket and of the requests in flight, and all that are delivered while an owner does not
    /// know that its position is not written.
    fn repeats(self) -> f64 {
        match self {
            Nemesis::StopNode => 0.0,
            Nemesis::KillNode | Nemesis::PauseNode => 2.0 * RATE,
            _ => 5.0 * RATE,
        }
    }
}

/// The links of one node to the servers, each through a relay.
struct Links {
    urls: Vec<String>,
    /// True while no byte comes through: to the servers, and from them.
    stopped: Arc<[AtomicBool; 2]>,
}

impl Links {
    fn new(runtime: &Runtime, servers: &[NatsServer]) -> Self {
        let stopped: Arc<[AtomicBool; 2]> = Arc::default();
        let relay = |server: &NatsServer| {
            let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("loopback");
            let url = format!("nats://{}", listener.local_addr().expect("it listens"));
            runtime.spawn(relay(listener, server.address, Arc::clone(&stopped)));
            url
        };
        Links { urls: servers.iter().map(relay).collect(), stopped }
    }

    fn stop(&self, directions: [bool; 2]) {
        self.stopped.iter().zip(directions).for_each(|(stopped, stop)| stopped.store(stop, Relaxed));
    }
}

/// Passes connections on. Bytes wait while their direction is stopped.
async fn relay(listener: TcpListener, to: SocketAddr, stopped: Arc<[AtomicBool; 2]>) {
    while let Ok((near, _)) = listener.accept().await {
        let stopped = Arc::clone(&stopped);
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(to).await else { return };
            let ((near_read, near_write), (far_read, far_write)) = (near.into_split(), far.into_split());
            // Both ends close together, as those of a connection do.
            tokio::select! {
                () = pass(near_read, far_write, &stopped[0]) => {}
                () = pass(far_read, near_write, &stopped[1]) => {}
            }
        });
    }
}

async fn pass(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, stopped: &AtomicBool) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        while stopped.load(Relaxed) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        if to.write_all(&bytes[..read]).await.is_err() {
            return;
        }
    }
}

struct Field {
    stack: Stack,
    other: VCenter,
    servers: Vec<NatsServer>,
    nodes: Vec<Router>,
    links: Vec<Links>,
    _folders: Vec<TempDir>,
}

impl Field {
    fn new() -> Option<Self> {
        let servers = NatsServer::three()?;
        let options =
            |name: &str| Options { name: name.into(), pace: Pace::Rate(RATE), ..Options::default() };
        let stack = Stack::new(options("vc0"), ["batched"]);
        let other = stack.runtime.block_on(VCenter::start(options("vc1"))).expect("a vCenter on loopback");
        stack.targets[0].verifier.watch(&other);
        let links = (0..NODES).map(|_| Links::new(&stack.runtime, &servers)).collect();
        let mut field = Field { stack, other, servers, nodes: Vec::new(), links, _folders: Vec::new() };
        let mut is_made = false;
        for n in 0..NODES {
            let (admin, folder) = (free_address(), tempfile::tempdir().expect("a folder"));
            let config = field.config(n, &folder).set_admin("bindAddress", admin.to_string()).text();
            if !is_made {
                let file = folder.path().join("config.yaml");
                std::fs::write(&file, &config).expect("the file is written");
                // The cluster of servers needs a leader first.
                let init = ["log", "init", "--config", file.to_str().expect("a path")];
                is_made = wait_until(LIMIT, || command(&init).0 == Some(0));
                assert!(is_made, "{:?}", command(&init));
            }
            field.nodes.push(Router::start(folder.path(), admin, &config));
            field._folders.push(folder);
        }
        Some(field)
    }

    fn config(&self, node: usize, folder: &TempDir) -> RouterConfig {
        let Options { user, password, .. } = Options::default();
        let urls = &self.links[node].urls;
        self.stack
            .config()
            .data(&folder.path().join("data"))
            .source(Section::vcenter("vc1", &self.other.url(), &user, &password))
            .set("cluster", json!({"node": format!("node-{node}"), "servers": urls}))
            .set("checkpointInterval", "200ms")
            .set_processor("target-0", "overflow", json!({"policy": "block"}))
    }

    /// Number of sources that somebody reads.
    fn held(&self) -> f64 {
        let held = |node: &Router, source: &str| node.metric("event_router_lease_held", source);
        self.nodes.iter().map(|node| held(node, "vc") + held(node, "vc1")).sum()
    }

    /// Waits until all events of this moment have arrived.
    fn catch_up(&self) -> Duration {
        let (began, target) = (Instant::now(), &self.stack.targets[0]);
        let goal = self.stack.vcenter.produced() + self.other.produced();
        let caught_up = wait_until(LIMIT, || target.tally().unique >= goal);
        let told = || self.nodes.iter().map(|node| node.stderr().text()).collect::<Vec<_>>().join("\n---\n");
        assert!(caught_up, "{:?}\n{}", target.report(), told());
        began.elapsed()
    }

    /// Starts the nodes again that have ended, as a service manager does. A node may end by itself
    /// when it was deposed.
    fn revive(&mut self) {
        for node in &mut self.nodes {
            if !node.running() {
                node.restart();
                node.wait_ready();
            }
        }
    }

    fn strike(&mut self, nemesis: Nemesis, random: &mut StdRng) {
        let node = random.random_range(0..NODES);
        let server = random.random_range(0..self.servers.len());
        let rest = Duration::from_millis(random.random_range(0..1_500));
        let freeze = |servers: &mut [NatsServer], time: Duration| {
            servers.iter_mut().for_each(|server| server.signal("STOP"));
            std::thread::sleep(time);
            servers.iter_mut().for_each(|server| server.signal("CONT"));
        };
        match nemesis {
            Nemesis::KillNode => self.nodes[node].kill(),
            Nemesis::StopNode => {
                let told = self.nodes[node].stderr().text();
                assert_eq!(self.nodes[node].terminate(LIMIT).code(), Some(0), "{told}");
            }
            Nemesis::FreezeNode | Nemesis::PauseNode => {
                let seconds = if matches!(nemesis, Nemesis::FreezeNode) { 8 } else { 1 };
                self.nodes[node].signal("STOP");
                std::thread::sleep(Duration::from_secs(seconds) + rest);
                self.nodes[node].signal("CONT");
            }
            Nemesis::KillServer => self.servers[server].restart(),
            Nemesis::FreezeServer => freeze(&mut self.servers[server..=server], 2 * rest),
            Nemesis::KillServers => self.servers.iter_mut().for_each(NatsServer::restart),
            Nemesis::FreezeServers => freeze(&mut self.servers, 4 * rest),
            Nemesis::MuteNode | Nemesis::DeafNode | Nemesis::CutOffNode => {
                let links = &self.links[node];
                links.stop([!matches!(nemesis, Nemesis::DeafNode), !matches!(nemesis, Nemesis::MuteNode)]);
                std::thread::sleep(8 * rest);
                links.stop([false; 2]);
            }
        }
        std::thread::sleep(rest);
    }
}

#[test]
fn nothing_is_lost_whatever_happens_to_routers_and_servers() {
    let Some(mut field) = Field::new() else { return };
    let mut random = seed::random();
    let rounds = seed::rounds(1);
    let mut allowed = 0.0;
    let mut longest = Duration::ZERO;
    for _ in 0..rounds {
        let mut round = ALL;
        round.shuffle(&mut random);
        // A usual run takes some of them.
        let strikes = if rounds == 1 { 4 } else { ALL.len() };
        for nemesis in &round[..strikes] {
            let began = Instant::now();
            field.strike(*nemesis, &mut random);
            field.revive();
            let took = field.catch_up();
            println!("{nemesis:?}: all caught up {took:?} after it, {:?} in all", began.elapsed());
            longest = longest.max(took);
            allowed += 2.0 * nemesis.repeats();
            field.revive();
        }
    }
    assert!(wait_until(LIMIT, || field.held() == 2.0), "each vCenter is read by one node: {}", field.held());
    field.stack.vcenter.set_pace(Pace::Idle);
    field.other.set_pace(Pace::Idle);
    let target = &field.stack.targets[0];
    let complete = wait_until(LIMIT, || target.report().is_complete());
    let total = target.report().total;
    assert!(complete, "{:?}", target.report());
    println!("{} events, {} came twice, the longest gap was {longest:?}", total.unique, total.duplicates);
    seed::tried(rounds * ALL.len(), "troubles of a cluster of two routers and three servers");
    assert!(total.duplicates as f64 <= allowed, "{} duplicates, at most {allowed}", total.duplicates);
}
