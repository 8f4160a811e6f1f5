//! The code of docs/function-authors.md, run as it stands: with a router that is killed, lost
//! answers, and events out of order.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::common::config::Section;
use crate::common::peer::peer;
use crate::common::stack::Stack;
use crate::common::wait_until;
use rusqlite::Connection;
use serde_json::{Value, json};
use testbed::vcenter::{Entity, Fact, Options};

const EVENTS: u64 = 360;
const LIMIT: Duration = Duration::from_secs(120);

/// One of the document's functions, served by a Python of its own in a folder of its own.
struct Function {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl Function {
    fn start(python: &Path, name: &str, folder: &Path) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let folder = folder.join(name);
        std::fs::create_dir(&folder).unwrap();
        let mut child = Command::new(python)
            .arg(root.join("tests/data/function_host.py"))
            .args([&root.join("docs/function-authors.md"), Path::new(name)])
            .current_dir(&folder)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let port = line.trim().parse().unwrap_or_else(|_| panic!("{name}.py does not run: {line:?}"));
        Function { child, port, folder }
    }

    /// The lines of a file that the host writes.
    fn lines(&self, file: &str) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.join(file)).unwrap_or_default();
        // The last line may be half written.
        text.split_inclusive('\n')
            .filter(|line| line.ends_with('\n'))
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    fn ids(&self, file: &str) -> Vec<String> {
        self.lines(file).iter().map(|line| line["id"].as_str().unwrap().to_owned()).collect()
    }

    fn database(&self) -> Connection {
        let name = self.folder.file_name().unwrap().to_str().unwrap();
        Connection::open(self.folder.join(format!("{name}.db"))).unwrap()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn unique(ids: &[String]) -> BTreeSet<&str> {
    ids.iter().map(String::as_str).collect()
}

#[test]
fn the_documented_functions_handle_repeats_and_reordering() {
    let Some(python) = peer("python") else { return };
    // Few machines, so that each has several states.
    let stack = Stack::new(Options { vms: 12, ..Options::default() }, [""; 0]);
    let functions: BTreeMap<&str, Function> = ["once", "newest", "answers", "later"]
        .into_iter()
        .map(|name| (name, Function::start(&python, name, stack.folder.path())))
        .collect();
    // In order and alone, out of order, and side by side.
    let mut config = stack.config().set("checkpointInterval", "1s");
    for (name, ordering) in [("once", "source"), ("newest", "none"), ("answers", "entity"), ("later", "none")]
    {
        let url = format!("http://127.0.0.1:{}", functions[name].port);
        let function = Section::cloudevents(name, &url)
            .set("ordering", ordering)
            .set("concurrency", 8)
            .set("retry", json!({"backoffMin": "5ms", "backoffMax": "50ms", "blame": {"422": "event"}}))
            .set("breaker", json!({"probeInterval": "100ms"}));
        config = config.processor(function);
    }
    let mut router = stack.start(&config);
    let mut facts: Vec<Fact> = Vec::new();
    for _ in 0..3 {
        let created = stack.vcenter.append(EVENTS / 3);
        facts.extend(created.map(|index| stack.vcenter.fact(index).unwrap()));
        let once = &functions["once"];
        let some = wait_until(LIMIT, || unique(&once.ids("calls.jsonl")).len() > facts.len() - 90);
        assert!(some, "{}", router.stderr().text());
        router.restart();
    }
    let all: BTreeSet<String> = facts.iter().map(|fact| fact.id.to_string()).collect();
    for (name, function) in &functions {
        let came = wait_until(LIMIT, || unique(&function.ids("calls.jsonl")).len() == all.len());
        let ids = function.ids("calls.jsonl");
        assert!(came, "{name}: {} of {}; {}", unique(&ids).len(), all.len(), router.stderr().text());
        assert!(ids.len() > all.len() + 60, "{name}: answers were lost, so events came again: {}", ids.len());
        let failed = function.lines("calls.jsonl").into_iter().find(|line| line["status"] == 500);
        assert_eq!(failed, None, "{name}");
    }

    let of = |class: &str| {
        facts.iter().filter(|fact| fact.class == class).map(|fact| fact.id.to_string()).collect()
    };
    let expected: BTreeSet<String> = of("VmPoweredOffEvent");
    let db = functions["once"].database();
    let mut tickets = db.prepare("SELECT event FROM ticket").unwrap();
    let tickets: Vec<String> = tickets.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(tickets.len(), expected.len(), "one each");
    assert_eq!(tickets.into_iter().collect::<BTreeSet<_>>(), expected);

    let mut expected = BTreeMap::new();
    for fact in &facts {
        let state = match &*fact.class {
            "VmPoweredOnEvent" | "DrsVmPoweredOnEvent" => "on",
            "VmPoweredOffEvent" => "off",
            _ => continue,
        };
        let Entity::Vm(vm) = fact.entity else { panic!("{fact:?}") };
        // Facts are in the order of keys and times.
        expected.insert(format!("vm-{}", 1_000_000 + vm), state.to_owned());
    }
    let db = functions["newest"].database();
    let mut states = db.prepare("SELECT vm, state FROM power").unwrap();
    let states = states.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap);
    assert_eq!(states.collect::<BTreeMap<String, String>>(), expected);

    let later = &functions["later"];
    let worked = wait_until(LIMIT, || unique(&later.ids("worked.jsonl")).len() == all.len());
    assert!(worked && later.ids("worked.jsonl").len() == all.len(), "each once: no worker was killed");

    let answers = &functions["answers"];
    let refused: BTreeSet<String> = answers
        .lines("calls.jsonl")
        .iter()
        .filter(|line| line["status"] == 422)
        .map(|line| line["id"].as_str().unwrap().to_owned())
        .collect();
    assert!(!refused.is_empty() && answers.lines("calls.jsonl").iter().any(|line| line["status"] == 503));
    assert!(unique(&answers.ids("tagged.jsonl")).iter().all(|id| !refused.contains(*id)));
    let reader = event_router::state::StoreReader::open(&stack.folder.path().join("data")).unwrap();
    let letters = || reader.dead_letters(&Default::default()).unwrap();
    let ids = || letters().iter().map(|letter| letter.facts.id.to_string()).collect::<BTreeSet<_>>();
    assert!(wait_until(LIMIT, || ids() == refused), "{:?} of {refused:?}", ids());
    assert!(letters().iter().all(|letter| letter.facts.reason.contains("no machine vm-")));
    assert_eq!(router.terminate(LIMIT).code(), Some(0), "{}", router.stderr().text());
    assert_eq!(ids(), refused);
}
