//! The gateway `p4`, whose list of functions may be away, and the store's jobs for its events.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::inside::{self, Inside};
use super::lane::LaneMessage;
use super::outside::Outside;
use super::{BASE_US, GATEWAY, OVERFLOW, PROCESSORS, everything, processor_name, wants};
use crate::event::{Batch, Selection};
use crate::limits::UNDECIDED_JOBS_MAX;
use crate::pipeline::deliver::{SpoolKey, SpoolRow};
use crate::pipeline::destination::{Destinations, undecided_name};
use crate::pipeline::driver::spool_writes;
use crate::pipeline::route::Route;
pub(super) use crate::pipeline::undecided::UndecidedReply;
use crate::pipeline::undecided::{UndecidedJob, task};
use crate::processor::{BatchSlice, Matches, Selector, SubscriberId};
use crate::state::{MemoryStore, Storage, StoreError, codec};

/// A job of the undecided gateway that is with the store.
#[derive(Debug)]
pub(super) enum AwaitedJob {
    Append,
    Fetch,
    Move,
}

impl AwaitedJob {
    /// Returns true if a full store refuses the job.
    pub(super) fn needs_room(&self, well: bool) -> bool {
        match self {
            AwaitedJob::Append => true,
            AwaitedJob::Fetch => false,
            AwaitedJob::Move => !well,
        }
    }

    /// The reply to a job that writes.
    pub(super) fn reply(&self, is_written: bool) -> UndecidedReply {
        match self {
            AwaitedJob::Append => UndecidedReply::Appended(is_written),
            AwaitedJob::Move => UndecidedReply::Moved(is_written),
            AwaitedJob::Fetch => unreachable!("it writes nothing"),
        }
    }
}

/// Chooses among the functions `a` and `b`, once their list is known.
struct ListedFunctions {
    is_known: Arc<AtomicBool>,
}

impl Selector for ListedFunctions {
    fn select(&mut self, batch: &Batch, offered: &Selection, matches: &mut dyn Matches) {
        assert!(self.is_known(), "nobody can choose yet");
        for (subscriber, name) in ["a", "b"].into_iter().enumerate() {
            let wanted = |i: &usize| {
                wants(GATEWAY + subscriber, batch.records[*i].key.expect("all have one") as usize)
            };
            let taken = offered.iter().filter(wanted).collect();
            matches.add(subscriber as SubscriberId, &|| name.into(), &taken);
        }
    }

    fn is_known(&self) -> bool {
        self.is_known.load(Relaxed)
    }

    fn restored(&self, name: &str) -> Option<Arc<str>> {
        Some(name.into())
    }

    fn count(&self) -> usize {
        2
    }
}

/// The route of a router that has just started. Chance decides if it can read the list at once.
pub(super) fn route(outside: &mut Outside, store: &MemoryStore, destinations: &mut Destinations) -> Route {
    // The list of the former run stays with that run.
    outside.registry = Arc::new(AtomicBool::new(outside.below(2) == 0));
    let names: Vec<String> = (0..PROCESSORS).map(processor_name).collect();
    let selector = |processor| -> Option<Box<dyn Selector>> {
        let functions = ListedFunctions { is_known: Arc::clone(&outside.registry) };
        (processor == GATEWAY).then(|| Box::new(functions) as Box<dyn Selector>)
    };
    let processors = names.iter().enumerate().map(|(at, name)| (name.as_str(), selector(at)));
    let mut route = Route::new(&[everything()], processors, destinations).expect("no patterns");
    route.restore_undecided(|name| store.spools().get(name).map_or(0, |size| size.rows));
    route
}

impl Inside {
    /// Handles a reply to the core, or checks the list.
    pub(super) fn step_undecided(&mut self, outside: &mut Outside) {
        match self.undecided.pop_front() {
            Some(reply) => self.undecided_done(reply, outside),
            None => self.look_at_undecided(outside),
        }
    }

    /// Has the store do the jobs of the gateway, as the core thread does.
    fn look_at_undecided(&mut self, outside: &mut Outside) {
        let now = Duration::from_micros((outside.now_us - BASE_US) as u64);
        let mut outputs = Vec::new();
        for (_, job) in self.core.undecided_jobs(now, &mut outputs) {
            self.undecided_job(job);
        }
        self.output(outputs, outside);
    }

    fn undecided_job(&mut self, job: UndecidedJob) {
        let (writes, job) = match job {
            UndecidedJob::Append { destination, slices } => {
                let name = &self.core.destinations.get(destination).name;
                let slices: Vec<_> = slices.into_iter().map(|slice| (SpoolKey::Main, slice)).collect();
                (spool_writes(name, &OVERFLOW, &slices).expect("it was decoded"), AwaitedJob::Append)
            }
            UndecidedJob::Fetch => (Vec::new(), AwaitedJob::Fetch),
            UndecidedJob::Move(job) => {
                let names = task::names(&job, &self.core.destinations);
                let write = task::move_write(&names, &OVERFLOW, &job).expect("it was decoded");
                (vec![write], AwaitedJob::Move)
            }
        };
        self.jobs.push_back((writes, inside::Reply::Undecided(job)));
        let jobs = self.jobs.iter().filter(|(_, reply)| matches!(reply, inside::Reply::Undecided(_)));
        assert!(jobs.count() + self.undecided.len() <= UNDECIDED_JOBS_MAX);
    }

    fn undecided_done(&mut self, reply: UndecidedReply, outside: &mut Outside) {
        let now = Duration::from_micros((outside.now_us - BASE_US) as u64);
        let (job, added) = self.core.undecided_done(now, GATEWAY, reply);
        for destination in added {
            let lane = &mut self.lanes[destination.0 as usize];
            if lane.rows_added.put(|rows| *rows += 1) {
                lane.mailbox.push_back(LaneMessage::RowsAdded);
            }
        }
        if let Some(job) = job {
            self.undecided_job(job);
        }
        self.look_at_undecided(outside);
    }

    /// The first row that waits for the list of functions.
    pub(super) fn first_undecided(&self) -> Result<Option<(SpoolRow, BatchSlice)>, StoreError> {
        let rows = self.store.peek(&undecided_name(&processor_name(GATEWAY)), 0, 1)?;
        Ok(rows.into_iter().next().map(|row| {
            let selection = row.left();
            let batch = codec::decode(&row.blob, |_| Some(0)).expect("what was written");
            (SpoolRow(row.row), BatchSlice { batch: Arc::new(batch), selection })
        }))
    }
}
