//! What it costs to find the patterns that match a page of 1,000 events: 0, 1, 10 and 1,000 patterns of each operator.
//!
//! `cargo bench --bench route`; one column is `route/OPERATOR/COUNT`, the time of a page. `subject` has its patterns on the subject, which
//! the class of an event decides; all others on fields of `data`, which is read. Of the patterns about as many match as would in a
//! configuration: for each event none or a few.
//!
//! `functions/COUNT` routes a page to the functions of a gateway that has so many, with five topics each, of which ten want what is in the page. `refresh/…` is
//! what a look at 10,000 functions costs the task that does it: nothing has changed, and everything.

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use event_router::cloudevents::topic::Topic;
use event_router::event::{Batch, SourceInfo};
use event_router::pattern::{Facts, Matcher, PatternId, PatternSet, Root};
use event_router::pipeline::destination::Destinations;
use event_router::pipeline::route::Route;
use event_router::pipeline::settings::RouteSettings;
use event_router::processor::Selector;
use event_router::processor::openfaas::FunctionSelector;
use event_router::processor::openfaas::topics::{Catalog, Function};
use serde_json::{Value as Json, json};
use tokio::sync::watch;
use vsphere::{Decoded, decode};

const XML: &[u8] = include_bytes!("../tests/fixtures/golden/page1000.xml");
const PAGE: &str = include_str!("../tests/fixtures/golden/page1000.pascal.jsonl");

/// An event of the page, owned.
struct Event {
    subject: String,
    kind: String,
    data: String,
}

fn page() -> Vec<Event> {
    let event = |line: &str| {
        let event: Json = serde_json::from_str(line).expect("the fixture is JSON");
        let text = |name: &str| event[name].as_str().expect("the fixture has names").to_string();
        Event {
            subject: text("subject"),
            kind: format!("com.vmware.event.router/{}", text("category")),
            data: event["data"].to_string(),
        }
    };
    PAGE.lines().map(event).collect()
}

/// The matches of a page, so that nothing is optimized away.
fn route(matcher: &mut Matcher, page: &[Event], out: &mut Vec<PatternId>) -> usize {
    let mut matches = 0;
    for event in page {
        let facts = Facts {
            source: "https://vcenter.example/sdk",
            kind: &event.kind,
            subject: &event.subject,
            datacontenttype: "application/json",
            data: event.data.as_bytes(),
            ..Facts::default()
        };
        matcher.matches(&facts, out);
        matches += out.len();
    }
    matches
}

fn on_name(test: Json) -> Json {
    json!({"data": {"Vm": {"Name": [test]}}})
}

/// One operator: its name, and its pattern number `i`.
type Operator = (&'static str, fn(usize) -> Json);

const OPERATORS: [Operator; 16] = [
    (
        "subject",
        |i| json!({"subject": [if i == 0 { "VmPoweredOnEvent".into() } else { format!("Subject{i}Event") }]}),
    ),
    (
        "subject-prefix",
        |i| json!({"subject": [{"prefix": if i == 0 { "VmPowered".into() } else { format!("Subject{i}") }}]}),
    ),
    (
        "subject-and-data",
        |i| json!({"subject": [if i == 0 { "VmPoweredOnEvent".into() } else { format!("Subject{i}Event") }], "data": {"Vm": {"Name": [{"prefix": "DC0_H0"}]}}}),
    ),
    ("exact", |i| on_name(json!(format!("DC0_H0_VM{i}")))),
    ("exact-number", |i| json!({"data": {"Key": [i]}})),
    ("prefix", |i| on_name(json!({"prefix": format!("DC0_H{i}_")}))),
    ("suffix", |i| on_name(json!({"suffix": format!("_VM{i}")}))),
    ("equals-ignore-case", |i| on_name(json!({"equals-ignore-case": format!("dc0_h0_vm{i}")}))),
    ("prefix-ignore-case", |i| on_name(json!({"prefix": {"equals-ignore-case": format!("dc0_h{i}_")}}))),
    ("wildcard", |i| on_name(json!({"wildcard": format!("DC*_H{i}_*")}))),
    // Written so that they match few events: every value but those that most events have.
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
];

fn benches(criterion: &mut Criterion) {
    let page = page();
    let mut group = criterion.benchmark_group("route");
    group.throughput(Throughput::Elements(page.len() as u64));
    group
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    let mut measure = |name: &str, count: usize, pattern: fn(usize) -> Json| {
        let patterns: Vec<_> = (0..count).map(|i| (i as PatternId, pattern(i))).collect();
        let mut matcher =
            Arc::new(PatternSet::compile(Root::CloudEvent, &patterns).expect("the patterns are valid"))
                .matcher();
        let mut out = Vec::new();
        group.bench_function(BenchmarkId::new(name, count), |bencher| {
            bencher.iter(|| black_box(route(&mut matcher, &page, &mut out)))
        });
    };
    measure("none", 0, |_| Json::Null);
    for (name, pattern) in OPERATORS {
        for count in [1, 10, 1_000] {
            measure(name, count, pattern);
        }
    }
}

fn listed(count: usize, generation: usize, subjects: &[String]) -> Vec<Function> {
    let topic = |n: usize, t: usize| match n {
        0..10 => subjects[(n * 5 + t) % subjects.len()].clone(),
        _ => format!("Type{}Event", generation + n * 5 + t),
    };
    let topics = |n| (0..5).map(|t| Topic::parse(&topic(n, t))).collect();
    (0..count)
        .map(|n| Function { name: format!("f{n}").into(), asynchronous: None, topics: topics(n) })
        .collect()
}

fn functions(criterion: &mut Criterion) {
    let mut decoded = Decoded::default();
    decode::decode(XML, &mut decoded).expect("the golden page is well-formed");
    let source = SourceInfo {
        index: 0,
        name: "vc".into(),
        url: "https://vc/sdk".into(),
        instance_uuid: Default::default(),
        api_version: "8.0.3.0".into(),
    };
    let batch = Batch::decoded(source.into(), 0, decoded);
    let mut subjects: Vec<String> =
        batch.records.iter().map(|record| batch.text(record.subject).to_string()).collect();
    subjects.sort();
    subjects.dedup();
    let routes = [RouteSettings { sources: vec![true], pattern: None, processors: vec![0] }];
    let mut group = criterion.benchmark_group("functions");
    group.throughput(Throughput::Elements(batch.records.len() as u64));
    for count in [10, 10_000] {
        let change = Catalog::default().step(Instant::now(), listed(count, 0, &subjects), Duration::ZERO);
        let (_sender, topics) = watch::channel(change.expect("the first map").map);
        let mut destinations = Destinations::default();
        let selector: Box<dyn Selector> = Box::new(FunctionSelector::new(topics));
        let mut route =
            Route::new(&routes, [("fn", Some(selector))], &mut destinations).expect("no patterns");
        let routed = route.step(&batch, &[], &mut destinations);
        assert_eq!(routed.all.len(), 10, "as many functions want the page, however many there are");
        group.bench_function(BenchmarkId::from_parameter(count), |bencher| {
            bencher.iter(|| black_box(route.step(&batch, &[], &mut destinations)))
        });
    }
    group.finish();
    let mut group = criterion.benchmark_group("refresh");
    group.sample_size(10).measurement_time(Duration::from_secs(2));
    for (name, changes) in [("unchanged", 0), ("changed", 1)] {
        let mut catalog = Catalog::default();
        catalog.step(Instant::now(), listed(10_000, 0, &subjects), Duration::ZERO);
        let mut generation = 0;
        group.bench_function(name, |bencher| {
            bencher.iter_batched(
                || {
                    generation += changes;
                    listed(10_000, generation, &subjects)
                },
                |listed| black_box(catalog.step(Instant::now(), listed, Duration::ZERO)),
                BatchSize::LargeInput,
            )
        });
    }
}

criterion_group!(route_benches, benches, functions);
criterion_main!(route_benches);
