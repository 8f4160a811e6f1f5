//! A destination within the simulated router: its engine and its mailbox.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use uuid::Uuid;

use super::reloads::Presence;
use crate::event::Failed;
use crate::pipeline::deliver::{DeliveryEngine, FailedEvent, Input};
use crate::pipeline::driver::SpoolJobs;
use crate::pipeline::level::Coalesced;
use crate::pipeline::refusals::{Attempt, Outbox};
use crate::processor::{BatchSlice, DeliveryRequest};

/// A destination: its engine, its mailbox and its requests in flight.
pub(super) struct Lane {
    pub(super) engine: DeliveryEngine,
    pub(super) mailbox: VecDeque<LaneMessage>,
    pub(super) under_way: Vec<(u64, DeliveryRequest)>,
    pub(super) spool_jobs: SpoolJobs,
    pub(super) letters: Outbox<FailedEvent>,
    pub(super) adoptions: Coalesced<Vec<(usize, Box<FailedEvent>)>>,
    pub(super) ends: Coalesced<Vec<AdoptionEnd>>,
    /// Dead letters adopted from other destinations: ticket, lane of origin and letter.
    pub(super) adopted: BTreeMap<u64, (usize, Box<FailedEvent>)>,
    pub(super) next_ticket: u64,
    pub(super) rows_added: Coalesced<usize>,
    /// Dead letters that are being replayed, with their tries so far.
    pub(super) replays: BTreeMap<i64, u32>,
    /// Only processors that are one destination are removed.
    pub(super) presence: Presence,
    /// True if an earlier process has crashed.
    crashed: bool,
}

/// A message to a destination.
pub(super) enum LaneMessage {
    Input(Input),
    Removed,
    RowsAdded,
    /// The end of a group of dead letters. True: the store had no room for any of them.
    DeadLettered(Vec<Attempt<FailedEvent>>, bool),
    Adoptions,
    AdoptionEnds,
    Replay {
        letter: i64,
        attempts: u32,
        slice: BatchSlice,
    },
}

/// Result of handing a dead letter to a dead-letter processor.
pub(super) enum AdoptionEnd {
    Adopted(Box<FailedEvent>),
    Refused(Box<FailedEvent>),
}

impl Lane {
    /// A destination after a start of the router. `crashed`: an earlier process has crashed.
    pub(super) fn new(engine: DeliveryEngine, crashed: bool) -> Self {
        Lane {
            engine,
            mailbox: VecDeque::from([LaneMessage::Input(Input::Tick)]),
            under_way: Vec::new(),
            spool_jobs: SpoolJobs::default(),
            letters: Outbox::default(),
            adoptions: Coalesced::default(),
            ends: Coalesced::default(),
            adopted: BTreeMap::new(),
            next_ticket: 0,
            rows_added: Coalesced::default(),
            replays: BTreeMap::new(),
            presence: Presence::Configured,
            crashed,
        }
    }

    /// Sends a request. None of its events may be in flight already. A replay is out of this rule,
    /// and so is an event that is read again after a crash although a spool has it.
    pub(super) fn send(&mut self, id: u64, request: DeliveryRequest) {
        let sent = events(&request);
        let is_twice =
            self.under_way.iter().flat_map(|(_, other)| events(other)).any(|it| sent.contains(&it));
        assert!(!is_twice || self.crashed || !self.replays.is_empty(), "an event is sent twice at once");
        self.under_way.push((id, request));
    }

    /// Number of messages that the bound on the lane's own jobs counts.
    pub(super) fn own_messages(&self) -> usize {
        let is_own = |message: &&LaneMessage| match message {
            LaneMessage::Input(input) => {
                matches!(input, Input::Appended { .. } | Input::Fetched { .. } | Input::Refused)
            }
            LaneMessage::Replay { .. } => false,
            LaneMessage::Removed
            | LaneMessage::RowsAdded
            | LaneMessage::DeadLettered(..)
            | LaneMessage::Adoptions
            | LaneMessage::AdoptionEnds => true,
        };
        self.mailbox.iter().filter(is_own).count()
    }

    pub(super) fn is_quiet(&self) -> bool {
        self.presence == Presence::Configured
            && self.mailbox.is_empty()
            && self.engine.is_idle()
            && self.spool_jobs.is_quiet()
            && self.letters.is_quiet()
    }
}

/// The events of a request. An event that was adopted from another destination is a different one.
fn events(request: &DeliveryRequest) -> Vec<(Uuid, Option<Arc<Failed>>)> {
    request.events().map(|(batch, i)| (batch.records[i].id, batch.failed.clone())).collect()
}
