//! A workload: the events of the synthetic vCenters, the behaviour of the target, the troubles, and
//! the goals.
//!
//! It comes from a YAML file or is built in, and flags override single fields. All errors in a
//! workload are reported at once.

pub mod fields;
mod goals;
mod rate;
mod router;
mod target;
pub mod tree;
mod trouble;
mod words;

use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use testbed::vcenter::{Mix, Model, ModelSpec};

pub use goals::Goals;
pub use rate::Rate;
pub use target::{ErrorKind, Errors, Ordering, Shape, TargetSettings, delay};
pub use testbed::sink::Delay;
pub use trouble::{Scheduled, Trouble};

use fields::{Fields, duration, flag, whole, word};
use tree::{Problem, WorkloadErrors, YamlData, YamlNode};

/// Maximum size of a workload file. A long one has three KiB.
const FILE_BYTES_MAX: u64 = 256 << 10;
/// Maximum number of vCenters in one process. Each needs a port and, with the router's two
/// connections, a handful of descriptors.
const VCENTERS_MAX: u64 = 256;

/// The built-in workloads, by name.
pub const BUILT_IN: &[(&str, &str)] = &[
    ("alarm-flood", include_str!("../../workloads/alarm-flood.yaml")),
    ("all-troubles", include_str!("../../workloads/all-troubles.yaml")),
    ("backlog", include_str!("../../workloads/backlog.yaml")),
    ("boot-storm", include_str!("../../workloads/boot-storm.yaml")),
    ("bursts", include_str!("../../workloads/bursts.yaml")),
    ("day", include_str!("../../workloads/day.yaml")),
    ("dead-target", include_str!("../../workloads/dead-target.yaml")),
    ("drs-storm", include_str!("../../workloads/drs-storm.yaml")),
    ("eventbridge", include_str!("../../workloads/eventbridge.yaml")),
    ("eventex", include_str!("../../workloads/eventex.yaml")),
    ("idle", include_str!("../../workloads/idle.yaml")),
    ("large-tasks", include_str!("../../workloads/large-tasks.yaml")),
    ("login-storm", include_str!("../../workloads/login-storm.yaml")),
    ("long-troubles", include_str!("../../workloads/long-troubles.yaml")),
    ("many-vcenters", include_str!("../../workloads/many-vcenters.yaml")),
    ("openfaas", include_str!("../../workloads/openfaas.yaml")),
    ("per-event", include_str!("../../workloads/per-event.yaml")),
    ("ramp", include_str!("../../workloads/ramp.yaml")),
    ("steady", include_str!("../../workloads/steady.yaml")),
    ("unbounded", include_str!("../../workloads/unbounded.yaml")),
];

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Workload {
    pub name: String,
    pub description: String,
    pub seed: u64,
    pub vcenters: u32,
    pub rate: Rate,
    /// Events to create after the start, over all vCenters.
    pub events: Option<u64>,
    /// The time during which events are created.
    pub duration: Option<Duration>,
    /// Events that exist at the start, over all vCenters.
    pub backlog: u64,
    pub mix: Mix,
    /// Virtual machines and hosts of each vCenter.
    pub vms: u32,
    pub hosts: u32,
    /// True if the vCenters use HTTPS.
    pub https: bool,
    /// vCenter's clock minus this machine's, in seconds.
    pub clock_skew_seconds: i64,
    pub target: TargetSettings,
    pub troubles: Vec<Scheduled>,
    pub goals: Goals,
    pub router: RouterSettings,
}

/// Settings of the router in its own format. The router checks them.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouterSettings {
    /// Top-level settings: names, and values in YAML's flow style.
    pub settings: Vec<(String, String)>,
    /// Settings of each source.
    pub source: Vec<(String, String)>,
    /// Settings of the processor.
    pub processor: Vec<(String, String)>,
}

impl Workload {
    /// Loads a built-in workload by its name, or a file.
    ///
    /// # Errors
    /// All errors in it.
    pub fn load(name: &str) -> Result<Workload, WorkloadErrors> {
        if let Some((name, text)) = BUILT_IN.iter().find(|(known, _)| *known == name) {
            return Workload::parse(name, text);
        }
        let path = Path::new(name);
        let wrong = |message: String| WorkloadErrors {
            file: name.to_owned(),
            problems: vec![Problem { line: 0, path: String::new(), message }],
        };
        let size = std::fs::metadata(path).map_err(|error| {
            let known: Vec<&str> = BUILT_IN.iter().map(|(name, _)| *name).collect();
            wrong(format!("cannot be read: {error}; must be a file, or one of {}", known.join(", ")))
        })?;
        if size.len() > FILE_BYTES_MAX {
            return Err(wrong(format!("is larger than {FILE_BYTES_MAX} bytes")));
        }
        let text =
            std::fs::read_to_string(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
        Workload::parse(name, &text)
    }

    /// Loads the workload with this name, or parses `unnamed` if there is none.
    ///
    /// # Errors
    /// All errors in it.
    pub fn load_or(name: Option<&str>, unnamed: &str) -> Result<Workload, WorkloadErrors> {
        name.map_or_else(|| Workload::parse("plain", unnamed), Workload::load)
    }

    /// # Errors
    /// All errors in it.
    pub fn parse(file: &str, text: &str) -> Result<Workload, WorkloadErrors> {
        let mut problems = Vec::new();
        let workload = match tree::read(text) {
            Ok(root) => read(file, &root, &mut problems),
            Err(problem) => {
                problems.push(problem);
                None
            }
        };
        match workload {
            Some(workload) if problems.is_empty() => Ok(workload),
            _ => {
                problems.sort();
                problems.dedup();
                Err(WorkloadErrors { file: file.to_owned(), problems })
            }
        }
    }

    /// Checks conditions on several fields, after flags have changed some.
    ///
    /// # Errors
    /// All combinations that do not fit together.
    pub fn check(&self) -> Result<(), WorkloadErrors> {
        let mut problems = Vec::new();
        let mut wrong = |path: &str, message: &str| {
            problems.push(Problem { line: 0, path: path.into(), message: message.into() });
        };
        // Something must happen.
        let by_trouble = self.troubles.iter().any(|scheduled| scheduled.trouble.creates_events());
        if self.rate == Rate::None && self.backlog == 0 {
            wrong("rate", "is missing, and there is no backlog: nothing would happen");
        } else if self.rate.peak() == Some(0.0) && self.backlog == 0 && !by_trouble {
            wrong("rate", "is 0, and there is no backlog: nothing would be tested");
        }
        // A run needs an end, unless it only reads a backlog.
        if self.rate == Rate::None {
            let given = [("events", self.events.is_some()), ("duration", self.duration.is_some())];
            for (name, _) in given.into_iter().filter(|(_, given)| *given) {
                wrong(name, "is for a run with a `rate`; without a rate there is only the backlog");
            }
        } else if self.events.is_none() && self.duration.is_none() {
            wrong("duration", "is missing; without it or `events` the run has no end");
        }
        // A killed router must find its state again.
        let kills = |scheduled: &Scheduled| matches!(scheduled.trouble, Trouble::RouterKill { .. });
        let ephemeral = self.router.settings.iter().any(|(key, value)| key == "ephemeral" && value == "true");
        if ephemeral && self.troubles.iter().any(kills) {
            wrong("troubles", "`routerKill` needs a router that keeps its state; remove `ephemeral`");
        }
        if problems.is_empty() { Ok(()) } else { Err(WorkloadErrors { file: self.name.clone(), problems }) }
    }

    /// The time during which events are created, if it is known in advance.
    pub fn length(&self) -> Option<Duration> {
        let by_events = match (self.rate, self.events) {
            (Rate::None, _) => return None,
            (Rate::Steady(rate), Some(events)) => Duration::try_from_secs_f64(events as f64 / rate).ok(),
            _ => None,
        };
        self.duration.into_iter().chain(by_events).min()
    }

    /// Remarks about troubles that are due after the last event.
    pub fn troubles_too_late(&self) -> Vec<String> {
        let Some(length) = self.length() else { return Vec::new() };
        let late = self.troubles.iter().filter(|scheduled| scheduled.at >= length);
        let words = |scheduled: &Scheduled| {
            let (name, at) = (scheduled.trouble.name(), scheduled.at);
            format!(
                "`{name}` will not happen: it is due after {at:?}, but events are created for {length:?} only"
            )
        };
        late.map(words).collect()
    }

    /// The model of a vCenter's events. Each vCenter has its own seed.
    pub fn model(&self, vcenter: u32) -> ModelSpec {
        let seed = self.seed.wrapping_mul(1_000_003).wrapping_add(u64::from(vcenter));
        ModelSpec { seed, vms: self.vms, hosts: self.hosts, mix: self.mix.clone() }
    }

    /// Returns true if correct behaviour may deliver an event more than once.
    pub fn repeats_deliveries(&self) -> bool {
        self.target.errors.iter().any(Errors::repeats_deliveries)
            || self.troubles.iter().any(|scheduled| scheduled.trouble.repeats_deliveries())
    }
}

/// One vCenter's share of a total.
pub fn share(total: u64, of: u32, vcenter: u32) -> u64 {
    total / u64::from(of) + u64::from(u64::from(vcenter) < total % u64::from(of))
}

fn read(file: &str, root: &YamlNode, problems: &mut Vec<Problem>) -> Option<Workload> {
    // A wrong field adds a problem and counts as absent, so that all problems are found at once.
    let mut fields = Fields::of(root, "", problems)?;
    let text = |text: &str| Ok(text.to_owned());
    let name =
        Path::new(file).file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let description = fields.get("description", text).unwrap_or_default();
    let seed = fields.get("seed", whole(0, u64::MAX)).unwrap_or(1);
    let vcenters = fields.get("vcenters", whole(1, VCENTERS_MAX)).unwrap_or(1) as u32;
    let rate = Rate::read(&mut fields);
    let events = fields.get("events", whole(1, 1 << 40));
    let duration = fields.get("duration", duration);
    let backlog = fields.get("backlog", whole(0, 1 << 32)).unwrap_or(0);
    let mix = read_mix(&mut fields);
    let (vms, hosts) = fields
        .block("entities", |entities| {
            let vms = entities.get("vms", whole(1, 1_000_000)).unwrap_or(1_000) as u32;
            Some((vms, entities.get("hosts", whole(1, 10_000)).unwrap_or(32) as u32))
        })
        .unwrap_or((1_000, 32));
    let https = fields.get("https", flag).unwrap_or(false);
    let clock_skew_seconds = fields
        .get("clockSkewSeconds", |text| {
            let skew = text.parse().ok().filter(|skew| (-86_400..=86_400).contains(skew));
            skew.ok_or_else(|| "must be whole seconds, at most a day in either direction".to_owned())
        })
        .unwrap_or(0);
    let target = fields.block("target", |target| TargetSettings::read(target)).unwrap_or_default();
    let troubles = fields.list("troubles", trouble::read);
    let goals = fields.block("goals", |goals| Some(Goals::read(goals))).unwrap_or_default();
    let router = fields.block("router", |router| Some(read_router(router))).unwrap_or_default();
    // Unknown fields are problems as well.
    fields.finish();
    Some(Workload {
        name,
        description,
        seed,
        vcenters,
        rate: rate?,
        events,
        duration,
        backlog,
        mix: mix?,
        vms,
        hosts,
        https,
        clock_skew_seconds,
        target,
        troubles,
        goals,
        router,
    })
}

const MIXES: [(&str, Mix); 7] = [
    ("steady", Mix::Steady),
    ("bootStorm", Mix::BootStorm),
    ("drsStorm", Mix::DrsStorm),
    ("alarmFlood", Mix::AlarmFlood),
    ("loginStorm", Mix::LoginStorm),
    ("eventExHeavy", Mix::EventExHeavy),
    ("largeTasks", Mix::LargeTasks),
];

/// Parses the name of a mix.
pub fn mix(text: &str) -> Result<Mix, String> {
    word(&MIXES)(text)
}

/// A named mix, or class names with weights.
fn read_mix(fields: &mut Fields<'_, '_>) -> Option<Mix> {
    let Some(node) = fields.node("mix") else { return Some(Mix::Steady) };
    let YamlData::Map(entries) = &node.data else { return fields.get("mix", mix) };
    let mut weights = Vec::new();
    for entry in entries {
        let weight = match &entry.value.data {
            YamlData::Scalar { text, .. } => whole(0, 1_000_000)(text),
            _ => Err("must be a weight".into()),
        };
        match weight {
            Ok(weight) => weights.push((entry.key.clone(), weight as u32)),
            Err(message) => {
                fields.wrong("mix", format!("`{}` {message}", entry.key));
                return None;
            }
        }
    }
    let custom = Mix::Custom(weights);
    match Model::new(ModelSpec { seed: 0, vms: 1, hosts: 1, mix: custom.clone() }) {
        Ok(_) => Some(custom),
        Err(error) => {
            fields.wrong("mix", error.to_string());
            None
        }
    }
}

fn read_router(fields: &mut Fields<'_, '_>) -> RouterSettings {
    let mut flow = |key| -> Vec<(String, String)> {
        let Some(node) = fields.node(key) else { return Vec::new() };
        let YamlData::Map(entries) = &node.data else {
            fields.wrong(key, "must be a map of the router's own fields");
            return Vec::new();
        };
        let write = |node: &YamlNode| {
            let mut out = String::new();
            node.write(&mut out);
            out
        };
        entries.iter().map(|entry| (entry.key.clone(), write(&entry.value))).collect()
    };
    RouterSettings { settings: flow("settings"), source: flow("source"), processor: flow("processor") }
}

#[cfg(test)]
mod tests;
