//! The account of a run: events that the vCenters created, events that the targets acknowledged or
//! refused, and the difference, which the router still owes.
//!
//! The account does not come from the router's state. Only the bytes of undecodable events do, and
//! `raw` checks that they hold the keys of the events that were created malformed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;

use serde_json::Value;

use super::{GRAVEYARD, Refusal, Site, Target, VCENTERS};

impl Site {
    /// The fate of every event that a target received, worked out from the requests it kept.
    pub fn outcomes(&self, target: &Target) -> Outcomes {
        let mut indexes = BTreeMap::new();
        for (at, vcenter) in self.vcenters.iter().enumerate() {
            indexes.extend(
                (0..vcenter.produced())
                    .map(|index| (vcenter.fact(index).unwrap().id.to_string(), (at, index))),
            );
        }
        let mut outcomes = Outcomes::default();
        for received in target.sink.received() {
            let body: Value = serde_json::from_slice(&received.body).unwrap();
            let events = if let Value::Array(events) = body { events } else { vec![body] };
            for event in events {
                // Every received event has an id that one of the vCenters created.
                let (at, index) = indexes[event["id"].as_str().unwrap()];
                let set = if received.taken { &mut outcomes.acknowledged } else { &mut outcomes.refused };
                set[at].insert(index);
            }
        }
        outcomes
    }

    /// All events that a destination has to get.
    fn due(&self, target: &Target) -> [BTreeSet<u64>; 2] {
        if target.destination.name == GRAVEYARD.name {
            return self.outcomes(self.target("refuser")).refused;
        }
        [0, 1].map(|at| {
            if target.destination.soap_only && VCENTERS[at].3 != "soap" {
                return BTreeSet::new();
            }
            let created = target.since[at]..self.vcenters[at].produced();
            created.filter(|index| !self.unreadable[at].contains(index)).collect()
        })
    }

    /// The part of `due` that is neither acknowledged nor refused for good.
    pub fn owed(&self, target: &Target) -> [BTreeSet<u64>; 2] {
        let Outcomes { acknowledged, refused } = self.outcomes(target);
        let due = self.due(target);
        [0, 1].map(|at| {
            let mut left: BTreeSet<u64> = due[at].difference(&acknowledged[at]).copied().collect();
            // A target that waits gets a refused event again, so it still owes that event.
            if target.destination.refusal != Refusal::Waits {
                left.retain(|index| !refused[at].contains(index));
            }
            left
        })
    }

    /// Copies the state of a router that has ended, and writes the account beside it.
    pub fn keep(&self, name: &str) {
        let folder = self.folder.join(name);
        fs::create_dir_all(&folder).unwrap();
        // Copied before a command of the router reads the state, because a command creates files of
        // its own.
        for file in ["state.db", "state.db-wal"] {
            let from = self.work.join("data").join(file);
            if from.exists() {
                fs::copy(from, folder.join(file)).unwrap();
            }
        }
        let spools = self.spools();
        for spilled in ["lagging", "parking", GRAVEYARD.name] {
            assert!(spools.get(spilled).is_some(), "{spilled} has a spool: {spools}");
        }
        fs::copy(self.config_file(), folder.join("config.yaml")).unwrap();
        fs::write(folder.join("script.txt"), &self.script).unwrap();
        fs::write(folder.join("events.txt"), self.events()).unwrap();
        fs::write(folder.join("ledger.txt"), self.ledger()).unwrap();
        for (at, indexes) in self.unreadable.iter().enumerate().filter(|(_, indexes)| !indexes.is_empty()) {
            fs::write(folder.join(format!("unreadable-{}.txt", VCENTERS[at].0)), self.raw(at, indexes))
                .unwrap();
        }
    }

    /// One line for every event that was created: vCenter, index, key, id, createdTime, class,
    /// entity.
    fn events(&self) -> String {
        let mut text = String::new();
        for (vcenter, (name, ..)) in self.vcenters.iter().zip(VCENTERS) {
            for fact in (0..vcenter.produced()).map(|index| vcenter.fact(index).unwrap()) {
                let testbed::vcenter::Fact { index, key, created_us, id, class, entity } = fact;
                writeln!(text, "{name} {index} {key} {id} {created_us} {class} {entity:?}").unwrap();
            }
        }
        text
    }

    /// One line for each target, vCenter and fate: `TARGET VCENTER FATE INDEX-RANGES`.
    fn ledger(&self) -> String {
        let mut text = String::new();
        let configured = |target: &&Target| !target.destination.late || target.since[0] > 0;
        for target in self.targets.iter().filter(configured) {
            let Outcomes { acknowledged, mut refused } = self.outcomes(target);
            let owed = self.owed(target);
            // An event that was refused first and acknowledged later counts as acknowledged.
            for at in 0..2 {
                refused[at].retain(|index| !acknowledged[at].contains(index));
                let refused = match target.destination.refusal {
                    Refusal::Waits => None,
                    Refusal::DeadLetter(status) => Some((format!("dead:{status}"), &refused[at])),
                    Refusal::Passes(to) => Some((format!("passed:{to}"), &refused[at])),
                };
                let states = [("acknowledged".to_owned(), &acknowledged[at]), ("owed".to_owned(), &owed[at])];
                for (state, indexes) in states.into_iter().chain(refused) {
                    if !indexes.is_empty() {
                        let (to, from) = (target.destination.name, VCENTERS[at].0);
                        writeln!(text, "{to} {from} {state}{}", ranges(indexes)).unwrap();
                    }
                }
            }
        }
        for (indexes, (name, ..)) in self.unreadable.iter().zip(VCENTERS) {
            if !indexes.is_empty() {
                writeln!(text, "- {name} unreadable{}", ranges(indexes)).unwrap();
            }
        }
        text
    }

    /// The bytes that vCenter sent for the events that no decoder can read.
    fn raw(&self, at: usize, indexes: &BTreeSet<u64>) -> String {
        let letters = self.ask(&["dlq", "list"]);
        let ours = letters
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap())
            .find(|letter| letter["decoded"] == Value::Bool(false) && letter["source"] == VCENTERS[at].0);
        let number = ours.unwrap()["number"].to_string();
        let shown: Value = serde_json::from_str(&self.ask(&["dlq", "show", &number])).unwrap();
        let raw = shown["raw"].as_str().unwrap().to_owned();
        for index in indexes {
            let key = self.vcenters[at].fact(*index).unwrap().key.to_string();
            assert!(raw.contains(&key), "event {index} with key {key} is in {raw}");
        }
        raw
    }
}

/// The fate of the events that came to a target, by vCenter.
#[derive(Default)]
pub struct Outcomes {
    pub acknowledged: [BTreeSet<u64>; 2],
    pub refused: [BTreeSet<u64>; 2],
}

/// ` 0-59 61 70-99`
fn ranges(indexes: &BTreeSet<u64>) -> String {
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for &index in indexes {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == index => *last = index,
            _ => runs.push((index, index)),
        }
    }
    let run = |(first, last): (u64, u64)| {
        if first == last { format!(" {first}") } else { format!(" {first}-{last}") }
    };
    runs.into_iter().map(run).collect()
}
