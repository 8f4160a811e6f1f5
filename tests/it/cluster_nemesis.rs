//! Two routers that share two vCenters, and three NATS servers, under whatever can happen to them:
//! kills, freezes, restarts and stops, in random order and under load. A verifier that knows every
//! event finds nothing lost.
//!
//! `scripts/torture --ha` runs many rounds of it.

use std::time::{Duration, Instant};

use rand::Rng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::json;
use tempfile::TempDir;
use testbed::vcenter::{Options, Pace, VCenter};

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
}

const ALL: [Nemesis; 8] = [
    Nemesis::KillNode,
    Nemesis::StopNode,
    Nemesis::FreezeNode,
    Nemesis::PauseNode,
    Nemesis::KillServer,
    Nemesis::FreezeServer,
    Nemesis::KillServers,
    Nemesis::FreezeServers,
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

struct Field {
    stack: Stack,
    other: VCenter,
    servers: Vec<NatsServer>,
    nodes: Vec<Router>,
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
        let mut field = Field { stack, other, servers, nodes: Vec::new(), _folders: Vec::new() };
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
        let urls: Vec<String> = self.servers.iter().map(NatsServer::url).collect();
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
        // A usual run takes half of them.
        let strikes = if rounds == 1 { ALL.len() / 2 } else { ALL.len() };
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
