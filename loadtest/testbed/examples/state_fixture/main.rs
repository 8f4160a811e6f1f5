//! Writes the state directories of `tests/fixtures/state-*`: the files that a given router leaves
//! on disk, and a ledger of the events that it still owes.
//!
//! `cargo run -p testbed --example state_fixture -- ROUTER FOLDER`
//!
//! ```text
//!  two synthetic vCenters ──► ROUTER (a child process) ──► ten targets: well, gone, picky …
//!        │                       │ SIGTERM, later SIGKILL        │
//!        │                       ▼                               │ acknowledged, refused
//!        │             FOLDER/{stopped,crashed}/state.db         │
//!        └── created ──────────► FOLDER/*/ledger.txt ◄───────────┘
//! ```
//!
//! The ledger does not come from the state: it subtracts the events that the targets acknowledged
//! from the events that the vCenters created. Clocks and seeds are fixed, so every run creates the
//! same events with the same ids. The README beside the fixture describes the files.
#![allow(clippy::unwrap_used, reason = "a tool that stops at the first surprise")]

mod account;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use testbed::sink::{Behavior, Sink, SinkOptions};
use testbed::vcenter::{Options, VCenter};
use testbed::verify::Verifier;

/// 2026-01-15T08:00:00Z, where the clocks of the vCenters begin.
const EPOCH_US: i64 = 1_768_464_000_000_000;
/// Name, seed, first key, protocol.
const VCENTERS: [(&str, u64, i32, &str); 2] =
    [("vc-a", 11, 1_000, "soap"), ("vc-b", 22, 2_000_000_000, "vijson")];
const VMS: u32 = 3;
const HOSTS: u32 = 2;
/// Processors without a target. They divide the memory: a destination spills when it holds
/// 2 MiB / 98, half of the least memory for all.
const FILLERS: usize = 90;
/// The longest wait for a condition.
const LIMIT: Duration = Duration::from_secs(120);
/// A state counts as final when no target has accepted anything for this long: twice the interval
/// of checkpoints, which is longer than that of marks in spool rows.
const QUIET: Duration = Duration::from_secs(7);

/// The store knows after this time which events of a spool row are delivered: half a second, with
/// room to spare.
const MARKED: Duration = Duration::from_secs(1);
/// Requests within which one row of the spool must have been delivered in part.
const REQUESTS_MAX: usize = 30;

/// The meaning of a target's refusals (other than 503).
#[derive(Clone, Copy, PartialEq)]
enum Refusal {
    /// The event waits.
    Waits,
    /// The event becomes a dead letter, with this status.
    DeadLetter(u16),
    /// The event goes to the dead-letter processor of this name.
    Passes(&'static str),
}

struct Destination {
    name: &'static str,
    settings: &'static str,
    /// Takes the events of the SOAP source alone, because VI/JSON has no XML.
    soap_only: bool,
    /// Configured from the second act on.
    late: bool,
    refusal: Refusal,
}

const GONE: &str = "breaker: {failures: 1, probeInterval: 100ms}";

const DESTINATIONS: [Destination; 9] = [
    Destination { name: "live", settings: "mode: batched", ..PLAIN },
    // Never spills, so its events stay unsettled in the checkpoint.
    Destination { name: "owed", settings: "overflow: {policy: block}", ..PLAIN },
    Destination { name: "lagging", settings: GONE, ..PLAIN },
    // One entity is refused for ever; events of the others are delivered.
    Destination {
        name: "parking",
        settings: "ordering: entity\nretry: {attempts: 1000000, maxAge: 720h, backoffMin: 1h, backoffMax: 1h}",
        ..PLAIN
    },
    Destination { name: "picky", settings: "time: created", refusal: Refusal::DeadLetter(400), ..PLAIN },
    Destination {
        name: "moody",
        settings: "ordering: entity\nretry: {attempts: 2, backoffMin: 1ms}",
        refusal: Refusal::DeadLetter(500),
        ..PLAIN
    },
    Destination {
        name: "refuser",
        settings: "deadLetterTo: graveyard",
        refusal: Refusal::Passes("graveyard"),
        ..PLAIN
    },
    Destination {
        name: "vijson",
        settings: "payload: vijson\nmode: batched\nbatch: {events: 10}\nbreaker: {failures: 1, probeInterval: 100ms}",
        late: true,
        ..PLAIN
    },
    Destination {
        name: "xml",
        settings: "payload: xml\nordering: entity\nconcurrency: 2\nbreaker: {failures: 1, probeInterval: 100ms}",
        soap_only: true,
        late: true,
        ..PLAIN
    },
];
/// Takes only the events that `refuser` refused.
const GRAVEYARD: Destination = Destination { name: "graveyard", settings: GONE, ..PLAIN };
const PLAIN: Destination =
    Destination { name: "", settings: "", soap_only: false, late: false, refusal: Refusal::Waits };

struct Target {
    destination: &'static Destination,
    sink: Sink,
    /// The first event of each vCenter that this destination has to deliver.
    since: [u64; 2],
}

struct Site {
    router: PathBuf,
    folder: PathBuf,
    /// Holds the data directory, the configuration and the log of the running router.
    work: PathBuf,
    vcenters: Vec<VCenter>,
    targets: Vec<Target>,
    /// The orders given to the vCenters, so that the same events can be made again.
    script: String,
    unreadable: [BTreeSet<u64>; 2],
}

#[tokio::main]
async fn main() {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let (Some(router), Some(folder)) = (args.next(), args.next()) else {
        eprintln!("usage: state_fixture ROUTER FOLDER");
        std::process::exit(2);
    };
    let mut site = Site::start(router, folder).await;

    // Before anything goes wrong, all events are delivered everywhere.
    let mut router = site.run(false);
    site.append(20);
    site.wait("everything is delivered", |site| {
        let all = site.vcenters.iter().map(VCenter::produced).sum::<u64>();
        let is_reached =
            |target: &&Target| !target.destination.late && target.destination.name != GRAVEYARD.name;
        site.targets.iter().filter(is_reached).all(|target| {
            let came = site.outcomes(target).acknowledged;
            came.iter().map(BTreeSet::len).sum::<usize>() as u64 == all
        }) && site.unsettled().is_empty()
    });
    site.step_clock(30);

    // Act one: an appliance with the default payload. It ends with SIGTERM.
    site.troubles(false).await;
    site.append(20);
    site.append_unreadable(0);
    site.step_clock(10);
    site.append(16);
    site.wait_all_placed();
    site.take_part_of_a_row("lagging").await;
    site.wait_all_placed();
    assert_eq!(router.stop(), Some(3), "it stops with unsettled events");
    site.keep("stopped");

    // Act two: more destinations, which make the router keep each event as vCenter sent it.
    router = site.run(true);
    site.join_late();
    site.step_clock(30);
    site.append(6);
    site.wait("the late destinations have their first events", |site| {
        ["vijson", "xml"].iter().all(|name| site.target(name).sink.taken() > 0) && site.is_placed()
    });
    site.troubles(true).await;
    site.append(14);
    site.append_unreadable(1);
    site.append(3);
    site.wait_all_placed();
    site.take_part_of_a_row("lagging").await;
    site.take_part_of_a_row("vijson").await;
    site.take_part_of_a_row("xml").await;
    site.wait_all_placed();
    assert_eq!(router.stop(), Some(3));

    // Act three: a crash, with a write-ahead log of a few transactions.
    router = site.run(true);
    site.step_clock(10);
    site.append(2);
    site.wait_all_placed();
    drop(router);
    site.keep("crashed");
    fs::remove_dir_all(&site.work).unwrap();
}

impl Site {
    async fn start(router: PathBuf, folder: PathBuf) -> Site {
        let mut vcenters = Vec::new();
        let mut script = String::new();
        for (name, seed, first_key, _) in VCENTERS {
            let options = Options {
                seed,
                first_key,
                vms: VMS,
                hosts: HOSTS,
                frozen_at_us: Some(EPOCH_US),
                ..Options::default()
            };
            vcenters.push(VCenter::start(options).await.unwrap());
            writeln!(script, "vcenter {name} {seed} {first_key} {VMS} {HOSTS} {EPOCH_US}").unwrap();
        }
        let mut targets = Vec::new();
        for destination in DESTINATIONS.iter().chain([&GRAVEYARD]) {
            let options = SinkOptions { keep: true, ..SinkOptions::default() };
            let sink = Sink::start(options, Arc::new(Verifier::new())).await.unwrap();
            targets.push(Target { destination, sink, since: [0; 2] });
        }
        let work = folder.join("work");
        fs::create_dir_all(&work).unwrap();
        let unreadable = [BTreeSet::new(), BTreeSet::new()];
        Site { router, folder, work, vcenters, targets, script, unreadable }
    }

    fn target(&self, name: &str) -> &Target {
        self.targets.iter().find(|target| target.destination.name == name).unwrap()
    }

    // --- what happens

    fn append(&mut self, count: u64) {
        for (vcenter, (name, ..)) in self.vcenters.iter().zip(VCENTERS) {
            vcenter.append(count);
            writeln!(self.script, "append {name} {count}").unwrap();
        }
    }

    fn append_unreadable(&mut self, at: usize) {
        self.unreadable[at].insert(self.vcenters[at].append_malformed().unwrap());
        writeln!(self.script, "malformed {}", VCENTERS[at].0).unwrap();
    }

    fn step_clock(&mut self, seconds: i64) {
        for (vcenter, (name, ..)) in self.vcenters.iter().zip(VCENTERS) {
            vcenter.step_clock(seconds * 1_000_000);
            writeln!(self.script, "clock {name} {seconds}").unwrap();
        }
    }

    /// The late destinations get events from now on.
    fn join_late(&mut self) {
        let now = [self.vcenters[0].produced(), self.vcenters[1].produced()];
        for target in self.targets.iter_mut().filter(|target| target.destination.late) {
            target.since = now;
        }
    }

    async fn troubles(&self, late: bool) {
        if late {
            self.target("vijson").sink.outage().await;
            self.target("xml").sink.outage().await;
            return;
        }
        for name in ["owed", "lagging", "graveyard"] {
            self.target(name).sink.outage().await;
        }
        self.target("parking").sink.refuse("vm-1000001", Behavior::status(500));
        self.target("picky").sink.refuse("vm-1000002", Behavior::status(400));
        self.target("moody").sink.refuse("UserLoginSessionEvent", Behavior::status(500));
        self.target("refuser").sink.set(Behavior::status(422));
    }

    /// Lets a target that was gone take this many requests, after which it answers 503 for ever.
    async fn take_some(&self, name: &str, requests: u64) {
        let sink = &self.target(name).sink;
        let before = sink.taken();
        sink.next(requests, Behavior::default());
        sink.set(Behavior::status(503));
        // From the second call on the target listens already, and `resume` fails.
        let _ = sink.resume().await;
        self.wait("a part of the spool is delivered", |_| sink.taken() == before + requests);
    }

    /// Lets a target take single requests until some row of its spool is delivered in part. The
    /// spool then counts more events than the target still has to get.
    async fn take_part_of_a_row(&self, name: &str) {
        for _ in 0..REQUESTS_MAX {
            self.take_some(name, 1).await;
            std::thread::sleep(MARKED);
            let owed: usize = self.owed(self.target(name)).iter().map(BTreeSet::len).sum();
            if self.spools()[name]["events"].as_u64().is_some_and(|events| events > owed as u64) {
                return;
            }
        }
        panic!("{name}: {REQUESTS_MAX} requests delivered whole rows alone");
    }

    // --- the router

    fn env(&self) -> Vec<(String, String)> {
        let data = self.work.join("data").display().to_string();
        let mut env = vec![("DATA".to_owned(), data), ("ADMIN".to_owned(), "none".to_owned())];
        let vcenters =
            VCENTERS.iter().zip(&self.vcenters).map(|((name, ..), vcenter)| (*name, vcenter.url()));
        let targets = self.targets.iter().map(|target| (target.destination.name, target.sink.url()));
        env.extend(vcenters.chain(targets).map(|(name, url)| (variable(name), url)));
        env
    }

    fn config_file(&self) -> PathBuf {
        self.work.join("config.yaml")
    }

    fn run(&self, late: bool) -> Router {
        fs::write(self.config_file(), config(late)).unwrap();
        let log = self.work.join("router.log");
        let log = fs::File::options().create(true).append(true).open(log).unwrap();
        let mut command = Command::new(&self.router);
        command.args(["run", "--config"]).arg(self.config_file()).envs(self.env());
        Router(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap())
    }

    /// The JSON that a command of the router prints; empty until there is a state.
    fn ask(&self, command: &[&str]) -> String {
        let output = Command::new(&self.router)
            .args(command)
            .args(["--json", "--config"])
            .arg(self.config_file())
            .envs(self.env())
            .output()
            .unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    fn spools(&self) -> Value {
        serde_json::from_str(&self.ask(&["spool", "list"])).unwrap()
    }

    /// The number of unsettled events by destination, as of the last checkpoint.
    fn unsettled(&self) -> BTreeMap<String, u64> {
        let shown: Value = serde_json::from_str(&self.ask(&["checkpoint", "show"])).unwrap_or_default();
        let mut unsettled = BTreeMap::new();
        for source in shown["sources"].as_array().into_iter().flatten() {
            for (name, events) in source["unsettled"].as_object().into_iter().flatten() {
                *unsettled.entry(name.clone()).or_default() += events.as_u64().unwrap();
                unsettled.retain(|_, events| *events > 0);
            }
        }
        unsettled
    }

    // --- waiting

    fn wait(&self, what: &str, condition: impl Fn(&Site) -> bool) {
        println!("until {what}");
        let end = Instant::now() + LIMIT;
        while !condition(self) {
            assert!(Instant::now() < end, "not in time: {what}; unsettled: {:?}", self.unsettled());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// True if every event has its place: delivered, spooled, a dead letter, or unsettled at a
    /// target that still has to get it. The destination `owed` has no spool.
    fn is_placed(&self) -> bool {
        let live = self.outcomes(self.target("live"));
        // The router has read all events: the target `live` acknowledged every readable one.
        let all_read = (0..2).all(|at| {
            let readable =
                (0..self.vcenters[at].produced()).filter(|index| !self.unreadable[at].contains(index));
            live.acknowledged[at].iter().copied().eq(readable)
        });
        let letters = self.ask(&["dlq", "list"]);
        let raw = letters.lines().filter(|line| line.contains("\"decoded\":false")).count();
        let unreadable: usize = self.unreadable.iter().map(BTreeSet::len).sum();
        let unsettled = self.unsettled();
        // No more events are unsettled than the targets still have to get.
        let is_known = |target: &Target| {
            let owed = self.owed(target).iter().map(BTreeSet::len).sum::<usize>() as u64;
            let unsettled = unsettled.get(target.destination.name).copied().unwrap_or_default();
            if target.destination.name == "owed" { unsettled == owed } else { unsettled <= owed }
        };
        all_read && raw == unreadable && self.targets.iter().all(is_known)
    }

    /// Waits until every event has its place and no target receives anything any more.
    fn wait_all_placed(&self) {
        self.wait("every event has its place", Site::is_placed);
        let requests = || self.targets.iter().map(|target| target.sink.taken()).sum::<u64>();
        let mut before = requests();
        loop {
            std::thread::sleep(QUIET);
            let now = requests();
            if now == before && self.is_placed() {
                return;
            }
            before = now;
        }
    }
}

/// The environment variable that holds the address of a vCenter or target.
fn variable(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

fn config(late: bool) -> String {
    let Options { user, password, .. } = Options::default();
    let mut text = String::from(
        "apiVersion: event-router/v1\ndataDir: ${DATA}\nadmin: {bindAddress: \"${ADMIN}\"}\nmemoryMax: 4MiB\ncheckpointInterval: 3s\nshutdownTimeout: 1s\nsources:\n",
    );
    for (name, _, _, protocol) in VCENTERS {
        write!(
            text,
            "  - name: {name}\n    type: vcenter\n    address: ${{{}}}\n    username: {user}\n    password: {password}\n    startAt: beginning\n    \
             protocol: {protocol}\n",
            variable(name)
        )
        .unwrap();
    }
    text.push_str("processors:\n");
    let configured = || DESTINATIONS.iter().filter(|destination| late || !destination.late);
    for Destination { name, settings, .. } in configured().chain([&GRAVEYARD]) {
        writeln!(text, "  - name: {name}\n    type: cloudevents\n    url: ${{{}}}", variable(name)).unwrap();
        settings.lines().for_each(|line| writeln!(text, "    {line}").unwrap());
    }
    let fillers: Vec<String> = (0..FILLERS).map(|n| format!("filler-{n:02}")).collect();
    fillers.iter().for_each(|name| writeln!(text, "  - {{name: {name}, type: blackhole}}").unwrap());
    let names = |soap_only: bool| {
        let names = configured().filter(|destination| destination.soap_only == soap_only);
        names.map(|destination| destination.name).collect::<Vec<_>>().join(", ")
    };
    let (all, fillers) = (names(false), fillers.join(", "));
    writeln!(text, "routes:\n  - {{name: all, sources: [vc-a, vc-b], processors: [{all}, {fillers}]}}")
        .unwrap();
    if late {
        writeln!(text, "  - {{name: soap, sources: [vc-a], processors: [{}]}}", names(true)).unwrap();
    }
    text
}

/// The running router; it does not outlive this tool.
struct Router(Child);

impl Router {
    /// Sends SIGTERM and returns the exit code.
    fn stop(mut self) -> Option<i32> {
        let status = Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().unwrap();
        assert!(status.success());
        self.0.wait().unwrap().code()
    }
}

/// Sends SIGKILL.
impl Drop for Router {
    fn drop(&mut self) {
        // Fails only for a process that has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
