//! Events and patterns to measure with.
//!
//! The events are a page of 1,000 as a vCenter sends them: ten kinds, about 600 bytes of `data`
//! each, with ascending keys. Of 1,000 patterns of one operator a few match an event, as in a
//! configuration.

use eventpattern::{Event, Matcher, PatternId, PatternSet, Root};
use serde_json::{Value as Json, json};

/// One event of each kind, with the key 0.
const KINDS: &str = include_str!("events.jsonl");

pub const EVENTS: usize = 1_000;

pub struct OwnedEvent {
    subject: String,
    event_type: String,
    data: String,
}

pub fn page() -> Vec<OwnedEvent> {
    let kinds: Vec<Json> =
        KINDS.lines().map(|line| serde_json::from_str(line).expect("the events are JSON")).collect();
    let event = |key: usize| {
        let kind = &kinds[key % kinds.len()];
        let text = |name: &str| kind[name].as_str().expect("every event has names").to_string();
        let mut data = kind["data"].clone();
        data["Key"] = json!(key);
        OwnedEvent { subject: text("subject"), event_type: text("type"), data: data.to_string() }
    };
    (0..EVENTS).map(event).collect()
}

/// Matches the page, and returns the number of matches.
pub fn match_page(matcher: &mut Matcher, page: &[OwnedEvent], out: &mut Vec<PatternId>) -> usize {
    let mut matches = 0;
    for event in page {
        let event = Event {
            source: "https://vcenter.example/sdk",
            event_type: &event.event_type,
            subject: &event.subject,
            datacontenttype: "application/json",
            data: event.data.as_bytes(),
            ..Event::default()
        };
        matcher.matches(&event, out);
        matches += out.len();
    }
    matches
}

pub fn compile(patterns: &[(PatternId, Json)]) -> PatternSet {
    PatternSet::compile(Root::CloudEvent, patterns).expect("the patterns are valid")
}

/// The first `count` patterns of a workload.
pub fn patterns(pattern: Pattern, count: usize) -> Vec<(PatternId, Json)> {
    (0..count).map(|i| (i as PatternId, pattern(i))).collect()
}

/// Pattern number `i` of a workload.
pub type Pattern = fn(usize) -> Json;

fn on_name(test: Json) -> Json {
    json!({"data": {"Vm": {"Name": [test]}}})
}

fn subject(i: usize) -> String {
    if i == 0 { "VmPoweredOnEvent".into() } else { format!("Subject{i}Event") }
}

pub const WORKLOADS: [(&str, Pattern); 19] = [
    ("subject", |i| json!({"subject": [subject(i)]})),
    (
        "subject-prefix",
        |i| json!({"subject": [{"prefix": if i == 0 { "VmPowered".into() } else { format!("Subject{i}") }}]}),
    ),
    (
        "subject-and-data",
        |i| json!({"subject": [subject(i)], "data": {"Vm": {"Name": [{"prefix": "DC0_H0"}]}}}),
    ),
    ("exact", |i| on_name(json!(format!("DC0_H0_VM{i}")))),
    ("exact-number", |i| json!({"data": {"Key": [i]}})),
    ("prefix", |i| on_name(json!({"prefix": format!("DC0_H{i}_")}))),
    ("suffix", |i| on_name(json!({"suffix": format!("_VM{i}")}))),
    ("equals-ignore-case", |i| on_name(json!({"equals-ignore-case": format!("dc0_h0_vm{i}")}))),
    ("prefix-ignore-case", |i| on_name(json!({"prefix": {"equals-ignore-case": format!("dc0_h{i}_")}}))),
    ("wildcard", |i| on_name(json!({"wildcard": format!("DC*_H{i}_*")}))),
    // Every value but those of most events, so few events match.
    ("anything-but", |i| json!({"data": {"UserName": [{"anything-but": ["user", "", format!("user{i}")]}]}})),
    (
        "anything-but-prefix",
        |i| json!({"data": {"UserName": [{"anything-but": {"prefix": ["u", &format!("user{i}")]}}]}}),
    ),
    ("numeric", |i| json!({"data": {"Key": [{"numeric": [">=", i, "<", i + 2]}]}})),
    ("cidr", |i| json!({"data": {"IpAddress": [{"cidr": format!("10.{}.{}.0/24", i / 256, i % 256)}]}})),
    ("exists", |i| json!({"data": {format!("Field{i}"): [{"exists": true}]}})),
    (
        "or",
        |i| json!({"data": {"$or": [{"Vm": {"Name": [format!("DC0_H0_VM{i}")]}}, {"Host": {"Name": [format!("DC9_H{i}")]}}]}}),
    ),
    ("mixed-data", mixed_data),
    ("rules", |i| rule(i, 50)),
    ("rules-of-eight-subjects", |i| rule(i, 8)),
];

/// Patterns on data alone, all operators in turn.
fn mixed_data(i: usize) -> Json {
    match i % 8 {
        0 => on_name(json!(format!("DC0_H0_VM{i}"))),
        1 => on_name(json!({"prefix": format!("DC0_H{i}_")})),
        2 => on_name(json!({"suffix": format!("_VM{i}")})),
        3 => on_name(json!({"equals-ignore-case": format!("dc0_h0_vm{i}")})),
        4 => on_name(json!({"wildcard": format!("DC*_H{i}_*")})),
        5 => json!({"data": {"UserName": [{"anything-but": ["user", "", format!("user{i}")]}]}}),
        6 => json!({"data": {"Key": [{"numeric": [">=", i, "<", i + 2]}]}}),
        _ => json!({"data": {"Key": [i]}}),
    }
}

/// The subjects of the page; rules name them and others.
const SUBJECTS: [&str; 8] = [
    "VmPoweredOnEvent",
    "VmPoweredOffEvent",
    "VmStartingEvent",
    "VmStoppingEvent",
    "UserLoginSessionEvent",
    "GeneralUserEvent",
    "com.example.my.event",
    "com.example.ext.event",
];

/// Rules as users write them, over `subjects` different subjects: half of them ask for a subject
/// alone, the others for a condition on the data as well.
fn rule(i: usize, subjects: usize) -> Json {
    let number = (i / 10) % subjects;
    let subject = SUBJECTS.get(number).map_or_else(|| format!("Subject{number}Event"), |name| (*name).into());
    match i % 10 {
        0..4 => json!({"subject": [subject]}),
        4 => json!({"subject": [{"prefix": &subject[..subject.len() - 5]}]}),
        5 => json!({"subject": [subject], "data": {"Vm": {"Name": [{"prefix": format!("DC{i}_")}]}}}),
        6 => json!({"subject": [subject], "data": {"Vm": {"Name": [format!("DC0_H0_VM{i}"), "DC0_H0_VM0"]}}}),
        7 => {
            json!({"subject": [subject], "data": {"UserName": [{"anything-but": ["user", format!("user{i}")]}]}})
        }
        8 => json!({"subject": [subject], "data": {"Datacenter": {"Name": [format!("DC{}", i % 20)]}}}),
        _ => on_name(json!(format!("DC0_H0_VM{i}"))),
    }
}
