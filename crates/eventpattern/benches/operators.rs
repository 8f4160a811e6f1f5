//! The cost of finding the patterns that match a page of 1,000 events, and of compiling patterns.
//!
//! `cargo bench -p eventpattern`; `match/WORKLOAD/COUNT` is the time of a page against COUNT
//! patterns, `compile/WORKLOAD` the time to compile 1,000 patterns. Patterns of the workloads
//! `subject` and `subject-prefix` look at the subject alone; the others read `data`.

mod workload;

use std::hint::black_box;
use std::sync::Arc;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use workload::{EVENTS, WORKLOADS, compile, match_page, page, patterns};

fn matching(criterion: &mut Criterion) {
    let page = page();
    let mut group = criterion.benchmark_group("match");
    group.throughput(Throughput::Elements(EVENTS as u64));
    group
        .sample_size(20)
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(600));
    let sizes = WORKLOADS.iter().flat_map(|workload| [1, 10, 1_000].map(|count| (workload, count)));
    for ((name, pattern), count) in sizes {
        let mut matcher = Arc::new(compile(&patterns(*pattern, count))).matcher();
        let mut out = Vec::new();
        group.bench_function(BenchmarkId::new(*name, count), |bencher| {
            bencher.iter(|| black_box(match_page(&mut matcher, &page, &mut out)))
        });
    }
}

fn compiling(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("compile");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(300));
    for (name, pattern) in WORKLOADS {
        let patterns = patterns(pattern, 1_000);
        group.bench_function(name, |bencher| bencher.iter(|| black_box(compile(&patterns))));
    }
}

criterion_group!(operators, matching, compiling);
criterion_main!(operators);
