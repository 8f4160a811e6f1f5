//! Comparing the content of deliveries. All of the first [`COMPARED_FIRST`] events of a receiver
//! are compared, then one in [`COMPARED_SHARE`]. A hash of the event's number chooses it, so that
//! every class is covered.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::{BodyEvents, EXAMPLES_MAX, Source, Verifier};
use crate::content::{Contents, Delivery, EntryFields, Form, MadeEvent, WrongContent};
use crate::scan::DeliveredEvent;
use crate::sync::lock;
use crate::tally::Tally;
use crate::vcenter::model::splitmix;

/// Number of events whose content is compared before the rest is sampled. A comparison takes 1.3 to
/// 2.6 µs if there is no difference: 80 ms in all at most.
pub const COMPARED_FIRST: u64 = 30_000;
/// After that, one in this many events is compared: 2.6 µs / 512 = 5 ns an event, which is 2 % of
/// the 245 ns that verifying takes otherwise.
pub const COMPARED_SHARE: u64 = 512;

/// The settings of the comparison, and its progress.
#[derive(Default)]
pub(super) struct Comparison {
    /// The expected form of events; `None` compares nothing.
    pub form: Option<Form>,
    /// Number of comparisons before the rest is sampled.
    first: u64,
    done: AtomicU64,
}

impl Comparison {
    pub fn of(form: Form) -> Comparison {
        Comparison { form: Some(form), first: COMPARED_FIRST, done: AtomicU64::new(0) }
    }

    /// True if the content of this event is compared.
    pub fn wants(&self, index: u64) -> bool {
        self.form.is_some() && (self.done.load(Ordering::Relaxed) < self.first || is_sampled(index))
    }
}

/// Chosen by a hash of the number: every class is covered, whatever pattern a mix of events has.
fn is_sampled(index: u64) -> bool {
    splitmix(index).is_multiple_of(COMPARED_SHARE)
}

/// An event whose content is to be compared.
pub(super) struct ToCompare {
    contents: Arc<Contents>,
    made: MadeEvent,
    is_first: bool,
}

impl Verifier {
    /// A verifier that also compares the content of deliveries with the events of the vCenters, in
    /// this form.
    pub fn comparing(form: Form) -> Verifier {
        Verifier { comparison: Comparison::of(form), ..Verifier::default() }
    }

    /// Compares one event outside the source's lock, so that other deliveries continue.
    pub(super) fn compare_one(
        &self,
        source: &Mutex<Source>,
        to_compare: &ToCompare,
        delivery: Delivery<'_>,
        entry: Option<EntryFields<'_>>,
    ) {
        let wrong = to_compare.contents.check(&to_compare.made, delivery, entry);
        self.comparison.done.fetch_add(1, Ordering::Relaxed);
        lock(source).tally.compared(to_compare.is_first, wrong);
    }
}

impl BodyEvents<'_> {
    /// Compares the events that [`BodyEvents::take`] could not. The body is parsed once for all of
    /// them.
    pub(super) fn compare_later(&mut self, body: &[u8]) {
        if self.later.is_empty() {
            return;
        }
        // A body that is no JSON was already counted as unreadable.
        let Ok(parsed) = serde_json::from_slice::<Value>(body) else { return };
        let events = parsed.as_array().map_or(std::slice::from_ref(&parsed), Vec::as_slice);
        for (place, source, to_compare) in self.later.drain(..) {
            if let Some(event) = events.get(place) {
                self.verifier.compare_one(&source, &to_compare, Delivery::Parsed(event), self.entry);
            }
        }
    }
}

impl Source {
    /// The expectation for this event. `None` if it is a special event whose content the witness
    /// does not know.
    pub(super) fn to_compare(
        &self,
        index: u64,
        delivered: &DeliveredEvent<'_>,
        is_first: bool,
        received_us: i64,
    ) -> Option<ToCompare> {
        let is_special = self.truth.exceptions.special.binary_search(&index).is_ok();
        let special = if is_special { Some(self.witness.special(index)?) } else { None };
        // A witness in another process does not know the times of events, so the delivered time is
        // used.
        let (key, created_us) = self.witness.created(index).unwrap_or((delivered.key, delivered.created_us));
        let made = MadeEvent {
            index,
            key,
            created_us,
            special,
            clock_offset_us: self.truth.clock_offset_us_max,
            instance_uuid: self.truth.instance_uuid,
            url: self.url.clone(),
            received_us,
        };
        Some(ToCompare { contents: Arc::clone(self.contents.as_ref()?), made, is_first })
    }
}

impl Tally {
    fn compared(&mut self, is_first: bool, wrong: Option<WrongContent>) {
        self.content_verified += u64::from(is_first);
        let Some(wrong) = wrong else { return };
        self.wrong_content += 1;
        if self.wrong_contents.len() < EXAMPLES_MAX {
            self.wrong_contents.push(wrong);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::content::Examples;
    use crate::vcenter::{Mix, Model, ModelSpec, Options, VCenter};

    #[tokio::test]
    async fn after_the_first_events_a_share_is_compared() {
        const FIRST: u64 = 500;
        const MORE: u64 = 40 * COMPARED_SHARE;
        let vcenter = VCenter::start(Options { backlog: FIRST + MORE, ..Options::default() }).await.unwrap();
        let mut verifier = Verifier::comparing(Form::default());
        verifier.comparison.first = FIRST;
        verifier.watch(&vcenter);
        let examples = Examples::of(&vcenter).unwrap();
        let now_us = crate::vcenter::wall_us();
        for index in 0..FIRST + MORE {
            verifier.body(&examples.event(index).unwrap(), now_us);
        }
        let total = verifier.report().total;
        let sampled = total.content_verified - FIRST;
        assert!((15..=65).contains(&sampled), "{sampled}");
        assert_eq!((total.unique, total.wrong_content), (FIRST + MORE, 0));
    }

    #[test]
    fn every_class_of_a_mix_is_in_the_sample() {
        for seed in 0..5 {
            let model = Model::new(ModelSpec { seed, vms: 1_000, hosts: 32, mix: Mix::Steady }).unwrap();
            let classes = |indexes: &mut dyn Iterator<Item = u64>| -> BTreeSet<usize> {
                indexes.map(|index| model.pick(index).template).collect()
            };
            let sampled = classes(&mut (0..2_000_000).filter(|index| is_sampled(*index)));
            assert_eq!(sampled, classes(&mut (0..20_000)));
        }
    }
}
