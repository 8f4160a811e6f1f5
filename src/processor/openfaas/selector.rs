//! Selects the functions that an event goes to: those with a topic that matches it.

use std::sync::Arc;

use tokio::sync::watch;

use super::topics::{FunctionId, TopicLookup, TopicMap};
use crate::event::{Batch, Selection};
use crate::processor::{Matches, Selector};

/// The functions of one gateway, as the routing thread sees them. The number of a subscriber is the
/// function's [`FunctionId`].
pub struct FunctionSelector {
    topics: watch::Receiver<Arc<TopicMap>>,
    lookup: TopicLookup,
}

impl FunctionSelector {
    pub fn new(topics: watch::Receiver<Arc<TopicMap>>) -> Self {
        FunctionSelector { topics, lookup: TopicLookup::default() }
    }
}

impl Selector for FunctionSelector {
    fn select(&mut self, batch: &Batch, offered: &Selection, matches: &mut dyn Matches) {
        let map = Arc::clone(&self.topics.borrow_and_update());
        self.lookup.update(&map);
        for i in offered.iter() {
            let record = &batch.records[i];
            for function in self.lookup.functions(record.category, batch.text(record.subject)).iter() {
                let name =
                    || map.function(*function).map_or_else(|| "".into(), |known| Arc::clone(&known.name));
                let FunctionId(subscriber) = *function;
                matches.add(subscriber, &name, &Selection::one(i));
            }
        }
    }

    fn is_known(&self) -> bool {
        self.topics.borrow().is_whole()
    }

    fn listed(&self) -> Option<Vec<Arc<str>>> {
        let map = self.topics.borrow();
        let listed = map.functions().map(|(_, function)| &function.name);
        Some(listed.chain(map.missing()).map(Arc::clone).collect())
    }

    fn restored(&self, name: &str) -> Option<Arc<str>> {
        // Its undelivered events are kept for it, even if the gateway does not list it now.
        Some(name.into())
    }

    fn count(&self) -> usize {
        self.topics.borrow().functions().take(2).count().max(1)
    }
}
