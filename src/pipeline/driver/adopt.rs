//! The driver's side of dead-letter processors. An event that one destination could not deliver
//! goes to another one, with Knative's attributes.
//!
//! ```text
//!  destination ── Adopt ──► its dead-letter processor ── Adopt ──► the next one, if any …
//!    ▲ ▲                      │ delivered, or durable in its spool     │
//!    │ └─────── Adopted ──────┘                                        │ refused at the end
//!    └──────────────────────────── Refused ────────────────────────────┘ of the chain: stored
//!                                                                        as a dead letter
//! ```
//!
//! INVARIANT: a dead letter is settled for its destination when its dead-letter processor has
//! acknowledged it or has it in its spool, not before.
//! INVARIANT: an event that the end of the chain refuses is stored as a dead letter of its original
//! destination, so that a replay goes there. An event that a dead-letter processor had in its spool
//! is that processor's own: it has been settled for the destination that it came from.

use std::sync::Arc;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use rustc_hash::FxHashMap;

use super::{Driver, Mailbox};
use crate::event::{Batch, Failed, Selection};
use crate::limits::SAID_BYTES_MAX;
use crate::pipeline::deliver::{Action, FailedEvent, Input, Origin, pick};
use crate::processor::{BatchSlice, Failure};

/// Connection to a dead-letter processor.
#[derive(Clone)]
pub(in crate::pipeline) struct Sink {
    pub mailbox: Mailbox,
}

/// A dead letter on its way to a dead-letter processor.
pub(in crate::pipeline) struct Adoption {
    /// The dead letter. Its event carries the reason of the failure.
    letter: Box<FailedEvent>,
    /// Mailbox of the destination that the dead letter belongs to.
    from: Mailbox,
}

/// Result of handing a dead letter to a dead-letter processor.
pub(in crate::pipeline) enum AdoptionEnd {
    /// A dead-letter processor took it over.
    Adopted(Box<FailedEvent>),
    /// No dead-letter processor took it, so it has to be stored.
    Refused(Box<FailedEvent>),
}

/// Adopted dead letters that have not ended yet. Each holds a share of the memory budget.
#[derive(Default)]
pub(in crate::pipeline) struct Adopted {
    by_ticket: FxHashMap<u64, Adoption>,
    next_ticket: u64,
}

impl Adopted {
    /// Ends all adoptions because this destination is no longer configured.
    pub fn hand_back(&mut self) {
        self.by_ticket.drain().for_each(|(_, adoption)| adoption.hand_back());
    }

    /// Ends an adoption whose event is delivered, or durable here.
    pub fn done(&mut self, ticket: u64) {
        if let Some(Adoption { letter, from }) = self.by_ticket.remove(&ticket) {
            from.adoption_ended(AdoptionEnd::Adopted(letter));
        }
    }
}

impl Adoption {
    /// Ends the adoption without a delivery. The event becomes a dead letter where it came from.
    pub fn hand_back(self) {
        self.from.adoption_ended(AdoptionEnd::Refused(self.letter));
    }
}

impl Driver {
    /// Passes on an event that failed for good.
    pub(super) fn give_up(&mut self, letter: FailedEvent) {
        if let Origin::Adopted(ticket) = letter.origin {
            let Some(adoption) = self.adopted.by_ticket.remove(&ticket) else { return };
            return self.refuse(adoption, &letter.failure);
        }
        let Some(sink) = &self.sink else { return self.waiting.letters.put(letter) };
        let address = self.processor.address(self.engine.function());
        let failed = failed(address.unwrap_or_else(|| self.name.to_string()), &letter.failure);
        let slice = marked(&letter.slice, Some(Arc::new(failed)));
        let adoption = Adoption { letter: letter.with_slice(slice).into(), from: self.mailbox.clone() };
        sink.mailbox.adopt(adoption);
    }

    pub(super) fn adoptions(&mut self, actions: &mut Vec<Action>) {
        for adoption in self.mailbox.take_adoptions() {
            let input = self.adopt(adoption);
            self.engine.step(self.now(), input, actions);
        }
    }

    pub(super) fn adoption_ends(&mut self, actions: &mut Vec<Action>) {
        for end in self.mailbox.take_adoption_ends() {
            match end {
                AdoptionEnd::Adopted(letter) => self.letter_ended(letter, actions),
                AdoptionEnd::Refused(letter) => self.refused(*letter),
            }
        }
    }

    fn adopt(&mut self, adoption: Adoption) -> Input {
        let (ticket, slice) = (self.adopted.next_ticket, adoption.letter.slice.clone());
        self.adopted.next_ticket += 1;
        self.adopted.by_ticket.insert(ticket, adoption);
        Input::Adopt { ticket, slice, room: self.room() }
    }

    /// Passes on an event that this dead-letter processor cannot deliver either. It goes to the
    /// next one, or back to be stored. Its attributes remain those of its original destination.
    fn refuse(&self, mut adoption: Adoption, failure: &Failure) {
        if let Some(sink) = &self.sink {
            sink.mailbox.adopt(adoption);
            return;
        }
        let reason = &mut adoption.letter.failure.reason;
        *reason =
            format!("{reason}; the dead-letter processor `{}` refused it too: {}", self.name, failure.reason);
        adoption.from.adoption_ended(AdoptionEnd::Refused(adoption.letter));
    }

    /// Stores a dead letter that no dead-letter processor took.
    fn refused(&mut self, letter: FailedEvent) {
        let slice = marked(&letter.slice, None);
        self.waiting.letters.put(letter.with_slice(slice));
    }
}

/// Copies the events of `slice` to a new batch that carries the failure.
fn marked(slice: &BatchSlice, failed: Option<Arc<Failed>>) -> BatchSlice {
    let batch = Batch { failed, ..pick(&slice.batch, &slice.selection) };
    BatchSlice { selection: Selection::first(batch.records.len()), batch: Arc::new(batch) }
}

/// Builds Knative's attributes for an event that could not be delivered to `dest`.
fn failed(dest: String, failure: &Failure) -> Failed {
    // Without an answer, Knative gives the error instead, with a status of 500.
    let said = if failure.status.is_none() { &failure.reason } else { &failure.said };
    let end = (0..=said.len().min(SAID_BYTES_MAX)).rev().find(|end| said.is_char_boundary(*end));
    let data = BASE64_STANDARD.encode(&said[..end.unwrap_or_default()]);
    Failed { dest, code: failure.status.unwrap_or(500), data }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::processor::Blame;

    #[test]
    fn attributes_are_those_of_knative() {
        let check = |status: Option<u16>, said: &str, code: u16, data: &str| {
            let failure = Failure { status, said: said.into(), ..Failure::new(Blame::Event, "too large") };
            let expected = Failed { dest: "http://a/b".into(), code, data: data.into() };
            assert_eq!(failed("http://a/b".into(), &failure), expected);
        };
        check(Some(422), "no such VM", 422, "bm8gc3VjaCBWTQ==");
        check(Some(400), "", 400, "");
        check(None, "", 500, "dG9vIGxhcmdl");
        let long = Failure { status: Some(500), said: "ä".repeat(900), ..Failure::new(Blame::Event, "") };
        assert_eq!(failed(String::new(), &long).data.len(), 1_024, "Knative's bound");
    }
}
