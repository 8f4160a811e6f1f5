//! Rates and plots: samples of the counters at intervals. Pure; the task in `mod.rs` measures.
//!
//! Every source and destination has a rate. The first [`HISTORIES_MAX`] of each that had events
//! also have a plot of the last hour.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::shape::PlotPoint;
use crate::limits::{HISTORIES_MAX, HISTORY_POINTS_MAX};
use crate::telemetry::histogram::HistogramCounts;

/// A measurement of one source or destination.
#[derive(Debug, Default)]
pub(super) struct Measured {
    pub name: Arc<str>,
    /// Events so far.
    pub events: u64,
    pub backlog_events: f64,
    /// Age of the oldest waiting event, or the lag of a source.
    pub oldest_s: f64,
    /// Durations of requests so far; empty for a source.
    pub requests: HistogramCounts,
}

/// The series of all sources, or of all destinations.
#[derive(Debug, Default)]
pub(super) struct History {
    all: BTreeMap<Arc<str>, PointSeries>,
    plots: usize,
}

#[derive(Debug, Default)]
struct PointSeries {
    at_us: i64,
    events: u64,
    requests: HistogramCounts,
    latest: PlotPoint,
    /// Empty without a plot.
    points: VecDeque<PlotPoint>,
    has_plot: bool,
}

impl History {
    /// Adds a point for each measurement. PointSeries that were not measured end.
    pub fn step(&mut self, now_us: i64, measured: impl IntoIterator<Item = Measured>) {
        for Measured { name, events, backlog_events, oldest_s, requests } in measured {
            let series = self.all.entry(name).or_default();
            let is_first = series.at_us == 0;
            let passed_s = (now_us - series.at_us).max(1) as f64 / 1e6;
            let new = requests.since(&series.requests);
            let quantile = |q| new.quantile(q).unwrap_or(0.0) as f32;
            let rate = if is_first { 0.0 } else { events.saturating_sub(series.events) as f64 / passed_s };
            series.latest = PlotPoint {
                at: u32::try_from(now_us / 1_000_000).unwrap_or_default(),
                events_per_s: rate as f32,
                backlog_events: backlog_events as f32,
                oldest_s: oldest_s as f32,
                request_p50_s: quantile(0.5),
                request_p99_s: quantile(0.99),
            };
            (series.at_us, series.events, series.requests) = (now_us, events, requests);
            if !series.has_plot && self.plots < HISTORIES_MAX && (events > 0 || backlog_events > 0.0) {
                series.has_plot = true;
                self.plots += 1;
            }
            if series.has_plot {
                if series.points.len() == HISTORY_POINTS_MAX {
                    series.points.pop_front();
                }
                series.points.push_back(series.latest);
            }
        }
        self.all.retain(|_, series| series.at_us == now_us);
        self.plots = self.all.values().filter(|series| series.has_plot).count();
    }

    /// The latest point; `None` before the first measurement.
    pub fn latest(&self, name: &str) -> Option<PlotPoint> {
        self.all.get(name).map(|series| series.latest)
    }

    /// The points of the last hour, the oldest first.
    pub fn points(&self, name: &str) -> Vec<PlotPoint> {
        self.all.get(name).map_or_else(Vec::new, |series| series.points.iter().copied().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(name: &str, events: u64) -> Measured {
        Measured { name: name.into(), events, ..Measured::default() }
    }

    #[test]
    fn the_rate_is_that_of_the_last_interval() {
        let mut history = History::default();
        let mut rates = Vec::new();
        for (second, events) in [(5, 100), (10, 150), (15, 150), (20, 0)] {
            history.step(second * 1_000_000, [measured("a", events)]);
            rates.push(history.latest("a").expect("measured").events_per_s);
        }
        assert_eq!(rates, [0.0, 10.0, 0.0, 0.0]);
        assert_eq!(history.points("a").len(), 4);
        history.step(25_000_000, []);
        assert_eq!((history.latest("a"), history.plots), (None, 0));
    }

    #[test]
    fn points_and_plots_are_bounded() {
        let mut history = History::default();
        let names: Vec<String> = (0..HISTORIES_MAX + 5).map(|n| format!("{n:04}")).collect();
        for second in 1..HISTORY_POINTS_MAX as i64 + 5 {
            history.step(second * 1_000_000, names.iter().map(|name| measured(name, 1)));
        }
        let points: Vec<usize> = names.iter().map(|name| history.points(name).len()).collect();
        assert_eq!(points.iter().filter(|points| **points == HISTORY_POINTS_MAX).count(), HISTORIES_MAX);
        assert_eq!(points.iter().filter(|points| **points == 0).count(), 5);
    }
}
