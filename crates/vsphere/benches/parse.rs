//! The throughput of decoding pages of small, mixed and large events: the fast decoder, the
//! reference decoder, and quick-xml's token loop, which decodes nothing.
//!
//! All published figures about decoding are for `mixed`: 1,000 events of 743 bytes, as vCenter's
//! simulator serializes them.

use std::hint::black_box;
use std::path::Path;

use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use quick_xml::Reader;
use quick_xml::events::Event;
use vsphere::Decoded;
use vsphere::decode::{decode, reference};

fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/golden").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A page of 1,000 events, repeated from those of `page` that `keep` selects.
fn page_of(page: &str, keep: impl Fn(&str) -> bool) -> String {
    let (head, rest) = page.split_at(page.find("<returnval").expect("the page has events"));
    let (events, tail) =
        rest.split_at(rest.rfind("</returnval>").expect("the page has events") + "</returnval>".len());
    let kept: Vec<_> =
        events.split_inclusive("</returnval>").map(str::trim).filter(|event| keep(event)).collect();
    head.chars()
        .chain(kept.iter().cycle().take(1_000).flat_map(|event| event.chars()))
        .chain(tail.chars())
        .collect()
}

fn pages() -> [(&'static str, String); 3] {
    let mixed = golden("page1000.xml");
    let small = page_of(&mixed, |event| event.len() < 500);
    let large = page_of(&golden("events_full.xml"), |event| event.len() > 1_500);
    [("small", small), ("mixed", mixed), ("large", large)]
}

fn tokens(page: &str) -> usize {
    let mut reader = Reader::from_str(page);
    let mut count = 0;
    loop {
        match black_box(reader.read_event()).expect("the page is well-formed") {
            Event::Eof => return count,
            _ => count += 1,
        }
    }
}

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, page: &str) {
    let mut decoded = Decoded::default();
    decode(page.as_bytes(), &mut decoded).expect("the page is well-formed");
    let events = decoded.records.len() as u64;
    // Both throughputs: criterion prints events/s, and the last case prints bytes/s.
    group.throughput(Throughput::Elements(events));
    group.bench_function("fast", |bench| bench.iter(|| decode(black_box(page.as_bytes()), &mut decoded)));
    group.bench_function("reference", |bench| {
        bench.iter(|| reference::decode(black_box(page.as_bytes()), &mut decoded))
    });
    group.bench_function("quick-xml tokens", |bench| bench.iter(|| tokens(black_box(page))));
    group.throughput(Throughput::Bytes(page.len() as u64));
    group.bench_function("fast, bytes", |bench| {
        bench.iter(|| decode(black_box(page.as_bytes()), &mut decoded))
    });
}

fn parse(criterion: &mut Criterion) {
    for (name, page) in pages() {
        let mut group = criterion.benchmark_group(format!("parse/{name}"));
        measure(&mut group, &page);
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30);
    targets = parse
}
criterion_main!(benches);
