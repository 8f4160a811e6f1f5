//! Reloads of the simulated router: other orderings, and processors that are removed and come back.
//!
//! A removed processor gets no events meanwhile. Those that were routed without it are *excused*:
//! its target need not have them. It delivers everything that was routed to it before.

use std::time::Duration;

use rand::Rng;

use super::inside::Inside;
use super::lane::{Lane, LaneMessage};
use super::outside::Outside;
use super::{
    BASE_US, PROCESSORS, REMOVABLE, ROUTED, SINK, engine, limits, name, policy, processor_name, routes,
};
use crate::event::Identity;
use crate::pipeline::deliver::settings::Ordering;
use crate::pipeline::deliver::{Input, Spooled};
use crate::pipeline::route::CompiledRoutes;
use crate::state::Storage;

/// The state of a processor that can be removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Presence {
    #[default]
    Configured,
    /// Removed; it delivers what it has in memory.
    Retiring,
    /// Its driver was told to end.
    Ending,
}

impl Inside {
    /// Applies another configuration, or lets a removed processor go on to its end.
    pub(super) fn reload(&mut self, outside: &mut Outside) {
        let lane = REMOVABLE[outside.below(REMOVABLE.len())];
        match self.lanes[lane].presence {
            Presence::Configured if outside.chance(30) => self.remove_processor(lane, outside),
            Presence::Configured if !outside.well => self.reorder(outside),
            Presence::Configured => {}
            Presence::Retiring if outside.well || outside.chance(20) => self.go_on(lane),
            Presence::Retiring => self.retire(lane, outside.now_us),
            Presence::Ending => self.come_back(lane, outside),
        }
    }

    /// Changes the ordering of a destination.
    fn reorder(&mut self, outside: &mut Outside) {
        let lane = ROUTED[outside.below(ROUTED.len())];
        let ordering = [Ordering::Source, Ordering::Entity, Ordering::None][outside.below(3)];
        outside.set_ordering(lane, ordering);
        let policy = Box::new(policy(lane, ordering));
        self.lanes[lane]
            .mailbox
            .push_back(LaneMessage::Input(Input::Policy { policy, limits: limits(lane) }));
    }

    fn remove_processor(&mut self, lane: usize, outside: &mut Outside) {
        // Events that a former run owed to it are discarded when they are read again.
        let owed: Vec<Identity> = self.core.awaited_by(&name(lane));
        outside.targets[lane].excused.extend(owed.iter().map(|identity| identity.key as usize));
        self.lanes[lane].presence = Presence::Retiring;
        self.core.route_mut().0.remove_processor(lane);
        self.set_routes();
    }

    /// Compiles the routes to all configured processors.
    fn set_routes(&mut self) {
        let is_configured = |processor: &usize| {
            !REMOVABLE.contains(processor) || self.lanes[*processor].presence == Presence::Configured
        };
        let processors = (0..PROCESSORS).filter(|processor| *processor != SINK).filter(is_configured);
        let routes = CompiledRoutes::new(&[routes(processors.collect())]).expect("no patterns");
        self.core.route_mut().0.set_rules(routes);
    }

    /// A reload adds a processor again that has not been told to end.
    fn go_on(&mut self, lane: usize) {
        self.lanes[lane].presence = Presence::Configured;
        let (route, destinations) = self.core.route_mut();
        route.change_processor(lane, None, destinations);
        self.set_routes();
    }

    /// Tells the driver of a removed processor to end once its events are settled.
    fn retire(&mut self, lane: usize, now_us: i64) {
        if self.core.unsettled_of(lane) == 0 {
            self.lanes[lane].presence = Presence::Ending;
            self.stop(lane, now_us);
        }
    }

    /// Has the engine of a driver that ends write what the store does not know yet.
    pub(super) fn stop(&mut self, lane: usize, now_us: i64) {
        let mut actions = Vec::new();
        let now = Duration::from_micros((now_us - BASE_US) as u64);
        self.lanes[lane].engine.step(now, Input::Stop, &mut actions);
        self.lanes[lane].mailbox.clear();
        self.carry_out(lane, actions, now_us);
        self.remove(lane, true);
    }

    /// Adds a processor again once its former driver and the jobs of that driver have ended.
    fn come_back(&mut self, lane: usize, outside: &mut Outside) {
        let has_jobs = self.jobs.iter().any(|(_, reply)| reply.lane() == Some(lane));
        if has_jobs || !self.lanes[lane].under_way.is_empty() {
            return;
        }
        let spools = self.store.spools();
        let mut spooled = Spooled::by_destination(spools.iter().map(|(name, size)| (name, size.rows)));
        let rows = spooled.remove(&name(lane)).unwrap_or_default();
        let (route, destinations) = self.core.route_mut();
        route.add_processor(lane, &processor_name(lane), None, |_| 0, destinations);
        let engine = engine(lane, outside.ordering[lane], rows, outside.random.random());
        self.lanes[lane] = Lane::new(engine, outside.crashed);
        self.set_routes();
    }
}
