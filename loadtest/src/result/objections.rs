//! The verdict on a run: the list of everything that its workload does not allow.
//!
//! There are three kinds of objections. No workload allows faults of delivery: lost, wrong, unknown
//! and overtaken events, and repeated ones without a reason. A workload may set goals. And the
//! router must end properly. A run without objections has passed, unless it was interrupted.

use std::time::Duration;

use testbed::verify::Tally;

use super::{RouterFigures, RunResult};
use crate::workload::{Ordering, Workload};

impl RunResult {
    /// The objections. `attached` means that the router was not ours to start and stop.
    pub fn objections(&self, workload: &Workload, attached: bool) -> Vec<String> {
        let mut found = Vec::new();
        let total = &self.totals;
        let whole = self.was_whole();
        if whole && total.expected + total.delivered + self.unreadable + self.strays == 0 {
            found.push("nothing was tested: there was no event to deliver".to_owned());
        }
        let mut count = |number: u64, what: &str| {
            if number > 0 {
                found.push(format!("{number} {what}"));
            }
        };
        count(total.missing, if whole { "events are lost" } else { "events had not arrived by then" });
        count(total.wrong_ids, "deliveries carry a wrong id");
        count(total.wrong_content, "deliveries carry wrong content");
        count(total.unknown, "deliveries name an event that was never created");
        count(total.unexpected, "events arrived that the user may not read");
        count(self.unreadable, "deliveries are not readable");
        count(self.strays, "deliveries come from a source outside of this run");
        count(self.router.counts.dropped_events, "events were dropped by the router");
        let of = if workload.target.ordering == Ordering::Source { "source" } else { "object" };
        count(self.overtaken, &format!("events overtook another of their {of}"));
        let duplicates = workload.goals.duplicates;
        let allowed = duplicates.unwrap_or(if workload.repeats_deliveries() { u64::MAX } else { 0 });
        if total.duplicates > allowed {
            found.push(format!(
                "{} deliveries were repeated, at most {allowed} are allowed",
                total.duplicates
            ));
        }
        self.goals(workload, &mut found);
        if let Some(why) = &self.broken_off {
            found.insert(0, why.clone());
        } else if !attached {
            // A router that was killed at once, or stopped with events in flight, is excused.
            let excused = self.interrupted && (total.missing > 0 || !self.router.has_ended());
            found.extend(self.router.bad_end().filter(|_| !excused));
        }
        found
    }

    /// Adds an objection for each missed goal.
    fn goals(&self, workload: &Workload, found: &mut Vec<String>) {
        let goals = &workload.goals;
        let mut late = |what: &str, micros: u64, bound: Option<Duration>| {
            if let Some(bound) = bound.filter(|bound| u128::from(micros) > bound.as_micros()) {
                let (is, may) = (micros as f64 / 1e3, bound.as_secs_f64() * 1e3);
                found.push(format!("{what} latency is {is:.1} ms, at most {may:.1} ms are allowed"));
            }
        };
        late("p50", self.latency.p50_us, goals.p50);
        late("p99", self.latency.p99_us, goals.p99);
        let mut above = |what: &str, is: Option<f64>, may: Option<f64>| {
            if let (Some(is), Some(may)) = (is, may)
                && is > may
            {
                found.push(format!("{what} is {is:.1}, at most {may:.1} is allowed"));
            }
        };
        above(
            "the router's peak memory in MB",
            self.router.rss_peak_bytes.map(|rss| rss as f64 / 1e6),
            goals.rss_mb,
        );
        let cpu = self.router.cpu_seconds_per_million;
        above("the router's CPU seconds for a million events", cpu, goals.cpu_seconds_per_million);
        if let Some(least) = goals.rate_min.filter(|least| self.rate < *least) {
            found.push(format!("the rate is {:.0} events/s, at least {least:.0} are required", self.rate));
        }
    }
}

impl RouterFigures {
    /// Returns true if the router ended, by itself or on request.
    fn has_ended(&self) -> bool {
        self.exit_code.is_some() || self.signal.is_some()
    }

    /// The objection to the way the router ended after SIGTERM.
    fn bad_end(&self) -> Option<String> {
        match (self.exit_code, self.signal) {
            (Some(0), _) => None,
            (Some(code), _) => Some(format!("the router ended with exit code {code}")),
            (None, Some(signal)) => Some(format!("the router died of signal {signal} while it stopped")),
            (None, None) => Some("the router did not end after SIGTERM and was killed".to_owned()),
        }
    }
}

/// The number of events that overtook another although the workload's ordering forbids it.
pub fn overtaken(workload: &Workload, total: &Tally) -> u64 {
    match workload.target.ordering {
        Ordering::Source => total.out_of_order,
        Ordering::Entity => total.out_of_order_in_entity,
        Ordering::None => 0,
    }
}
