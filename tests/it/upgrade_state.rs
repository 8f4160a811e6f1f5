//! State directories of release 0.1 (`tests/fixtures/state-0.1`): the current code reads them and
//! delivers all their events.
//!
//! The expected deliveries come from the fixture's ledger. Its generator subtracted the events that
//! the targets acknowledged from the events that the vCenters created; it did not read the state.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;
use std::time::Duration;

use crate::common::router::{Launch, Router};
use crate::common::{free_address, wait_until};
use serde_json::Value;
use tempfile::TempDir;
use testbed::sink::{Sink, SinkOptions};
use testbed::vcenter::{Options, VCenter};
use testbed::verify::Verifier;
use tokio::runtime::Runtime;

const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/state-0.1");
const LIMIT: Duration = Duration::from_secs(60);
/// Gets only events that another destination refused.
const GRAVEYARD: &str = "graveyard";
/// Takes the events of `vc-a` alone.
const XML: &str = "xml";
/// Their configured scope of order is the entity; that of the others is the source.
const BY_ENTITY: [&str; 3] = ["parking", "moody", XML];

#[test]
fn the_state_of_a_stopped_router_is_delivered_completely() {
    let fixture = Fixture::open("stopped");
    assert!(!fixture.path("data/state.db-wal").exists());
    fixture.deliver_everything();
}

#[test]
fn the_state_of_a_killed_router_is_delivered_completely() {
    let fixture = Fixture::open("crashed");
    let log = fs::metadata(fixture.path("data/state.db-wal")).unwrap();
    assert!(log.len() > 0, "some transactions are in the write-ahead log alone");
    fixture.deliver_everything();
}

/// An event as it was created, for its name in the ledger: the source and the index within it.
#[derive(Clone, Debug, PartialEq)]
struct Event {
    source: String,
    index: u64,
    key: i32,
    id: String,
    created_us: i64,
    class: String,
    entity: String,
}

/// A line of the ledger: some events of one source at one destination.
struct Entry {
    destination: String,
    source: String,
    /// `acknowledged`, `owed`, `dead:STATUS`, `passed:DESTINATION`, `unreadable`.
    state: String,
    indexes: BTreeSet<u64>,
}

/// A copy of a state directory, with the vCenters and targets that it belongs to.
struct Fixture {
    folder: TempDir,
    original: PathBuf,
    ledger: Vec<Entry>,
    /// All events that the vCenters have created, by id.
    events: BTreeMap<String, Event>,
    vcenters: BTreeMap<String, VCenter>,
    targets: BTreeMap<String, Sink>,
    admin: SocketAddr,
    _runtime: Runtime,
}

/// An event that came to a target.
struct Delivery {
    event: Event,
    envelope: Value,
}

impl Fixture {
    fn open(state: &str) -> Fixture {
        let original = Path::new(FIXTURES).join(state);
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("data")).unwrap();
        for file in ["state.db", "state.db-wal"].iter().filter(|file| original.join(file).exists()) {
            fs::copy(original.join(file), folder.path().join("data").join(file)).unwrap();
        }
        fs::copy(original.join("config.yaml"), folder.path().join("config.yaml")).unwrap();
        let ledger: Vec<Entry> = text(&original, "ledger.txt").lines().map(Entry::parse).collect();

        let runtime = Runtime::new().unwrap();
        let vcenters = runtime.block_on(created_again(&text(&original, "script.txt")));
        let mut targets = BTreeMap::new();
        for entry in ledger.iter().filter(|entry| entry.state != "unreadable") {
            let options = SinkOptions { keep: true, ..SinkOptions::default() };
            let start = || Sink::start(options, Arc::new(Verifier::new()));
            targets.entry(entry.destination.clone()).or_insert_with(|| runtime.block_on(start()).unwrap());
        }
        let mut fixture = Fixture {
            folder,
            original,
            ledger,
            events: BTreeMap::new(),
            vcenters,
            targets,
            admin: free_address(),
            _runtime: runtime,
        };
        fixture.look_at_events();
        let recorded: Vec<Event> = text(&fixture.original, "events.txt").lines().map(Event::parse).collect();
        let rebuilt: Vec<Event> =
            recorded.iter().filter_map(|event| fixture.events.get(&event.id)).cloned().collect();
        assert_eq!(rebuilt, recorded, "the vCenters have the events that they had");
        assert_eq!(fixture.events.len(), recorded.len(), "and no others");
        fixture
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn look_at_events(&mut self) {
        for (source, vcenter) in &self.vcenters {
            for fact in (0..vcenter.produced()).map(|index| vcenter.fact(index).unwrap()) {
                let event = Event {
                    source: source.clone(),
                    index: fact.index,
                    key: fact.key,
                    id: fact.id.to_string(),
                    created_us: fact.created_us,
                    class: fact.class,
                    entity: format!("{:?}", fact.entity),
                };
                self.events.insert(event.id.clone(), event);
            }
        }
    }

    /// Creates events; they are due at every destination that takes events of their source.
    fn append(&mut self, count: u64) -> Vec<Event> {
        let before: BTreeSet<String> = self.events.keys().cloned().collect();
        for vcenter in self.vcenters.values() {
            vcenter.step_clock(20_000_000);
            vcenter.append(count);
        }
        self.look_at_events();
        self.events.values().filter(|event| !before.contains(&event.id)).cloned().collect()
    }

    // --- the router

    fn launch(&self, arguments: &[&str]) -> Launch {
        let arguments = arguments.iter().map(|argument| argument.to_string());
        let config = ["--config".to_owned(), self.path("config.yaml").display().to_string()];
        let mut launch = Launch::new(arguments.chain(config))
            .env("DATA", &self.path("data").display().to_string())
            .env("ADMIN", &self.admin.to_string());
        let vcenters = self.vcenters.iter().map(|(name, vcenter)| (name, vcenter.url()));
        for (name, url) in vcenters.chain(self.targets.iter().map(|(name, sink)| (name, sink.url()))) {
            launch = launch.env(&name.to_uppercase().replace('-', "_"), &url);
        }
        launch
    }

    fn command(&self, arguments: &[&str]) -> Output {
        self.launch(arguments).command().output().unwrap()
    }

    /// The JSON lines or the one JSON value that a command prints.
    #[track_caller]
    fn ask(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.command(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        let values = serde_json::Deserializer::from_slice(&output.stdout).into_iter();
        values.map(Result::unwrap).collect()
    }

    // --- expected and delivered events

    /// The ledger's events of these states for a destination.
    fn ids(&self, destination: &str, is_meant: impl Fn(&str) -> bool) -> BTreeSet<String> {
        let entries =
            self.ledger.iter().filter(|entry| entry.destination == destination && is_meant(&entry.state));
        let names: BTreeSet<(&str, u64)> = entries
            .flat_map(|entry| entry.indexes.iter().map(|index| (entry.source.as_str(), *index)))
            .collect();
        let is_named = |event: &&Event| names.contains(&(event.source.as_str(), event.index));
        self.events.values().filter(is_named).map(|event| event.id.clone()).collect()
    }

    /// Everything that came to a target, in the order of its arrival.
    fn deliveries(&self, destination: &str) -> Vec<Delivery> {
        let mut deliveries = Vec::new();
        for received in self.targets[destination].received() {
            let body: Value = serde_json::from_slice(&received.body).unwrap();
            let envelopes = if let Value::Array(envelopes) = body { envelopes } else { vec![body] };
            for envelope in envelopes {
                let id = envelope["id"].as_str().unwrap();
                let event = self.events.get(id).unwrap_or_else(|| panic!("no such event: {envelope}"));
                deliveries.push(Delivery { event: event.clone(), envelope });
            }
        }
        deliveries
    }

    fn delivered_ids(&self, destination: &str) -> Vec<String> {
        self.deliveries(destination).into_iter().map(|delivery| delivery.event.id).collect()
    }

    /// Waits until as many events have come.
    fn wait_for(&self, destination: &str, expected: &BTreeSet<String>) {
        let count = || self.delivered_ids(destination).len();
        let came = wait_until(LIMIT, || count() >= expected.len());
        assert!(came, "{destination}: {} of {} events came", count(), expected.len());
    }

    // --- the test

    fn deliver_everything(mut self) {
        self.check_ledger();
        let letters = self.ask(&["dlq", "list", "--json"]);
        self.check_dead_letters(&letters);

        // Some events are created while no router runs, and some while it delivers the backlog of
        // the old one.
        let mut new = self.append(20);
        let mut router = Router::launch(self.admin, self.launch(&["run"]));
        router.wait_ready();
        new.extend(self.append(20));
        let destinations: Vec<String> = self.targets.keys().cloned().collect();
        let mut expected = BTreeMap::new();
        for destination in &destinations {
            let mut ids = self.ids(destination, |state| state == "owed");
            let is_routed =
                |event: &&Event| destination != GRAVEYARD && (destination != XML || event.source == "vc-a");
            ids.extend(new.iter().filter(is_routed).map(|event| event.id.clone()));
            self.wait_for(destination, &ids);
            expected.insert(destination.clone(), ids);
        }
        let before_replay: BTreeMap<&String, usize> =
            destinations.iter().map(|name| (name, self.deliveries(name).len())).collect();

        // There are no dead letters but those of the old router. A replay delivers each of them.
        assert_eq!(numbers(&self.ask(&["dlq", "list", "--json"])), numbers(&letters));
        let undecodable: Vec<&Value> = letters.iter().filter(|letter| letter["decoded"] == false).collect();
        let delivered = letters.len() - undecodable.len();
        let replay = self.command(&["dlq", "replay", "--all"]);
        let said = String::from_utf8_lossy(&replay.stdout);
        let end = format!("{delivered} delivered, {} still dead letters\n", undecodable.len());
        assert!(said.ends_with(&end), "{said}{}", String::from_utf8_lossy(&replay.stderr));
        for (destination, ids) in &mut expected {
            ids.extend(self.ids(destination, |state| state.starts_with("dead:")));
        }

        // Nothing waits any more: neither in memory nor on disk.
        assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
        assert_eq!(self.ask(&["spool", "list", "--json"]), [Value::Object(Default::default())]);
        let shown = self.ask(&["checkpoint", "show", "--json"]);
        for source in shown[0]["sources"].as_array().unwrap() {
            assert!(source["unsettled"].as_object().unwrap().is_empty(), "{source}");
        }
        let left = self.ask(&["dlq", "list", "--json"]);
        assert_eq!(
            numbers(&left),
            undecodable.iter().map(|letter| letter["number"].clone()).collect::<Vec<_>>()
        );
        self.check_undecodable(&left);

        for destination in &destinations {
            let mut came = self.delivered_ids(destination);
            came.sort();
            let expected: Vec<String> = expected[destination].iter().cloned().collect();
            assert_eq!(came, expected, "{destination}: exactly what was owed, each once");
            self.check_order(destination, before_replay[destination]);
            self.check_content(destination);
        }
        self.check_nothing_is_lost();
    }

    /// The fixture holds what this test is about.
    fn check_ledger(&self) {
        let has = |destination: &str, state: &str| {
            self.ledger.iter().any(|entry| entry.destination == destination && entry.state.starts_with(state))
        };
        for destination in ["owed", "lagging", "parking", GRAVEYARD] {
            assert!(has(destination, "owed"), "{destination}");
        }
        for (destination, state) in
            [("lagging", "acknowledged"), ("picky", "dead:400"), ("moody", "dead:500"), ("-", "unreadable")]
        {
            assert!(has(destination, state), "{destination} {state}");
        }
    }

    /// Dead letters are those that the targets refused, and the events that no decoder could read.
    fn check_dead_letters(&self, letters: &[Value]) {
        let text = |letter: &Value, name: &str| letter[name].as_str().unwrap().to_owned();
        let mut expected = BTreeSet::new();
        for status in [400, 500] {
            for destination in self.targets.keys() {
                let ids = self.ids(destination, |state| state == format!("dead:{status}"));
                expected.extend(ids.into_iter().map(|id| (destination.clone(), id, status)));
            }
        }
        let decoded = letters.iter().filter(|letter| letter["decoded"] == true);
        let found: Vec<(String, String, i64)> = decoded
            .map(|letter| {
                (text(letter, "destination"), text(letter, "id"), letter["status"].as_i64().unwrap())
            })
            .collect();
        assert_eq!(found.len(), expected.len());
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), expected);
        self.check_undecodable(letters);
    }

    fn check_undecodable(&self, letters: &[Value]) {
        let unreadable = self.ledger.iter().filter(|entry| entry.state == "unreadable");
        let sources: Vec<&str> =
            unreadable.flat_map(|entry| entry.indexes.iter().map(|_| entry.source.as_str())).collect();
        let mut found: Vec<&str> = Vec::new();
        for letter in letters.iter().filter(|letter| letter["decoded"] == false) {
            let source = letter["source"].as_str().unwrap();
            found.push(source);
            let shown = self.ask(&["dlq", "show", &letter["number"].to_string(), "--json"]);
            let raw = text(&self.original, &format!("unreadable-{source}.txt"));
            assert_eq!(shown[0]["raw"], raw, "every byte that vCenter sent");
        }
        found.sort_unstable();
        assert_eq!(found, sources);
    }

    /// Within its scope a destination got its events in the order in which they were read.
    fn check_order(&self, destination: &str, before_replay: usize) {
        let mut last: BTreeMap<String, u64> = BTreeMap::new();
        for Delivery { event, .. } in self.deliveries(destination).into_iter().take(before_replay) {
            let by_entity = BY_ENTITY.contains(&destination);
            if by_entity && event.entity == "None" {
                continue;
            }
            let scope = if by_entity { format!("{} {}", event.source, event.entity) } else { event.source };
            let before = last.insert(scope.clone(), event.index);
            assert!(before < Some(event.index), "{destination}, {scope}: {before:?}, then {}", event.index);
        }
    }

    /// Each event matches its id, in the payload that the destination is configured for.
    fn check_content(&self, destination: &str) {
        let owed = self.ids(destination, |state| state == "owed");
        for Delivery { event, envelope } in self.deliveries(destination) {
            let data = &envelope["data"];
            match destination {
                XML => {
                    let element = format!("<key>{}</key>", event.key);
                    assert!(data.as_str().is_some_and(|data| data.contains(&element)), "{envelope}");
                }
                "vijson" => assert_eq!((&data["key"], data["Key"].is_null()), (&event.key.into(), true)),
                _ => assert_eq!(data["Key"], event.key, "{envelope}"),
            }
            if destination == GRAVEYARD {
                assert!(owed.contains(&event.id) && envelope["knativeerrordest"].is_string(), "{envelope}");
                assert_eq!(envelope["knativeerrorcode"], 422);
            }
        }
    }

    /// Events that the old targets acknowledged and events that came now are all created events.
    fn check_nothing_is_lost(&self) {
        let unreadable = self.ids("-", |state| state == "unreadable");
        let all: BTreeSet<String> =
            self.events.keys().filter(|id| !unreadable.contains(*id)).cloned().collect();
        for destination in self.targets.keys().filter(|name| *name != GRAVEYARD) {
            let mut got = self.ids(destination, |state| state == "acknowledged");
            got.extend(self.delivered_ids(destination));
            if destination == "refuser" {
                let passed = self.ids(destination, |state| state == "passed:graveyard");
                let taken: BTreeSet<String> = self.delivered_ids(GRAVEYARD).into_iter().collect();
                assert_eq!(taken, passed);
                got.extend(taken);
            }
            match destination.as_str() {
                // They were configured later: every event from their first one on.
                "vijson" | XML => {
                    for (source, vcenter) in &self.vcenters {
                        let of_source = |ids: &BTreeSet<String>| -> BTreeSet<u64> {
                            let events = ids.iter().map(|id| &self.events[id]);
                            events.filter(|event| event.source == *source).map(|event| event.index).collect()
                        };
                        let (all, got) = (of_source(&all), of_source(&got));
                        let first = got.first().copied().unwrap_or_else(|| vcenter.produced());
                        assert_eq!(got, all.range(first..).copied().collect(), "{destination} {source}");
                        assert!(destination == XML || !got.is_empty());
                    }
                }
                _ => assert_eq!(got, all, "{destination}"),
            }
        }
    }
}

fn text(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap()
}

fn numbers(letters: &[Value]) -> Vec<Value> {
    letters.iter().map(|letter| letter["number"].clone()).collect()
}

/// The vCenters of a script: their clocks stand still, so the same calls create the same events.
async fn created_again(script: &str) -> BTreeMap<String, VCenter> {
    let mut vcenters: BTreeMap<String, VCenter> = BTreeMap::new();
    for line in script.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |at: usize| words[at].parse::<i64>().unwrap();
        let name = words[1];
        match words[0] {
            "vcenter" => {
                let options = Options {
                    seed: number(2) as u64,
                    first_key: number(3) as i32,
                    vms: number(4) as u32,
                    hosts: number(5) as u32,
                    frozen_at_us: Some(number(6)),
                    ..Options::default()
                };
                vcenters.insert(name.to_owned(), VCenter::start(options).await.unwrap());
            }
            "append" => drop(vcenters[name].append(number(2) as u64)),
            "malformed" => drop(vcenters[name].append_malformed()),
            "clock" => vcenters[name].step_clock(number(2) * 1_000_000),
            other => panic!("a line of the script: {other:?}"),
        }
    }
    vcenters
}

impl Event {
    fn parse(line: &str) -> Event {
        let words: Vec<&str> = line.split(' ').collect();
        Event {
            source: words[0].to_owned(),
            index: words[1].parse().unwrap(),
            key: words[2].parse().unwrap(),
            id: words[3].to_owned(),
            created_us: words[4].parse().unwrap(),
            class: words[5].to_owned(),
            entity: words[6].to_owned(),
        }
    }
}

impl Entry {
    /// `DESTINATION SOURCE STATE 0-59 61 …`
    fn parse(line: &str) -> Entry {
        let words: Vec<&str> = line.split(' ').collect();
        let mut indexes = BTreeSet::new();
        for range in &words[3..] {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            indexes.extend(first.parse::<u64>().unwrap()..=last.parse().unwrap());
        }
        let [destination, source, state] = [0, 1, 2].map(|at| words[at].to_owned());
        Entry { destination, source, state, indexes }
    }
}
