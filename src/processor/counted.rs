//! Counts successes and failures by subject, for the old router's `/stats`.
//!
//! An event counts as a success when a target acknowledges it, and as a failure when its first
//! attempt fails. Failed retries do not count, as in the old router. Counting takes the lock once
//! per request.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use rustc_hash::FxHashMap;

use crate::limits::STATS_SUBJECTS_MAX;
use crate::processor::wrapped::Wrapping;
use crate::processor::{BoxFuture, DeliveryOutcome, DeliveryRequest, Processor};

/// The entry that counts all subjects after the first [`STATS_SUBJECTS_MAX`].
pub const OTHERS: &str = "(others)";

/// The counts of one subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub successes: u64,
    pub failures: u64,
}

/// The counts of one processor, by subject.
#[derive(Debug, Default)]
pub struct Invocations(Mutex<FxHashMap<Box<str>, Tally>>);

impl Invocations {
    /// A copy, sorted.
    pub fn snapshot(&self) -> BTreeMap<Box<str>, Tally> {
        let tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tallies.iter().map(|(subject, tally)| (subject.clone(), *tally)).collect()
    }

    fn count(&self, request: &DeliveryRequest, outcome: &DeliveryOutcome) {
        let is_first = request.attempt == 1;
        let mut tallies = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (at, (batch, i)) in request.events().enumerate() {
            let failed = match outcome {
                DeliveryOutcome::Delivered => false,
                DeliveryOutcome::Failed(_) => true,
                DeliveryOutcome::Partial(failures) => failures.get(at).is_some_and(Option::is_some),
            };
            if failed && !is_first {
                continue;
            }
            let tally = tally_of(&mut tallies, batch.text(batch.records[i].subject));
            match failed {
                false => tally.successes += 1,
                true => tally.failures += 1,
            }
        }
    }
}

fn tally_of<'t>(tallies: &'t mut FxHashMap<Box<str>, Tally>, subject: &str) -> &'t mut Tally {
    let known =
        if tallies.contains_key(subject) || tallies.len() < STATS_SUBJECTS_MAX { subject } else { OTHERS };
    // Two look-ups are cheaper than the entry API, which needs a boxed key for every event.
    if !tallies.contains_key(known) {
        tallies.insert(known.into(), Tally::default());
    }
    tallies.get_mut(known).expect("inserted above")
}

impl Wrapping for Arc<Invocations> {
    fn deliver<'a>(
        &'a self,
        inner: &'a dyn Processor,
        request: &'a DeliveryRequest,
    ) -> BoxFuture<'a, DeliveryOutcome> {
        Box::pin(async move {
            let outcome = inner.deliver(request).await;
            self.count(request, &outcome);
            outcome
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::testing::batch;
    use crate::event::{Selection, Span};
    use crate::processor::{BatchSlice, Blame, Failure};

    /// A request of three events with these subjects.
    fn request(subjects: [&str; 3], attempt: u32) -> DeliveryRequest {
        let mut batch = batch(0, &[(1, 1), (2, 2), (3, 3)]);
        for (record, subject) in batch.records.iter_mut().zip(subjects) {
            let start = batch.arena.len();
            batch.arena.extend_from_slice(subject.as_bytes());
            record.subject = Span::new(start, batch.arena.len());
        }
        let slices = vec![BatchSlice { batch: Arc::new(batch), selection: Selection::first(3) }];
        DeliveryRequest { function: "".into(), slices, events: 3, attempt }
    }

    fn failure() -> Failure {
        Failure { status: Some(500), ..Failure::new(Blame::Evidence, "") }
    }

    #[test]
    fn an_event_counts_when_it_is_acknowledged_and_when_its_first_try_fails() {
        let invocations = Invocations::default();
        let subjects = ["A", "B", "A"];
        invocations.count(&request(subjects, 1), &DeliveryOutcome::Failed(failure()));
        invocations.count(&request(subjects, 2), &DeliveryOutcome::Failed(failure()));
        invocations
            .count(&request(subjects, 3), &DeliveryOutcome::Partial(vec![None, Some(failure()), None]));
        invocations.count(&request(subjects, 4), &DeliveryOutcome::Delivered);
        let found: Vec<_> = invocations.snapshot().into_iter().collect();
        let tally = |successes, failures| Tally { successes, failures };
        assert_eq!(found, [("A".into(), tally(4, 2)), ("B".into(), tally(1, 1))]);
    }

    #[test]
    fn the_number_of_counted_subjects_is_bounded() {
        let mut tallies = FxHashMap::default();
        for n in 0..2 * STATS_SUBJECTS_MAX {
            tally_of(&mut tallies, &format!("subject {n}")).successes += 1;
        }
        assert_eq!(tallies.len(), STATS_SUBJECTS_MAX + 1);
        assert_eq!(tallies[OTHERS].successes, STATS_SUBJECTS_MAX as u64);
    }
}
