//! Many entities, each with small events, and a target that takes nothing: the lanes stay within
//! the memory budget, as the events do.
//!
//! A stand-in for the driver runs the delivery engine as production does: pages come while the
//! budget has room, the store keeps rows as lists of keys, and the target answers 503.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use event_router::event::{Batch, Identity, Record, Selection, SourceInfo, Span};
use event_router::limits::{BATCH_EVENTS_MAX, LANE_ITEM_BYTES, MEMORY_BYTES};
use event_router::memory::Budget;
use event_router::pipeline::deliver::{Action, DeliveryEngine, Input, Room, SpoolKey, SpoolRow, Spooled};
use event_router::processor::{BatchSlice, Blame, DeliveryOutcome, Failure, RequestLimits};
use event_router::settings::{DeliveryPolicy, Ordering, Overflow, OverflowPolicy};

use super::{core, heap};

const PAGE: u32 = 1_000;
/// Entities of the acceptance: one event each.
const ENTITIES: u32 = 82_000;
/// Heap beyond the budget: the page that filled it with its lanes, requests in flight, and the
/// copies of what a spill sorts (120 bytes for each of 45,000 events).
const BEYOND_BUDGET_MAX: usize =
    BATCH_EVENTS_MAX * (LANE_ITEM_BYTES + size_of::<Record>()) + (1 << 20) + 45_000 * 120;
/// Heap of an engine without events.
const IDLE_MAX: usize = 64 << 10;

/// Everything around one engine.
struct Lab {
    engine: DeliveryEngine,
    source: Arc<SourceInfo>,
    budget: Budget,
    now: Duration,
    sent: VecDeque<(u64, Vec<u32>)>,
    /// The keys of the rows in the store, by spool.
    rows: Vec<(SpoolKey, SpoolRow, Vec<u32>)>,
    replies: VecDeque<Input>,
    offered: u32,
    /// Number of times that the target has accepted each event.
    received: BTreeMap<u32, u32>,
    /// The most lanes with events at a time, at least.
    waiting: usize,
}

impl Lab {
    fn new(policy: DeliveryPolicy) -> Self {
        let limits = RequestLimits { events_max: 50, bytes_max: 1 << 20, partial: false };
        let policy = DeliveryPolicy { ordering: Ordering::Entity, ..policy };
        Lab {
            engine: DeliveryEngine::new(policy, limits, "", Spooled::default(), 1),
            source: core().1,
            budget: Budget::new(MEMORY_BYTES),
            now: Duration::ZERO,
            sent: VecDeque::new(),
            rows: Vec::new(),
            replies: VecDeque::new(),
            offered: 0,
            received: BTreeMap::new(),
            waiting: 0,
        }
    }

    /// Small events, each of an entity of its own.
    fn batch(&self, keys: &[u32]) -> BatchSlice {
        let records = keys.iter().map(|key| Record {
            key: Some(*key as i32),
            created_us: Some(i64::from(*key)),
            data: Span::new(0, 2),
            identity: Identity { minute: 1, key: *key },
            lane: u64::from(*key).wrapping_mul(0x9e37_79b9_7f4a_7c15),
            seq: u64::from(*key),
            ..Record::default()
        });
        let mut batch = Batch::new(Arc::clone(&self.source), 0, b"{}".to_vec(), records.collect());
        batch.permit = self.budget.take(batch.size());
        BatchSlice { selection: Selection::first(keys.len()), batch: Arc::new(batch) }
    }

    fn room(&self) -> Room {
        let (used, limit) = (self.budget.used(), self.budget.limit());
        Room { share: limit / 2, scarce: used > limit / 4 * 3, alone: true }
    }

    fn step(&mut self, input: Input) {
        let mut actions = Vec::new();
        self.engine.step(self.now, input, &mut actions);
        self.waiting = self.waiting.max(self.engine.gauges().waiting_events);
        let keys = |slice: &BatchSlice| -> Vec<u32> {
            slice.selection.iter().map(|i| slice.batch.records[i].identity.key).collect()
        };
        for action in actions {
            match action {
                Action::Send { id, request } => {
                    self.sent.push_back((id, request.slices.iter().flat_map(keys).collect()));
                }
                Action::Append { ticket, slices } => {
                    for (spool, slice) in slices {
                        let row = SpoolRow(self.rows.last().map_or(1, |(_, row, _)| row.0 + 1));
                        self.rows.push((spool, row, keys(&slice)));
                    }
                    self.replies.push_back(Input::Appended { ticket });
                }
                Action::Fetch { spool, after, bytes } => {
                    let mut left = bytes;
                    let found = self.rows.iter().filter(|(of, row, _)| *of == spool && *row > after);
                    let rows = found
                        .map(|(_, row, keys)| (*row, self.batch(keys)))
                        .take_while(|(_, slice)| {
                            let fits = left > 0;
                            left = left.saturating_sub(slice.batch.size());
                            fits
                        })
                        .collect();
                    self.replies.push_back(Input::Fetched { spool, rows });
                }
                Action::Unspool(gone) => self.rows.retain(|(_, row, _)| *row != gone),
                // These tests have no crash, so the store need not know which part of a row is
                // gone.
                Action::UnspoolSome { .. } | Action::Settle(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// One turn of a target that is up or down. Returns false once there is nothing more to do.
    fn turn(&mut self, up: bool) -> bool {
        if let Some(reply) = self.replies.pop_front() {
            self.step(reply);
        } else if let Some((request, keys)) = self.sent.pop_front() {
            let outcome = match up {
                true => {
                    keys.iter().for_each(|key| *self.received.entry(*key).or_default() += 1);
                    DeliveryOutcome::Delivered
                }
                false => {
                    let refused = Failure::new(Blame::Target, "503 Service Unavailable");
                    DeliveryOutcome::Failed(Failure { status: Some(503), ..refused })
                }
            };
            self.step(Input::Done { request, outcome });
        } else if self.offered < ENTITIES && self.budget.used() < self.budget.limit() {
            let keys: Vec<u32> = (self.offered..self.offered + PAGE).collect();
            self.offered += PAGE;
            let (slice, room) = (self.batch(&keys), self.room());
            self.step(Input::Offer { slice, room });
        } else {
            let Some(at) = self.engine.wakes_at() else { return false };
            self.now = self.now.max(at);
            self.step(Input::Room(self.room()));
        }
        true
    }
}

fn check(name: &str, policy: DeliveryPolicy) {
    let ((idle, _), mut lab) = heap(|| Lab::new(policy));
    let ((peak, _), ()) = heap(|| {
        // Enough for a try of each lane, where no breaker forbids it.
        for _ in 0..20_000 {
            lab.turn(false);
        }
    });
    println!(
        "{name}: {} of {ENTITIES} read, up to {} wait in lanes; peak {peak}, budget {MEMORY_BYTES}, idle {idle}",
        lab.offered, lab.waiting
    );
    assert!(lab.waiting > 15_000, "{name}: only {} lanes", lab.waiting);
    assert!(peak <= MEMORY_BYTES + BEYOND_BUDGET_MAX, "{name}: {peak} bytes");
    // Once the target is back, every event arrives, and the tables shrink.
    for n in 0.. {
        if !lab.turn(true) && lab.received.len() == ENTITIES as usize {
            break;
        }
        assert!(
            n < 10_000_000,
            "{name}: {} of {ENTITIES} came, {:?}",
            lab.received.len(),
            lab.engine.gauges()
        );
    }
    assert!(lab.received.values().all(|times| *times == 1), "{name}: an event came twice");
    assert_eq!(lab.budget.used(), 0, "{name}");
    // Memory that dropping the engine frees.
    let engine = lab.engine;
    let before = super::in_use();
    drop(engine);
    let held = before - super::in_use();
    assert!(held <= IDLE_MAX as isize, "{name}: an engine without events holds {held} bytes");
}

#[test]
fn lanes_of_a_target_that_takes_nothing_stay_within_the_memory_budget() {
    let policy = DeliveryPolicy::default;
    let overflow = Overflow { policy: OverflowPolicy::Block, ..policy().overflow };
    check("spill", policy());
    check("block", DeliveryPolicy { overflow, ..policy() });
    check("without a breaker", DeliveryPolicy { breaker: None, ..policy() });
}
