//! Reload: other routes, processors and sources for a running pipeline.
//!
//! ```text
//!  Settings ─► slots ─► Preparation: processors that come back ─► rows in their spools
//!                └─► compiled routes ─► PipelineChange ─► core thread, between two pages
//!                                                   ├─ routes, selectors ─► the next page
//!                                                   ├─ Policy ─► drivers ─► the next request
//!                                                   └─ removed processor ─► retires
//! ```
//!
//! Every source and processor has a slot, its index. A name gets a slot when it first appears and
//! keeps it for the rest of the run. So no event in memory ever points at another part.
//!
//! A removed processor *retires*: it gets no more events and delivers those in memory until a
//! deadline. What is left then is discarded, with a warning. Events on disk stay there. This is
//! what a restart with the new configuration does.
//!
//! INVARIANT: the core thread applies a change as a whole, between two pages. Events that were
//! routed before it keep their destinations.
//! INVARIANT: the pages of a removed source are routed before its routes go.
//! INVARIANT: the spools of a processor that comes back are counted after its former drivers have
//! ended, so that none of their rows is missed or read twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::control::Control;
use super::core_thread::CoreThread;
use super::deliver::Spooled;
use super::destination::{DestinationId, split_name};
use super::driver::{DriverPolicy, Mailbox};
use super::route::CompiledRoutes;
use super::run::{Pipeline, StartError};
use super::settings::{ProcessorSettings, RouteSettings, Settings, SourceSettings};
use crate::cloudevents::settings::Payload;
use crate::limits::{RELOADED_SLOTS_MAX, RETIRE_ANSWERS_MAX};
use crate::processor::{
    Blame, BoxFuture, DeliveryOutcome, DeliveryRequest, Failure, Processor, RequestLimits,
};
use crate::state::{Bounds, StoreError};

/// A reload of the pipeline failed and changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum PipelineReloadError {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("more than {RELOADED_SLOTS_MAX} names of {0} were added since the start; restart the router")]
    Slots(&'static str),
    #[error("the router is shutting down")]
    Stopped,
}

/// Other settings for a running pipeline.
pub struct PipelineReload {
    /// All settings, by index in the new configuration.
    pub settings: Settings,
    /// By index in the new configuration: a new instance of each processor whose settings have
    /// changed. `None` keeps the running one.
    pub processors: Vec<Option<Arc<dyn Processor>>>,
    /// Names of added processors that are of another type than a removed one of the same name. They
    /// wait for its end and do not take over its queue.
    pub replacing: Vec<String>,
    /// Time in which removed processors deliver the events that they have in memory.
    pub retire_within: Duration,
    pub bounds: Bounds,
}

/// A processor that was removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedProcessor {
    pub name: String,
    /// Events in memory, which it delivers until the deadline.
    pub unsettled: usize,
}

/// The slots of processors, by name. `true` while the processor is configured.
#[derive(Debug, Default)]
pub(super) struct ProcessorSlots(Vec<(String, bool)>);

impl ProcessorSlots {
    pub fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        ProcessorSlots(names.map(|name| (name.to_owned(), true)).collect())
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn slot_of(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|(known, _)| known == name)
    }

    fn is_configured(&self, slot: usize) -> bool {
        self.0.get(slot).is_some_and(|(_, is_configured)| *is_configured)
    }
}

/// The question if the core thread is ready for a change.
pub(super) struct Preparation {
    /// Slots of processors that are added.
    added: Vec<usize>,
    /// Those among them that do not take over what a removed processor has in memory.
    replacing: Vec<usize>,
    /// Sources that are removed, with the number of their pages. These have to be routed by the
    /// routes that they were read for.
    pages: Vec<(usize, u64)>,
    ready: oneshot::Sender<()>,
}

/// A change, on its way to the core thread. Everything refers to slots.
pub(super) struct PipelineChange {
    /// Sources that are added or changed.
    sources: Vec<(usize, SourceSettings)>,
    processors: Vec<(usize, ProcessorChange)>,
    rules: CompiledRoutes,
    /// Rows in the spools of added processors, by destination.
    spooled: HashMap<String, Spooled>,
    retire_within: Duration,
    checkpoint_interval: Duration,
    dead_letter_max_age: Option<Duration>,
    dead_letter_bytes: u64,
    done: oneshot::Sender<Vec<RemovedProcessor>>,
}

enum ProcessorChange {
    Added(ProcessorSettings, Arc<dyn Processor>),
    Changed(ProcessorSettings, Arc<dyn Processor>),
    Removed,
}

/// A processor that was removed and has not ended.
pub(super) struct Retiring {
    slot: usize,
    until: Instant,
    /// The drivers that were told to end; `None` before that.
    ending: Option<Vec<Mailbox>>,
}

/// Stands in the slot of a processor that has ended. It gets no events.
struct RemovedInstance;

impl Processor for RemovedInstance {
    fn request_limits(&self) -> RequestLimits {
        RequestLimits { events_max: 1, bytes_max: 1, partial: false }
    }

    fn deliver<'a>(&'a self, _: &'a DeliveryRequest) -> BoxFuture<'a, DeliveryOutcome> {
        Box::pin(async { DeliveryOutcome::of(Err(removed())) })
    }

    fn check(&self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(async { Err(removed()) })
    }
}

fn removed() -> Failure {
    Failure::new(Blame::Target, "this processor was removed from the configuration")
}

impl Pipeline {
    /// Checks settings for a reload.
    ///
    /// # Errors
    /// Those that [`Pipeline::reload`] would return because of the settings.
    pub fn check(&self, settings: &Settings) -> Result<(), PipelineReloadError> {
        let (sources, processors) = self.assign(settings)?;
        CompiledRoutes::new(&by_slot(&settings.routes, &sources, &processors))
            .map_err(StartError::Patterns)?;
        Ok(())
    }

    /// The slots of all sources and processors. New names get the next ones, in their order.
    fn assign(&self, settings: &Settings) -> Result<(Vec<usize>, Vec<usize>), PipelineReloadError> {
        let mut new_sources = self.sources.len()..self.sources_max;
        let mut new_processors = self.slots.len()..self.processors_max;
        let source = |new: &SourceSettings| {
            let slot = self.sources.index_of(&new.name).or_else(|| new_sources.next());
            slot.ok_or(PipelineReloadError::Slots("sources"))
        };
        let processor = |new: &ProcessorSettings| {
            let slot = self.slots.slot_of(&new.name).or_else(|| new_processors.next());
            slot.ok_or(PipelineReloadError::Slots("processors"))
        };
        let sources = settings.sources.iter().map(source).collect::<Result<_, _>>()?;
        let processors = settings.processors.iter().map(processor).collect::<Result<_, _>>()?;
        Ok((sources, processors))
    }

    /// Applies other settings. Parts that did not change keep their connections and their queues.
    ///
    /// Only one reload may run at a time. `stop` is awaited just before the change; it stops the
    /// sources that have changed.
    ///
    /// # Errors
    /// Those of [`Pipeline::check`], before anything has changed. Otherwise the pipeline or its
    /// store has failed.
    pub async fn reload(
        &mut self,
        reload: PipelineReload,
        stop: impl Future<Output = ()>,
    ) -> Result<Vec<RemovedProcessor>, PipelineReloadError> {
        let PipelineReload { settings, processors, replacing, retire_within, bounds } = reload;
        let (source_slots, slots) = self.assign(&settings)?;
        // The compiled routes are the last thing that can be wrong with the settings.
        let rules = CompiledRoutes::new(&by_slot(&settings.routes, &source_slots, &slots))
            .map_err(StartError::Patterns)?;
        // Wait for the former drivers of processors that come back, and count their spools.
        let is_added = |slot: usize| !self.slots.is_configured(slot);
        let added: Vec<usize> = slots.iter().copied().filter(|slot| is_added(*slot)).collect();
        let replacing = replacing.iter().filter_map(|name| self.slots.slot_of(name)).collect();
        let spooled = self.prepare(added, replacing, &source_slots).await?;
        stop.await;
        // Apply the change.
        if settings.processors.iter().any(|new| new.delivery.envelope.payload != Payload::Pascal) {
            self.keep_sent.store(true, SeqCst);
        }
        let changed = settings.processors.iter().zip(processors).zip(&slots);
        let changed = changed.filter_map(|((settings, processor), slot)| {
            let (processor, settings) = (processor?, settings.clone());
            Some((
                *slot,
                match is_added(*slot) {
                    true => ProcessorChange::Added(settings, processor),
                    false => ProcessorChange::Changed(settings, processor),
                },
            ))
        });
        let removed = (0..self.slots.0.len())
            .filter(|slot| self.slots.is_configured(*slot) && !slots.contains(slot))
            .map(|slot| (slot, ProcessorChange::Removed));
        let (done, answer) = oneshot::channel();
        let change = PipelineChange {
            sources: source_slots.iter().copied().zip(settings.sources.iter().cloned()).collect(),
            processors: changed.chain(removed).collect(),
            rules,
            spooled,
            retire_within,
            checkpoint_interval: settings.checkpoint_interval,
            dead_letter_max_age: settings.dead_letter_max_age,
            dead_letter_bytes: bounds.dead_letter_bytes,
            done,
        };
        for source in &settings.sources {
            self.sources.intern(&source.name);
        }
        if !self.control.send(Control::Reload(Box::new(change))) {
            return Err(PipelineReloadError::Stopped);
        }
        let removed = answer.await.map_err(|_| PipelineReloadError::Stopped)?;
        self.slots.0.iter_mut().for_each(|(_, is_configured)| *is_configured = false);
        for (settings, slot) in settings.processors.iter().zip(slots) {
            match self.slots.0.get_mut(slot) {
                Some((_, is_configured)) => *is_configured = true,
                None => self.slots.0.push((settings.name.clone(), true)),
            }
        }
        self.store.with(move |store| {
            store.set_bounds(bounds);
            Ok(())
        });
        Ok(removed)
    }

    /// Waits until the former drivers of these slots have ended or go on, and until all pages of
    /// sources other than `sources` are routed. Counts the rows in all spools.
    async fn prepare(
        &self,
        added: Vec<usize>,
        replacing: Vec<usize>,
        sources: &[usize],
    ) -> Result<HashMap<String, Spooled>, PipelineReloadError> {
        let mut pages = Vec::new();
        for source in (0..self.sources.len()).filter(|source| !sources.contains(source)) {
            pages.push((source, *self.sources.numbering(source).next_page.lock().await));
        }
        let counts_rows = !added.is_empty();
        let (ready, wait) = oneshot::channel();
        if !self.control.send(Control::PrepareReload(Preparation { added, replacing, pages, ready })) {
            return Err(PipelineReloadError::Stopped);
        }
        wait.await.map_err(|_| PipelineReloadError::Stopped)?;
        if !counts_rows {
            return Ok(HashMap::new());
        }
        let (counted, wait) = oneshot::channel();
        self.store.with(move |store| {
            let _ = counted.send(store.reader().spools()?);
            Ok(())
        });
        let spools = wait.await.map_err(|_| PipelineReloadError::Stopped)?;
        Ok(Spooled::by_destination(spools.iter().map(|(name, size)| (name, size.rows))))
    }
}

/// Replaces the indices in `routes`: those of the configuration become slots.
fn by_slot(routes: &[RouteSettings], sources: &[usize], processors: &[usize]) -> Vec<RouteSettings> {
    let route = |route: &RouteSettings| {
        let mut taken = vec![false; sources.iter().max().map_or(0, |last| last + 1)];
        route.sources.iter().zip(sources).for_each(|(takes, slot)| taken[*slot] = *takes);
        RouteSettings {
            sources: taken,
            processors: route.processors.iter().map(|processor| processors[*processor]).collect(),
            ..route.clone()
        }
    };
    routes.iter().map(route).collect()
}

impl CoreThread {
    /// Makes ready for a change. A processor that comes back goes on if it has not been told to
    /// end; the change waits for the end of the others.
    pub(super) fn prepare_reload(&mut self, preparation: Preparation) {
        let Preparation { added, replacing, .. } = &preparation;
        let goes_on = |Retiring { slot, ending, .. }: &Retiring| {
            ending.is_none() && added.contains(slot) && !replacing.contains(slot)
        };
        self.going_on.extend(self.retiring.extract_if(.., |it| goes_on(it)).map(|it| it.slot));
        self.preparing = Some(preparation);
        self.retire();
    }

    /// Applies a change.
    pub(super) fn reload(&mut self, change: PipelineChange) {
        // Sources.
        self.core.remove_sources();
        for (at, settings) in change.sources {
            self.core.set_source(at, &settings.name, settings.overlap.as_micros() as i64);
            match self.settings.sources.get_mut(at) {
                Some(source) => *source = settings,
                None => self.settings.sources.push(settings),
            }
        }
        // Processors. All settings come first: a processor may name a later one as its dead-letter
        // processor.
        let (mut fresh, mut changed, mut removed) = (Vec::new(), Vec::new(), Vec::new());
        for (slot, processor_change) in change.processors {
            match processor_change {
                ProcessorChange::Added(settings, processor) if !self.going_on.contains(&slot) => {
                    let rows = |name: &str| change.spooled.get(name).map_or(0, |rows| rows.main as u64);
                    let (route, destinations) = self.core.route_mut();
                    route.add_processor(slot, &settings.name, processor.selector(), rows, destinations);
                    fresh.push(settings.name.clone());
                    self.set_processor(slot, settings, processor);
                }
                ProcessorChange::Added(settings, processor)
                | ProcessorChange::Changed(settings, processor) => {
                    let (route, destinations) = self.core.route_mut();
                    route.change_processor(slot, processor.selector(), destinations);
                    self.going_on.retain(|other| *other != slot);
                    changed.push(slot);
                    self.set_processor(slot, settings, processor);
                }
                ProcessorChange::Removed => {
                    self.core.route_mut().0.remove_processor(slot);
                    let name = self.settings.processors[slot].name.clone();
                    removed.push(RemovedProcessor { name, unsettled: self.core.unsettled_of(slot) });
                    let until = Instant::now() + change.retire_within;
                    self.retiring.push(Retiring { slot, until, ending: None });
                }
            }
        }
        let route = self.core.route_mut().0;
        route.set_rules(change.rules);
        self.shared.observations.set_routes(route.observed());
        // Drivers.
        changed.into_iter().for_each(|slot| self.tell_drivers(slot));
        let of_fresh = |name: &str| fresh.iter().any(|processor| processor == split_name(name).0);
        self.spooled.extend(change.spooled.into_iter().filter(|(name, _)| of_fresh(name)));
        self.start_spooled();
        // The rest.
        self.settings.checkpoint_interval = change.checkpoint_interval;
        self.upkeep.set_limits(change.dead_letter_bytes, change.dead_letter_max_age);
        self.all_live = false;
        self.count_destinations();
        let _ = change.done.send(removed);
    }

    fn set_processor(&mut self, slot: usize, settings: ProcessorSettings, processor: Arc<dyn Processor>) {
        if slot < self.processors.len() {
            self.settings.processors[slot] = settings;
            self.processors[slot] = processor;
            // A new selector counts from 0.
            self.undecided[slot] = None;
        } else {
            self.settings.processors.push(settings);
            self.processors.push(processor);
            self.undecided.push(None);
        }
    }

    /// Tells the drivers of a processor its settings.
    fn tell_drivers(&mut self, slot: usize) {
        let delivery = self.settings.processors[slot].delivery.clone();
        let sink = delivery.dead_letter.as_deref().and_then(|name| self.sink(name));
        for at in self.drivers_of(slot) {
            if let Some(mailbox) = &self.mailboxes[at] {
                let processor = Arc::clone(&self.processors[slot]);
                let (delivery, sink) = (delivery.clone(), sink.clone());
                mailbox.set_policy(DriverPolicy { processor, delivery, sink });
            }
        }
    }

    /// The numbers of a processor's destinations that have a driver.
    fn drivers_of(&self, slot: usize) -> Vec<usize> {
        let is_its = |at: &usize| {
            self.mailboxes[*at].is_some()
                && self.core.destinations.get(DestinationId(*at as u32)).processor == slot
        };
        (0..self.mailboxes.len()).filter(is_its).collect()
    }

    /// Looks at the processors that retire, and at the reload that waits for their end.
    pub(super) fn retire(&mut self) {
        let mut retiring = std::mem::take(&mut self.retiring);
        retiring.retain_mut(|retiring| !self.has_retired(retiring));
        self.retiring = retiring;
        let is_ending = |slot: &usize| self.retiring.iter().any(|retiring| retiring.slot == *slot);
        let is_routed = |(source, pages): &(usize, u64)| self.core.pages(*source) >= *pages;
        let is_ready = |preparation: &mut Preparation| {
            !preparation.added.iter().any(is_ending) && preparation.pages.iter().all(is_routed)
        };
        if let Some(preparation) = self.preparing.take_if(is_ready) {
            let _ = preparation.ready.send(());
        }
    }

    /// Returns true once a removed processor has ended.
    fn has_retired(&mut self, retiring: &mut Retiring) -> bool {
        let slot = retiring.slot;
        if retiring.ending.is_none() {
            if self.core.unsettled_of(slot) > 0 && Instant::now() < retiring.until {
                return false;
            }
            let until = Instant::now() + RETIRE_ANSWERS_MAX;
            let mailboxes: Vec<Mailbox> =
                self.drivers_of(slot).into_iter().filter_map(|at| self.mailboxes[at].take()).collect();
            mailboxes.iter().for_each(|mailbox| mailbox.retire(until));
            self.started -= mailboxes.len();
            self.count_destinations();
            retiring.ending = Some(mailboxes);
        }
        let events = self.core.discard(slot);
        if events > 0 {
            let processor = &self.settings.processors[slot].name;
            tracing::warn!(%processor, events, "this processor is no longer configured; its unsettled events are discarded");
        }
        let is_quiet = self.core.route_mut().0.undecided_queue(slot).abandon();
        let has_ended = is_quiet && retiring.ending.iter().flatten().all(Mailbox::is_closed);
        if has_ended {
            // Its files and connections are closed, and its refreshes end.
            self.processors[slot] = Arc::new(RemovedInstance);
        }
        has_ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_refer_to_slots() {
        let route = RouteSettings {
            sources: vec![true, false, true],
            processors: vec![1, 0],
            ..RouteSettings::default()
        };
        let found = by_slot(&[route], &[4, 0, 1], &[2, 7]);
        assert_eq!(found[0].sources, [false, true, false, false, true]);
        assert_eq!(found[0].processors, [7, 2]);
    }
}
