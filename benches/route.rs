//! The cost of routing to functions by topic, and of a refresh of the function list.
//!
//! - `functions/COUNT` routes a page of 1,000 events to a gateway with COUNT functions of five
//!   topics each. Ten of them subscribe to events of the page.
//! - `refresh/…` compares a listing of 10,000 functions with the previous one, with no change and
//!   with every function changed.
//!
//! `cargo bench -p eventpattern` measures the cost of patterns.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use event_router::cloudevents::topic::Topic;
use event_router::event::{Batch, SourceInfo};
use event_router::pipeline::destination::Destinations;
use event_router::pipeline::route::Route;
use event_router::pipeline::settings::RouteSettings;
use event_router::processor::Selector;
use event_router::processor::openfaas::FunctionSelector;
use event_router::processor::openfaas::topics::{Catalog, Function};
use tokio::sync::watch;
use vsphere::{Decoded, decode};

const XML: &[u8] = include_bytes!("../tests/fixtures/golden/page1000.xml");

/// A listing of `count` functions. A new `generation` changes the topics of all but ten.
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
    let routes = [RouteSettings { sources: vec![true], processors: vec![0], ..RouteSettings::default() }];
    let mut group = criterion.benchmark_group("functions");
    group.throughput(Throughput::Elements(batch.records.len() as u64));
    for count in [10, 10_000] {
        let change = Catalog::default().step(Instant::now(), listed(count, 0, &subjects), Duration::ZERO);
        let (_sender, topics) = watch::channel(change.expect("the first map").map);
        let mut destinations = Destinations::default();
        let selector: Box<dyn Selector> = Box::new(FunctionSelector::new(topics, false));
        let mut route =
            Route::new(&routes, [("fn", Some(selector))], &mut destinations).expect("no patterns");
        let routed = route.step(&batch, &[], &mut destinations);
        assert_eq!(routed.all.len(), 10, "ten functions want the page, out of any number");
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

criterion_group!(route_benches, functions);
criterion_main!(route_benches);
