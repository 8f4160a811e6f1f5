//! The world around the router, which outlives a crash: the vCenter, the disk, the targets, and
//! chance.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use rand::Rng;
use rand::rngs::SmallRng;
use uuid::Uuid;

use super::{ENTITIES, LANES, LATE_US, PARTIAL, blame_of_poison, on_refusal};
use crate::pipeline::deliver::settings::{OnRefusal, Ordering};
use crate::processor::{Blame, DeliveryOutcome, DeliveryRequest, Failure};
use crate::state::MemoryDisk;

#[derive(Clone, Copy)]
pub(super) struct Event {
    pub(super) created_us: i64,
    pub(super) visible_us: i64,
    pub(super) entity: usize,
    /// True if no decoder can read the event.
    pub(super) unreadable: bool,
}

impl Event {
    pub(super) fn is_late(&self) -> bool {
        self.visible_us > self.created_us
    }
}

/// The state that outlives the router.
pub(super) struct Outside {
    pub(super) random: SmallRng,
    pub(super) now_us: i64,
    pub(super) vcenter: Vec<Event>,
    pub(super) disk: MemoryDisk,
    pub(super) targets: Vec<Target>,
    pub(super) well: bool,
    /// True while the spools have no room, even if all else is well.
    pub(super) full: bool,
    /// True while no event can become a dead letter, even if all else is well.
    pub(super) letters_full: bool,
    /// True once the router has crashed.
    pub(super) crashed: bool,
    /// True while the disk hangs, so that the store does no job.
    pub(super) stalled: bool,
    /// True if this run of the router could read the gateway's list of functions.
    pub(super) registry: Arc<AtomicBool>,
    /// The configured ordering of each destination.
    pub(super) ordering: [Ordering; LANES],
    /// All orderings that each destination has had.
    pub(super) orderings: [Vec<Ordering>; LANES],
}

/// A target. `received` holds keys and ids in order of arrival; a key is the event's index.
#[derive(Default)]
pub(super) struct Target {
    pub(super) down: bool,
    /// True while it refuses every event, as a function does whose database is away.
    pub(super) refuses_all: bool,
    pub(super) received: Vec<(usize, Uuid)>,
    /// Events that it refuses.
    pub(super) refuses: BTreeSet<usize>,
    /// Events that it takes now and once refused.
    pub(super) mended: BTreeSet<usize>,
    /// Number of refusals of each event.
    pub(super) refusals: BTreeMap<usize, usize>,
    /// Events that it had refused twice when it accepted them for the first time.
    pub(super) refused_twice: BTreeSet<usize>,
    /// Events that were routed while its processor was removed.
    pub(super) excused: BTreeSet<usize>,
}

impl Outside {
    pub(super) fn chance(&mut self, percent: u32) -> bool {
        !self.well && self.random.random_range(0..100) < percent
    }

    pub(super) fn set_ordering(&mut self, lane: usize, ordering: Ordering) {
        self.ordering[lane] = ordering;
        self.orderings[lane].push(ordering);
    }

    /// The scope in which the events of a destination are in order: the weakest of all orderings
    /// that it has had.
    pub(super) fn weakest_ordering(&self, lane: usize) -> Ordering {
        let orderings = &self.orderings[lane];
        let weakest = [Ordering::None, Ordering::Entity].into_iter().find(|it| orderings.contains(it));
        weakest.unwrap_or(Ordering::Source)
    }

    /// Returns true if an event that was refused twice may be overtaken.
    pub(super) fn steps_aside(&self, lane: usize) -> bool {
        self.orderings[lane].contains(&Ordering::Source) && on_refusal(lane) == OnRefusal::StepAside
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        self.random.random_range(0..n)
    }

    /// Lets a target accept one of the events that it has refused.
    pub(super) fn change_mind(&mut self) {
        let lane = self.below(LANES);
        let refused = self.targets[lane].refuses.len();
        if refused > 0 {
            let at = self.below(refused);
            let target = &mut self.targets[lane];
            let key = *target.refuses.iter().nth(at).expect("fewer than there are");
            target.refuses.remove(&key);
            target.mended.insert(key);
        }
    }

    /// Lets all targets accept what they have refused.
    pub(super) fn mend(&mut self) {
        for target in &mut self.targets {
            target.mended.append(&mut target.refuses);
        }
    }

    pub(super) fn create(&mut self) {
        let unreadable = self.chance(3);
        let late = !unreadable && self.chance(10);
        let delay = if late { self.random.random_range(1..LATE_US) } else { 0 };
        let entity = self.below(ENTITIES);
        let created_us = self.now_us;
        self.vcenter.push(Event { created_us, visible_us: created_us + delay, entity, unreadable });
    }

    /// Creates an event that can be read at once.
    pub(super) fn create_readable(&mut self) {
        let (created_us, entity) = (self.now_us, self.below(ENTITIES));
        self.vcenter.push(Event { created_us, visible_us: created_us, entity, unreadable: false });
    }

    pub(super) fn page(&mut self, keys: &[usize], may_garble: bool) -> Bytes {
        let mut xml = String::from(
            r#"<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body><ReadNextEventsResponse xmlns="urn:vim25">"#,
        );
        for key in keys {
            let event = self.vcenter[*key];
            let time = jiff::Timestamp::from_microsecond(event.created_us).expect("within the calendar");
            let broken = if event.unreadable { "<odd></strange>" } else { "" };
            let entity = event.entity;
            xml.push_str(&format!(
                r#"<returnval xsi:type="VmPoweredOnEvent"><key>{key}</key><chainId>{key}</chainId><createdTime>{time:.6}</createdTime><userName>u</userName>{broken}<vm><name>v</name><vm type="VirtualMachine">vm-{entity}</vm></vm><template>false</template></returnval>"#
            ));
        }
        xml.push_str("</ReadNextEventsResponse></soapenv:Body></soapenv:Envelope>");
        // Garble only pages of several events, since these are read again. A garbled page of one
        // event would be blamed on the event.
        if may_garble && keys.len() > 1 && self.chance(4) {
            xml.truncate(xml.len() - 20);
        }
        Bytes::from(xml)
    }

    /// A target's answer as the router sees it.
    pub(super) fn answer(&mut self, lane: usize, request: &DeliveryRequest) -> DeliveryOutcome {
        let failure = |blame| Failure::new(blame, "as the seed says");
        let (refuses_once, is_answer_lost) = (self.chance(5), self.chance(5));
        let target = &mut self.targets[lane];
        if target.down && !self.well {
            return DeliveryOutcome::Failed(failure(Blame::Target));
        }
        let events: Vec<(usize, Uuid)> = request.events().map(received).collect();
        if refuses_once || (target.refuses_all && !self.well) {
            target.refused(&events);
            return DeliveryOutcome::Failed(failure(Blame::Evidence));
        }
        let poisonous: Vec<bool> = events.iter().map(|(key, _)| target.refuses.contains(key)).collect();
        if lane == PARTIAL {
            target.accepted(events.iter().zip(&poisonous).filter(|(_, refused)| !**refused).map(|(e, _)| *e));
            return DeliveryOutcome::Partial(
                poisonous.into_iter().map(|refused| refused.then(|| failure(Blame::Event))).collect(),
            );
        }
        if poisonous.contains(&true) {
            target.refused(&events);
            return DeliveryOutcome::Failed(failure(blame_of_poison(lane)));
        }
        target.accepted(events);
        if is_answer_lost {
            DeliveryOutcome::Failed(failure(Blame::Target))
        } else {
            DeliveryOutcome::Delivered
        }
    }
}

impl Target {
    fn refused(&mut self, events: &[(usize, Uuid)]) {
        for (key, _) in events {
            *self.refusals.entry(*key).or_default() += 1;
        }
    }

    fn accepted(&mut self, events: impl IntoIterator<Item = (usize, Uuid)>) {
        for (key, id) in events {
            if self.refusals.get(&key).is_some_and(|times| *times >= 2) && !self.has(key) {
                self.refused_twice.insert(key);
            }
            self.received.push((key, id));
        }
    }

    pub(super) fn has(&self, key: usize) -> bool {
        self.received.iter().any(|(received, _)| *received == key)
    }
}

fn received((batch, at): (&crate::event::Batch, usize)) -> (usize, Uuid) {
    let record = &batch.records[at];
    (record.key.expect("all have one") as usize, record.id)
}
