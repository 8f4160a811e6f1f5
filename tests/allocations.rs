//! Heap allocations of a page on its way to the destinations: their number does not depend on the
//! number of events, and their size is bounded whatever the page holds.
//!
//! A binary of its own, beside `tests/it`: the counting allocator is global, and every other test
//! would pay for it.

#![allow(clippy::unwrap_used, unsafe_code)]

#[path = "allocations/lanes.rs"]
mod lanes;
#[path = "allocations/ratios.rs"]
mod ratios;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::path::Path;

use std::sync::Arc;

use event_router::app::pipeline_settings;
use event_router::event::Batch;
use event_router::pipeline::core::{Core, Output};
use event_router::pipeline::destination::Destinations;
use event_router::pipeline::enrich::Enrich;
use event_router::pipeline::observe::Observations;
use event_router::pipeline::parse::{Content, Parsed};
use event_router::pipeline::route::Route;
use event_router::settings::{
    Config, DeliveryPolicy, ProcessorConfig, ProcessorKind, Secret, SourceConfig, SourceKind, StateLocation,
    Vcenter,
};
use event_router::source::Found;
use vsphere::Decoded;
use vsphere::decode::decode;

struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
    /// Bytes of this thread: those in use (freed ones of other threads may make it negative), the
    /// most that ever were, and the sum of all that were taken.
    static IN_USE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static SUM: Cell<usize> = const { Cell::new(0) };
}

/// Counts a block that was `old` bytes and is now `new`.
fn note(old: usize, new: usize) {
    let in_use = IN_USE.with(|cell| {
        cell.set(cell.get() + new as isize - old as isize);
        cell.get()
    });
    PEAK.with(|peak| peak.set(peak.get().max(in_use)));
    SUM.with(|sum| sum.set(sum.get() + new.saturating_sub(old)));
}

/// Peak and sum of the bytes that `work` takes from the heap.
fn heap<T>(work: impl FnOnce() -> T) -> ((usize, usize), T) {
    let (before, sum) = (IN_USE.with(Cell::get), SUM.with(Cell::get));
    PEAK.with(|peak| peak.set(before));
    let result = work();
    ((PEAK.with(|peak| peak.get() - before) as usize, SUM.with(Cell::get) - sum), result)
}

/// Bytes in use by this thread.
fn in_use() -> isize {
    IN_USE.with(Cell::get)
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        note(0, layout.size());
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.with(|count| count.set(count.get() + 1));
        note(layout.size(), size);
        // SAFETY: the caller's.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note(layout.size(), 0);
        // SAFETY: the caller's.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The number of allocations during `work`, and its result.
fn allocations<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = COUNT.with(Cell::get);
    let result = work();
    (COUNT.with(Cell::get) - before, result)
}

/// The first hundred events of the golden page, and the whole page.
fn pages() -> (String, String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden/page1000.xml");
    let page = std::fs::read_to_string(path).unwrap();
    let cut = page.match_indices("</returnval>").nth(99).unwrap().0 + "</returnval>".len();
    let tail = page.rfind("</returnval>").unwrap() + "</returnval>".len();
    let hundred = format!("{}{}", &page[..cut], &page[tail..]);
    (hundred, page)
}

fn decoded(page: &str) -> Decoded {
    let mut decoded = Decoded::default();
    decode(page.as_bytes(), &mut decoded).unwrap();
    decoded
}

#[test]
fn decoding_a_thousand_events_allocates_as_often_as_a_hundred() {
    let (hundred, page) = pages();
    // The first decoding builds the plans of the classes, which live as long as the program.
    let mut again = decoded(&page);
    let ((few, _), (many, _)) = (allocations(|| decoded(&hundred)), allocations(|| decoded(&page)));
    assert!(many <= few + 4, "{few} allocations for 100 events, {many} for 1,000");
    assert!(many < 64, "{many} allocations");
    let (reused, ()) = allocations(|| decode(page.as_bytes(), &mut again).map(drop).unwrap());
    assert!(reused < many, "a reused buffer allocates less: {reused} of {many}");
}

/// A core with one source that has begun, and one processor that takes everything.
fn core() -> (Core, Arc<event_router::event::SourceInfo>) {
    let vcenter = Vcenter::new("https://vc/sdk", "u", Secret::inline("p"));
    let source = SourceConfig { name: "vc".into(), kind: SourceKind::Vcenter(vcenter) };
    let processor = ProcessorConfig {
        name: "p".into(),
        kind: ProcessorKind::Blackhole(Default::default()),
        delivery: DeliveryPolicy::default(),
    };
    let config = Config::new(StateLocation::Ephemeral, vec![source], vec![processor]);
    let mut destinations = Destinations::default();
    let route = Route::new(&pipeline_settings::routes(&config), [("p", None)], &mut destinations).unwrap();
    let mut core = Core::new(vec![("vc".into(), 0)], route, destinations);
    let found = Found {
        url: "https://vc/sdk".into(),
        instance_uuid: uuid::Uuid::from_u128(7),
        api_version: "8.0.3.0".into(),
        start_us: 0,
    };
    let (start, _) = core.begin(0, &found, None).unwrap();
    (core, start.info)
}

#[test]
fn routing_a_thousand_events_allocates_as_often_as_a_hundred() {
    let (hundred, page) = pages();
    let (mut core, info) = core();
    let observations = Observations::default();
    let mut number = 0;
    let mut route = |page: &str| {
        let mut outputs = Vec::new();
        let (count, counts) = allocations(|| {
            let decoded = decoded(page);
            let mut batch = Batch::decoded(Arc::clone(&info), number, decoded);
            // New keys, so that the events are not those of the previous page.
            batch
                .records
                .iter_mut()
                .for_each(|record| record.key = record.key.map(|key| key + number as i32 * 10_000));
            Enrich.step(&mut batch);
            let parsed =
                Parsed { source: Arc::clone(&info), number, reading: None, content: Content::Events(batch) };
            let counts = core.page(parsed, &mut outputs);
            // Types are counted, too. Samples are rendered once a minute, so not in this one.
            let Some(Output::Read(batch)) = outputs.first() else { panic!("{outputs:?}") };
            observations.read(batch, 1_700_000_000_000_000);
            counts
        });
        number += 1;
        assert_eq!((outputs.len(), counts.duplicates), (2, 0));
        (count, counts.events)
    };
    // The sets of seen and of unsettled events grow to their final size.
    for _ in 0..3 {
        route(&page);
    }
    let ((few, hundred), (many, thousand)) = (route(&hundred), route(&page));
    assert_eq!((hundred, thousand), (100, 1_000));
    // Sets of identities double when they are full, which adds a few allocations.
    assert!(many <= few + 16, "{few} allocations for 100 events, {many} for 1,000");
    assert!(many < 100, "{many} allocations");
}
