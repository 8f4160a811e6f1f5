//! Changes of the core while it runs: sources and processors come, go and begin again.

use std::sync::Arc;

use super::{Core, Flow};
use crate::event::SourceInfo;
use crate::pipeline::destination::{DestinationId, Destinations};
use crate::pipeline::route::Route;
use crate::source::{BeginError, Found, Start};
use crate::state::CheckpointWrite;

/// Events of a source are still on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotSettled;

impl Core {
    /// Decides the start of a source that has begun in this run before, such as one with changed
    /// settings: it continues from its position. `None` if it has not begun.
    pub fn begin_again(&mut self, source: usize, found: &Found) -> Option<Result<Start, BeginError>> {
        let flow = &mut self.sources[source];
        let begun = flow.begun.as_mut()?;
        let expected = begun.info.instance_uuid;
        if expected != found.instance_uuid {
            let (source_name, found) = (flow.name.clone(), found.instance_uuid);
            return Some(Err(BeginError::OtherInstance { source_name, expected, found }));
        }
        begun.info = Arc::new(SourceInfo {
            url: found.url.clone(),
            api_version: found.api_version.clone(),
            ..(*begun.info).clone()
        });
        // The same arithmetic as after a restart. What was read before is in the seen set.
        let again_us = begun.resume_us.saturating_sub(flow.overlap_us).max(flow.seen_from_us);
        let begin_us = again_us.max(begun.first_us.unwrap_or(again_us));
        let (info, progress) = (Arc::clone(&begun.info), Arc::clone(&begun.progress));
        Some(Ok(Start { info, begin_us, floor_us: begun.first_us.unwrap_or(begin_us), progress }))
    }

    /// Forgets a source that another node is to read, once it has left nothing behind: all of its
    /// `pages` were put in order, and each event is settled everywhere. Returns its last
    /// checkpoint, if it has begun.
    ///
    /// # Errors
    /// Something is still on its way.
    pub fn leave(&mut self, source: usize, pages: u64) -> Result<Option<CheckpointWrite>, NotSettled> {
        let flow = &self.sources[source];
        let Some(begun) = &flow.begun else { return Ok(None) };
        if begun.order.pages() < pages || !begun.settle.is_settled() {
            return Err(NotSettled);
        }
        let last = self.checkpoint_of(source);
        let flow = &mut self.sources[source];
        (flow.begun, flow.pages) = (None, pages);
        Ok(last)
    }

    /// Marks all sources as removed. [`Core::set_source`] follows for those that are not.
    pub fn remove_sources(&mut self) {
        self.sources.iter_mut().for_each(|flow| flow.is_configured = false);
    }

    /// Adds a source at the next index, or changes the overlap of one.
    pub fn set_source(&mut self, source: usize, name: &str, overlap_us: i64) {
        match self.sources.get_mut(source) {
            Some(flow) => {
                flow.set_overlap(overlap_us);
                flow.is_configured = true;
            }
            None => self.sources.push(Flow::new(name.to_owned(), overlap_us)),
        }
    }

    /// Access to the routes and processors, to change them between two pages.
    pub fn route_mut(&mut self) -> (&mut Route, &mut Destinations) {
        (&mut self.route, &mut self.destinations)
    }

    /// The number of pages of a source that were put in order and routed.
    pub fn pages(&self, source: usize) -> u64 {
        self.sources.get(source).and_then(|flow| flow.begun.as_ref()).map_or(0, |begun| begun.order.pages())
    }

    /// Returns true if a processor was removed.
    pub fn is_removed(&self, processor: usize) -> bool {
        self.route.is_removed(processor)
    }

    /// Events that a former run left unsettled for `destination`, and that were not read again.
    #[cfg(test)]
    pub fn awaited_by(&self, destination: &str) -> Vec<crate::event::Identity> {
        let begun = self.sources.iter().filter_map(|flow| flow.begun.as_ref());
        let awaited = begun.flat_map(|begun| begun.order.awaited());
        let is_its = |destinations: &[Arc<str>]| destinations.iter().any(|name| **name == *destination);
        awaited.filter(|(_, destinations)| is_its(destinations)).map(|(identity, _)| *identity).collect()
    }

    /// Number of unsettled events of the destinations of a processor.
    pub fn unsettled_of(&self, processor: usize) -> usize {
        let is_its = |id: DestinationId| self.destinations.get(id).processor == processor;
        let begun = self.sources.iter().filter_map(|flow| flow.begun.as_ref());
        begun.map(|begun| begun.settle.count(is_its)).sum()
    }

    /// Discards the unsettled events of a removed processor, so that they hold nothing back.
    /// Returns their number. To be called until [`Undecided::abandon`] returns true as well.
    ///
    /// [`Undecided::abandon`]: super::undecided::Undecided::abandon
    pub fn discard(&mut self, processor: usize) -> usize {
        let Core { sources, destinations, .. } = self;
        let is_its = |id: DestinationId| destinations.get(id).processor == processor;
        let mut discarded = 0;
        for begun in sources.iter_mut().filter_map(|flow| flow.begun.as_mut()) {
            let events = begun.settle.release(is_its);
            begun.changed |= events > 0;
            discarded += events;
        }
        discarded
    }

    /// The name of another source that reads the same vCenter as `source`.
    pub fn twin(&self, source: usize) -> Option<&str> {
        let instance = Some(self.instance(source)?);
        let is_twin =
            |at: &usize| *at != source && self.sources[*at].is_configured && self.instance(*at) == instance;
        (0..self.sources.len()).find(is_twin).map(|at| &*self.sources[at].name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::testing::batch;
    use crate::pipeline::parse::{Content, Parsed};
    use crate::pipeline::settings::RouteSettings;
    use crate::state::Checkpoint;
    use uuid::Uuid;

    const MINUTE: i64 = 60_000_000;
    const INSTANCE: Uuid = Uuid::from_u128(7);

    fn found() -> Found {
        let url = "https://vc/sdk".to_owned();
        Found { url, instance_uuid: INSTANCE, api_version: "8.0.3.0".into(), start_us: 0 }
    }

    fn core_source() -> Arc<SourceInfo> {
        Arc::clone(&batch(0, &[]).source)
    }

    fn core(sources: &[&str]) -> Core {
        let mut destinations = Destinations::default();
        let routes: [RouteSettings; 0] = [];
        let route = Route::new(&routes, [], &mut destinations).expect("no patterns");
        Core::new(sources.iter().map(|name| ((*name).to_owned(), 2 * MINUTE)).collect(), route, destinations)
    }

    /// Events before the former overlap are forgotten: they would be delivered again.
    #[test]
    fn a_longer_overlap_does_not_reach_events_that_are_forgotten() {
        let mut core = core(&["vc"]);
        let stored = Checkpoint::at("vc", INSTANCE, 100 * MINUTE);
        let (start, _) = core.begin(0, &found(), Some(stored)).expect("the same vCenter");
        assert_eq!(start.begin_us, 98 * MINUTE);
        for (overlap, expected) in [(30, 98), (1, 99), (60, 99)] {
            core.set_source(0, "vc", overlap * MINUTE);
            let start = core.begin_again(0, &found()).expect("it has begun").expect("the same vCenter");
            assert_eq!(start.begin_us, expected * MINUTE, "{overlap}");
        }
    }

    /// A source that comes back goes on with its pages, from the position of that time.
    #[test]
    fn a_source_leaves_once_its_pages_are_in_order_and_begins_again() {
        let mut core = core(&["vc"]);
        assert!(matches!(core.leave(0, 0), Ok(None)), "it has not begun");
        core.begin(0, &found(), None).expect("the first start");
        assert_eq!(core.leave(0, 1).err(), Some(NotSettled), "a page is on its way");
        let page = |number| Parsed {
            source: core_source(),
            number,
            reading: None,
            content: Content::Events(batch(number, &[(1 + number as i32, MINUTE)])),
        };
        core.page(page(0), &mut Vec::new());
        let last = core.leave(0, 1).expect("all is settled").expect("it has begun");
        assert_eq!(last.high_key, Some(1));
        assert_eq!(core.page(page(1), &mut Vec::new()).events, 0, "it is gone");
        let stored = Checkpoint::at("vc", INSTANCE, 50 * MINUTE);
        let (start, _) = core.begin(0, &found(), Some(stored)).expect("the same vCenter");
        assert_eq!(start.begin_us, 48 * MINUTE);
        assert_eq!(core.page(page(1), &mut Vec::new()).events, 1);
    }

    #[test]
    fn a_removed_source_is_no_twin() {
        let mut core = core(&["old", "new"]);
        for source in [0, 1] {
            core.begin(source, &found(), None).expect("the first start");
        }
        assert_eq!(core.twin(1), Some("old"));
        core.remove_sources();
        core.set_source(1, "new", MINUTE);
        assert_eq!(core.twin(1), None);
    }
}
