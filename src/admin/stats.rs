//! `/stats`, the old router's page: Go's expvar format, in the layout of the release whose
//! configuration format is in use.
//!
//! ```json
//! {"cmdline":[…], "memstats":{…},
//!  "system.allLoad":{"Load1":0.1,…}, "system.lastLoad":0.1,
//!  "system.numberOfSeconds":17, "system.programName":"…",
//!  "vmware.event.router.stats": {
//!    "vcenter":  {"type":"EventProvider", "address":"https://…", "started":"…",
//!                 "events_total":7, "events_err":0, "events_per_sec":0.41},
//!    "openfaas": {"type":"EventProcessor", "address":"http://…", "started":"…",
//!                 "invocations":{"VmPoweredOnEvent":{"SuccessCount":6,"FailureCount":1}}}}}
//! ```
//!
//! Releases with the JSON format (up to v0.4) have `provider_type` and `name` instead of `type` and
//! `address`, and a single number per subject. An entry is named after the kind of its provider, as
//! it always was. Where a configuration has several of a kind, each entry has its own name.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::View;
use super::model::Began;
use crate::limits::REASON_BYTES_MAX;
use crate::outside;
use crate::processor::counted::Tally;
use crate::settings::{ConfigFormat, ProcessorKind};

/// The data of the page.
pub(super) struct Stats {
    view: View,
    /// By index: name in the page, address.
    sources: Vec<(String, String)>,
    processors: Vec<(String, String)>,
    began: Began,
}

impl Stats {
    pub fn new(view: View, began: Began) -> Self {
        let config = &view.config;
        let source = |source: &crate::settings::SourceConfig| {
            let kind = source_kind(source.kind.word(), config.format);
            let address = source.kind.as_type().address();
            (source.name.clone(), kind, outside::escaped(&address).into_owned())
        };
        let processor = |processor: &crate::settings::ProcessorConfig| {
            let (kind, address) = target(&processor.kind, config.format);
            (processor.name.clone(), kind, outside::escaped(&address).into_owned())
        };
        Stats {
            sources: named(config.sources.iter().map(source).collect()),
            processors: named(config.processors.iter().map(processor).collect()),
            view,
            began,
        }
    }

    /// The page.
    pub fn page(&self) -> String {
        let load = load();
        let arguments: Vec<String> = std::env::args_os()
            .map(|word| outside::text(&word.to_string_lossy(), REASON_BYTES_MAX))
            .collect();
        json!({
            "cmdline": arguments,
            "memstats": memory(),
            "system.allLoad": {"Load1": load[0], "Load5": load[1], "Load15": load[2]},
            "system.lastLoad": load[0],
            "system.numberOfSeconds": self.began.at.elapsed().as_secs(),
            "system.programName": arguments.first(),
            "vmware.event.router.stats": self.entries(),
        })
        .to_string()
    }

    fn entries(&self) -> Value {
        let mut entries = Map::new();
        let seconds = self.began.at.elapsed().as_secs_f64();
        for ((name, address), counted) in self.sources.iter().zip(&*self.view.source_metrics) {
            let events = counted.events.get();
            let mut entry = self.entry(("EventProvider", "stream"), address);
            entry.insert("events_total".into(), events.into());
            entry.insert("events_err".into(), counted.poison.get().into());
            entry.insert("events_per_sec".into(), ((events as f64 / seconds * 100.0).round() / 100.0).into());
            entries.insert(name.clone(), entry.into());
        }
        for ((name, address), invocations) in self.processors.iter().zip(&*self.view.invocations) {
            let mut entry = self.entry(("EventProcessor", "processor"), address);
            let invocations: Map<String, Value> = invocations
                .snapshot()
                .into_iter()
                .map(|(subject, tally)| (outside::escaped(&subject).into_owned(), self.invocation(tally)))
                .collect();
            // Go's `omitempty`.
            if !invocations.is_empty() {
                entry.insert("invocations".into(), invocations.into());
            }
            entries.insert(name.clone(), entry.into());
        }
        entries.into()
    }

    /// The members that entries of sources and processors share. `kind` is the entry's kind in the
    /// words of later and of earlier releases.
    fn entry(&self, kind: (&str, &str), address: &str) -> Map<String, Value> {
        let pairs = match self.view.config.format {
            ConfigFormat::JsonArray => [("provider_type", kind.1.to_owned()), ("name", address.to_owned())],
            ConfigFormat::V1alpha1 | ConfigFormat::Native => {
                [("type", kind.0.to_owned()), ("address", address.to_owned())]
            }
        };
        let started = [("started", self.began.time.to_string())];
        pairs.into_iter().chain(started).map(|(key, value)| (key.to_owned(), value.into())).collect()
    }

    fn invocation(&self, tally: Tally) -> Value {
        match self.view.config.format {
            ConfigFormat::JsonArray => (tally.successes + tally.failures).into(),
            ConfigFormat::V1alpha1 | ConfigFormat::Native => {
                json!({"SuccessCount": tally.successes, "FailureCount": tally.failures})
            }
        }
    }
}

/// Replaces names by kinds where a kind is unique: `(name, kind, address)` to `(name, address)`.
fn named(all: Vec<(String, &'static str, String)>) -> Vec<(String, String)> {
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    all.iter().for_each(|(_, kind, _)| *count.entry(kind).or_default() += 1);
    all.iter()
        .map(|(name, kind, address)| {
            let name = if count[kind] == 1 { (*kind).to_owned() } else { name.clone() };
            (name, address.clone())
        })
        .collect()
}

/// A source's kind in the old router's words.
fn source_kind(word: &'static str, format: ConfigFormat) -> &'static str {
    match format {
        ConfigFormat::JsonArray if word == "vcenter" => "vmware_vcenter",
        _ => word,
    }
}

/// A processor's kind in the old router's words, and the address that it showed.
fn target(kind: &ProcessorKind, format: ConfigFormat) -> (&'static str, String) {
    let word = match (kind.word(), format) {
        ("eventbridge", _) => "aws_event_bridge",
        ("cloudevents", ConfigFormat::V1alpha1) => "knative",
        (word, _) => word,
    };
    (word, kind.settings().shown())
}

/// The system's load over 1, 5 and 15 minutes; 0 where it is unknown.
fn load() -> [f64; 3] {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let mut numbers = text.split_ascii_whitespace().map(|number| number.parse().unwrap_or(0.0));
    [(); 3].map(|()| numbers.next().unwrap_or(0.0))
}

/// The keys of Go's `runtime.MemStats` that make sense here: resident and reserved bytes of this
/// process.
fn memory() -> Value {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.split_ascii_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) << 10
    };
    let (resident, reserved) = (bytes("VmRSS"), bytes("VmSize"));
    json!({"Alloc": resident, "HeapAlloc": resident, "HeapInuse": resident, "HeapSys": reserved, "Sys": reserved})
}
