//! How far a processor reaches: which of its destinations an event goes to that a route gives it.

use std::sync::Arc;

use rustc_hash::FxHashMap;
use tokio::sync::watch;

use super::Routed;
use super::buses::Buses;
use crate::event::{Batch, Selection};
use crate::pipeline::destination::{DestinationId, Destinations};
use crate::processor::Interest;
use crate::processor::openfaas::topics::{FunctionId, TopicLookup, TopicMap};

/// How a processor picks among the events that a route gives it.
pub enum Reach {
    /// All of them, to the one destination that the processor is.
    Whole(DestinationId),
    /// Each function what its topics name; a function is a destination.
    Functions(Functions),
    /// What matches a rule of one of its event buses; a bus is a destination.
    Buses(Buses),
}

impl Reach {
    /// Of the processor with this index and name.
    pub fn new(processor: usize, name: &str, interest: Interest, destinations: &mut Destinations) -> Self {
        match interest {
            Interest::Everything => Reach::Whole(destinations.intern(processor, name, "")),
            Interest::Functions(topics) => Reach::Functions(Functions {
                processor,
                name: name.into(),
                topics,
                lookup: TopicLookup::default(),
                destinations: FxHashMap::default(),
            }),
            Interest::Rules(rules) => Reach::Buses(Buses::new(processor, name, rules, destinations)),
        }
    }

    pub(super) fn step(
        &mut self,
        batch: &Batch,
        offered: &Selection,
        destinations: &mut Destinations,
        routed: &mut Routed,
    ) {
        match self {
            Reach::Whole(destination) => routed.add(*destination, offered),
            Reach::Functions(functions) => functions.step(batch, offered, destinations, routed),
            Reach::Buses(buses) => buses.step(batch, offered, routed),
        }
    }

    /// Destinations that it is; see [`Route::reached`](super::Route::reached).
    pub(super) fn count(&self) -> usize {
        match self {
            Reach::Whole(_) => 1,
            Reach::Functions(functions) => functions.topics.borrow().functions().take(2).count().max(1),
            Reach::Buses(buses) => buses.count(),
        }
    }

    /// The destination of this processor that a former run knew under `name`, whether or not its target has it now.
    pub(super) fn named(&self, name: &str, destinations: &mut Destinations) -> Option<DestinationId> {
        let (processor, processor_name) = match self {
            Reach::Whole(_) => return None,
            // A bus that is configured is known by its name.
            Reach::Buses(buses) => return (buses.name() == name).then(|| buses.unnamed(destinations)),
            Reach::Functions(functions) => (functions.processor, &functions.name),
        };
        let function = name.strip_prefix(processor_name.as_str())?;
        let function = if function.is_empty() { "" } else { function.strip_prefix('/')? };
        Some(destinations.intern(processor, processor_name, function))
    }

    /// The names of the functions that events may go to now or soon, as destinations; nothing of a processor without functions.
    pub(super) fn functions(&self) -> Vec<String> {
        let Reach::Functions(Functions { name: processor, topics, .. }) = self else { return Vec::new() };
        let map = topics.borrow();
        let listed = map.functions().map(|(_, function)| &function.name);
        listed.chain(map.missing()).map(|function| format!("{processor}/{function}")).collect()
    }

    /// Whether its destinations are functions, of this processor among others.
    pub(super) fn has_functions(&self, of: usize) -> bool {
        matches!(self, Reach::Functions(Functions { processor, .. }) if *processor == of)
    }
}

/// The functions of one processor.
pub struct Functions {
    processor: usize,
    name: String,
    topics: watch::Receiver<Arc<TopicMap>>,
    lookup: TopicLookup,
    destinations: FxHashMap<FunctionId, DestinationId>,
}

impl Functions {
    fn step(
        &mut self,
        batch: &Batch,
        offered: &Selection,
        destinations: &mut Destinations,
        routed: &mut Routed,
    ) {
        let map = Arc::clone(&self.topics.borrow_and_update());
        self.lookup.update(&map);
        for i in offered.iter() {
            let record = &batch.records[i];
            for function in self.lookup.functions(record.category, batch.text(record.subject)).iter() {
                let destination = *self.destinations.entry(*function).or_insert_with(|| {
                    let name = map.function(*function).map_or("", |function| &function.name);
                    destinations.intern(self.processor, &self.name, name)
                });
                routed.add(destination, &Selection::one(i));
            }
        }
    }
}
