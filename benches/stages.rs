//! The cost of each stage between the decoder and the destinations, for a page of 1,000 events:
//! enrich, order, settle, a channel hop, the engine of one destination, and all of them together.
//!
//! The group `channels` compares the queue of pages with its predecessor, a tokio channel behind a
//! mutex, in one run.
//!
//! `cargo bench --bench stages`

use std::hint::black_box;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use event_router::event::{Batch, Selection, SourceInfo};
use event_router::limits::PAGES_QUEUED_MAX;
use event_router::pipeline::deliver::{Action, DeliveryEngine, Input, Room, Spooled};
use event_router::pipeline::destination::DestinationId;
use event_router::pipeline::enrich::Enrich;
use event_router::pipeline::order::{Leaving, Order};
use event_router::pipeline::parse::{Content, Parsed};
use event_router::pipeline::settle::Settle;
use event_router::processor::{BatchSlice, DeliveryOutcome, RequestLimits};
use event_router::queue;
use event_router::settings::DeliveryPolicy as Policy;
use uuid::Uuid;
use vsphere::{Decoded, EventRecord, decode};

const EVENTS: usize = 1_000;
const PAGE: &[u8] = include_bytes!("../tests/fixtures/golden/page1000.xml");

fn source() -> Arc<SourceInfo> {
    Arc::new(SourceInfo {
        index: 0,
        name: "vc".into(),
        url: "https://vc/sdk".into(),
        instance_uuid: Uuid::from_u128(1),
        api_version: "8.0.3.0".into(),
    })
}

/// The golden page, decoded and enriched. Event number `i` has the key `key(i)`.
fn page(number: u64, key: impl Fn(usize) -> i32) -> Batch {
    let mut decoded = Decoded::default();
    decode::decode(PAGE, &mut decoded).expect("the golden page is well-formed");
    for (i, record) in decoded.records.iter_mut().enumerate() {
        record.key = Some(key(i));
        record.created_us = Some(1_763_769_600_000_000 + i64::from(key(i)) * 1_000);
    }
    let mut batch = Batch::decoded(source(), number, decoded);
    Enrich.step(&mut batch);
    batch
}

fn copy(batch: &Batch) -> Batch {
    Batch::new(Arc::clone(&batch.source), batch.page, batch.arena.clone(), batch.records.clone())
}

fn parsed(batch: Batch) -> Parsed {
    Parsed {
        source: Arc::clone(&batch.source),
        number: batch.page,
        reading: None,
        content: Content::Events(batch),
    }
}

/// The stage `order` on two pages in sequence. Only the second one is timed.
fn order(c: &mut Criterion) {
    let mut group = c.benchmark_group("order");
    group.throughput(Throughput::Elements(EVENTS as u64));
    let first = page(0, |i| i as i32);
    let cases = [
        ("in order", page(1, |i| (EVENTS + i) as i32)),
        // Every tenth event is late: the first page lacked it.
        ("10 % late", page(1, |i| if i % 10 == 0 { -(i as i32) } else { (EVENTS + i) as i32 })),
        ("50 % duplicates", page(1, |i| if i % 2 == 0 { i as i32 } else { (EVENTS + i) as i32 })),
    ];
    for (name, second) in cases {
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    let mut order = Order::default();
                    order.step(parsed(copy(&first)));
                    (order, parsed(copy(&second)))
                },
                |(mut order, page)| (order.step(page), order),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

fn enrich(c: &mut Criterion) {
    let mut group = c.benchmark_group("enrich");
    group.throughput(Throughput::Elements(EVENTS as u64));
    let mut batch = page(0, |i| i as i32);
    group.bench_function("ids and lanes", |b| b.iter(|| Enrich.step(black_box(&mut batch))));
    group.finish();
}

fn settle(c: &mut Criterion) {
    let mut group = c.benchmark_group("settle");
    group.throughput(Throughput::Elements(EVENTS as u64));
    let mut batch = page(0, |i| i as i32);
    for (i, record) in batch.records.iter_mut().enumerate() {
        record.seq = i as u64;
    }
    let all = Selection::first(EVENTS);
    group.bench_function("a page at once", |b| {
        b.iter(|| {
            let mut settle = Settle::new(0);
            settle.register(&batch, &[(DestinationId(0), all)]);
            settle.settled(DestinationId(0), &batch, &all);
            settle.is_settled()
        });
    });
    group.bench_function("one event at a time", |b| {
        b.iter(|| {
            let mut settle = Settle::new(0);
            settle.register(&batch, &[(DestinationId(0), all)]);
            for i in 0..EVENTS {
                settle.settled(DestinationId(0), &batch, &Selection::one(i));
            }
            settle.is_settled()
        });
    });
    group.finish();
}

/// The engine of one destination, with batches and with one request for each event.
fn deliver(c: &mut Criterion) {
    let mut group = c.benchmark_group("deliver");
    group.throughput(Throughput::Elements(EVENTS as u64));
    let batch = Arc::new(page(0, |i| i as i32));
    let room = Room { share: usize::MAX, scarce: false, alone: true };
    for (name, events_max) in [("batched", EVENTS), ("per event", 1)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let limits = RequestLimits { events_max, bytes_max: usize::MAX, partial: false };
                let mut engine = DeliveryEngine::new(Policy::default(), limits, "", Spooled::default(), 1);
                let (mut actions, mut settled) = (Vec::new(), 0);
                let slice = BatchSlice { batch: Arc::clone(&batch), selection: Selection::first(EVENTS) };
                engine.step(Duration::ZERO, Input::Offer { slice, room }, &mut actions);
                while let Some(action) = actions.pop() {
                    match action {
                        Action::Send { id, .. } => {
                            let done = Input::Done { request: id, outcome: DeliveryOutcome::Delivered };
                            engine.step(Duration::ZERO, done, &mut actions);
                        }
                        Action::Settle(slice) => settled += slice.selection.len(),
                        other => unreachable!("a target that accepts everything: {other:?}"),
                    }
                }
                assert_eq!(settled, EVENTS);
            });
        });
    }
    group.finish();
}

/// One hop of a batch over a busy bounded channel, which is the cost of every stage boundary.
fn channel(c: &mut Criterion) {
    let mut group = c.benchmark_group("channel");
    group.throughput(Throughput::Elements(1));
    group.bench_function("one hop of a batch, busy", |b| {
        b.iter_custom(|hops| {
            let (sender, receiver) = crossbeam_channel::bounded::<Arc<Batch>>(8);
            let batch = Arc::new(page(0, |i| i as i32));
            let producer = std::thread::spawn(move || {
                for _ in 0..hops {
                    if sender.send(Arc::clone(&batch)).is_err() {
                        return;
                    }
                }
            });
            let start = Instant::now();
            receiver.iter().for_each(|batch| drop(black_box(batch)));
            let took = start.elapsed();
            producer.join().expect("the producer only sends");
            took
        });
    });
    group.finish();
}

/// Takes the next batch from a queue; `None` at its end.
type Next = Box<dyn Fn() -> Option<Arc<Batch>> + Send>;

/// Passes `hops` batches from two async sources through `send` to one thread for each of
/// `receivers`. Returns the time until the last batch is taken.
fn hops<S, F>(runtime: &tokio::runtime::Runtime, hops: u64, send: S, receivers: Vec<Next>) -> Duration
where
    S: Fn(Arc<Batch>) -> F + Clone + Send + 'static,
    F: Future<Output = ()> + Send,
{
    let batch = Arc::new(page(0, |i| i as i32));
    let start = Instant::now();
    let threads: Vec<_> = receivers
        .into_iter()
        .map(|next| {
            std::thread::spawn(move || {
                let mut taken = 0_u64;
                while let Some(batch) = next() {
                    black_box(batch);
                    taken += 1;
                }
                taken
            })
        })
        .collect();
    for share in [hops / 2, hops - hops / 2] {
        let (send, batch) = (send.clone(), Arc::clone(&batch));
        runtime.spawn(async move {
            for _ in 0..share {
                send(Arc::clone(&batch)).await;
            }
        });
    }
    // The queue ends when the last sender is dropped.
    drop(send);
    let taken: u64 = threads.into_iter().map(|thread| thread.join().expect("it only receives")).sum();
    assert_eq!(taken, hops);
    start.elapsed()
}

/// The hop of a page from a source to a decode thread, by the old and the new queue, with one and
/// two decode threads.
fn channels(c: &mut Criterion) {
    let mut group = c.benchmark_group("channels");
    group.throughput(Throughput::Elements(1));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    for consumers in [1, 2] {
        group.bench_function(format!("tokio channel behind a mutex, {consumers} consumers"), |b| {
            b.iter_custom(|count| {
                let (sender, receiver) = tokio::sync::mpsc::channel(PAGES_QUEUED_MAX);
                let receiver = Arc::new(Mutex::new(receiver));
                let next = |_| {
                    let receiver = Arc::clone(&receiver);
                    let next =
                        move || receiver.lock().unwrap_or_else(PoisonError::into_inner).blocking_recv();
                    Box::new(next) as Next
                };
                let receivers = (0..consumers).map(next).collect();
                let send = move |batch| {
                    let sender = sender.clone();
                    async move { sender.send(batch).await.expect("the threads take all") }
                };
                hops(&runtime, count, send, receivers)
            });
        });
        group.bench_function(format!("crossbeam and semaphore, {consumers} consumers"), |b| {
            b.iter_custom(|count| {
                let (sender, receiver) = queue::bounded(PAGES_QUEUED_MAX);
                let next = |_| {
                    let receiver = receiver.clone();
                    Box::new(move || receiver.recv()) as Next
                };
                let receivers = (0..consumers).map(next).collect();
                let send = move |batch| {
                    let sender = sender.clone();
                    async move { sender.send(batch).await.expect("the threads take all") }
                };
                hops(&runtime, count, send, receivers)
            });
        });
    }
    group.finish();
}

/// The stages in sequence on one thread, from the bytes of a page to settled events: decode,
/// enrich, order, deliver, settle. The target accepts everything.
fn pipeline(c: &mut Criterion) {
    let mut group = c.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(EVENTS as u64));
    let room = Room { share: usize::MAX, scarce: false, alone: true };
    group.bench_function("page to settled", |b| {
        let limits = RequestLimits { events_max: EVENTS, bytes_max: usize::MAX, partial: false };
        let mut engine = DeliveryEngine::new(Policy::default(), limits, "", Spooled::default(), 1);
        let (mut order, mut settle, mut number) = (Order::default(), Settle::new(0), 0);
        let mut actions = Vec::new();
        b.iter(|| {
            let mut decoded = Decoded::default();
            decode::decode(PAGE, &mut decoded).expect("the golden page is well-formed");
            let offset = (number * EVENTS as u64) as i32;
            decoded.records.iter_mut().for_each(|record: &mut EventRecord| {
                record.key = record.key.map(|key| key.wrapping_add(offset))
            });
            let mut batch = Batch::decoded(source(), number, decoded);
            number += 1;
            Enrich.step(&mut batch);
            for leaving in order.step(parsed(batch)).leaving {
                let Leaving::Events(ordered) = leaving else { continue };
                let selection = ordered.all();
                settle.register(&ordered.batch, &[(DestinationId(0), selection)]);
                let slice = BatchSlice { batch: Arc::new(ordered.batch), selection };
                engine.step(Duration::ZERO, Input::Offer { slice, room }, &mut actions);
            }
            while let Some(action) = actions.pop() {
                match action {
                    Action::Send { id, .. } => {
                        engine.step(
                            Duration::ZERO,
                            Input::Done { request: id, outcome: DeliveryOutcome::Delivered },
                            &mut actions,
                        );
                    }
                    Action::Settle(slice) => settle.settled(DestinationId(0), &slice.batch, &slice.selection),
                    other => unreachable!("a target that accepts everything: {other:?}"),
                }
            }
        });
        assert!(settle.is_settled());
    });
    group.finish();
}

criterion_group!(benches, enrich, order, settle, deliver, channel, channels, pipeline);
criterion_main!(benches);
