//! Names the bottleneck of a run from its samples.
//!
//! The result cites its evidence, and it is an interpretation, not a proof. If no core and no stage
//! was busy, [`crate::cause`] looks for a setting, an order or the target instead.

use std::collections::BTreeSet;

use crate::cause;
use crate::measure::sample::Sample;
use crate::workload::{Rate, Workload};

/// A thread or a machine that works for more than this share of the time is saturated.
const BUSY: f64 = 0.9;
/// Other programs that use more than this share of the machine disturb a measurement.
const DISTURBED: f64 = 0.2;
/// A router that delivers at least this share of the offered load keeps up. The rest is the
/// inaccuracy of a short measurement.
const KEEPS_UP: f64 = 0.95;
/// A difference of this many events may be chance at any rate.
const FEW_EVENTS: f64 = 5.0;

/// The busiest stage and its share, in the busiest sample.
pub fn busiest_stage(samples: &[Sample]) -> Option<(&str, f64)> {
    let stages = samples.iter().flat_map(|sample| &sample.stages);
    stages.max_by(|a, b| a.1.total_cmp(b.1)).map(|(name, share)| (name.as_str(), *share))
}

/// The stage whose threads work most on average over all samples, and its share.
pub fn busiest_stage_in_mean(samples: &[Sample]) -> Option<(&str, f64)> {
    let names: BTreeSet<&str> =
        samples.iter().flat_map(|sample| sample.stages.keys().map(String::as_str)).collect();
    let share = |name: &str| mean(samples, &|sample| sample.stages.get(name).copied().unwrap_or_default());
    names.into_iter().map(|name| (name, share(name))).max_by(|a, b| a.1.total_cmp(&b.1))
}

/// The CPU cores of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores {
    /// Cores on which router and generator run.
    pub all: usize,
    /// Those of them that the router may use.
    pub router: usize,
}

/// Names the limit of the rate. `samples` cover the loaded part of the run, `missing` is the number
/// of events that never arrived.
pub fn limited_by(workload: &Workload, samples: &[Sample], missing: u64, cores: Cores) -> String {
    let kept_up = !is_growing(samples) && mean(samples, &|sample| sample.created_rate) > 0.0;
    if !kept_up || matches!(workload.rate, Rate::None | Rate::Unbounded) {
        return busiest(workload, samples, cores);
    }
    match missing {
        0 => "the offered load: the router kept up".into(),
        missing => format!("unknown: the lag did not grow, but {missing} events did not arrive"),
    }
}

/// Names the busiest part, saturated or not, and other programs that disturbed.
pub fn busiest(workload: &Workload, samples: &[Sample], cores: Cores) -> String {
    let mut found = busiest_part(workload, samples, cores);
    let other = mean(samples, &|sample| sample.other_cores.unwrap_or_default());
    if is_disturbed(other, cores.all) {
        let all = cores.all;
        found.push_str(&format!(
            " (but other programs kept {other:.1} of {all} cores busy: stop them and measure again)"
        ));
    }
    found
}

fn busiest_part(workload: &Workload, samples: &[Sample], cores: Cores) -> String {
    let mean = |value: &dyn Fn(&Sample) -> f64| mean(samples, value);
    // From the most to the least certain evidence: pinned cores, all cores, stages, settings.
    let router = mean(&|sample| sample.router_cores.unwrap_or_default());
    let generator = mean(&|sample| sample.generator_cores);
    if cores.router < cores.all && router > BUSY * cores.router as f64 {
        return format!("the router's CPU cores: it kept {router:.1} of {} busy", cores.router);
    }
    let others = cores.all.saturating_sub(cores.router);
    if others > 0 && generator > BUSY * others as f64 {
        return format!(
            "vCenters and target, not the router: they kept {generator:.1} of their {others} cores busy"
        );
    }
    if router + generator > BUSY * cores.all as f64 {
        return format!(
            "the machine: of {} cores the router kept {router:.1} busy, vCenters and target {generator:.1}",
            cores.all
        );
    }
    if let Some((name, share)) = busiest_stage_in_mean(samples).filter(|(_, share)| *share > BUSY) {
        return format!("the router's stage `{name}`: its threads worked {:.0} % of the time", share * 100.0);
    }
    cause::find(workload, samples).unwrap_or_else(|| cause::round_trips(workload, samples))
}

/// Returns true if other programs used enough cores to spoil a measurement.
pub fn is_disturbed(other: f64, cores: usize) -> bool {
    other > DISTURBED * cores as f64
}

/// The mean of a value, weighted with the length of the samples' intervals; 0 without samples. The
/// last interval of a load can be much shorter than the others.
pub fn mean(samples: &[Sample], value: &dyn Fn(&Sample) -> f64) -> f64 {
    let lengths: Vec<f64> = samples.windows(2).map(|pair| pair[1].seconds - pair[0].seconds).collect();
    // The first interval began before these samples, so its length is unknown: take the longest.
    let first = lengths.iter().copied().fold(0.0, f64::max);
    let all: f64 = first + lengths.iter().sum::<f64>();
    if all <= 0.0 {
        return samples.iter().map(value).sum::<f64>() / samples.len().max(1) as f64;
    }
    let weighted = std::iter::once(first).chain(lengths).zip(samples);
    weighted.map(|(length, sample)| length * value(sample)).sum::<f64>() / all
}

/// Returns true if the lag grew so much that less than [`KEEPS_UP`] of the load was delivered, or
/// if it grew clearly.
pub fn is_growing(samples: &[Sample]) -> bool {
    let rate = mean(samples, &|sample| sample.created_rate);
    // The centres of the two halves are half of the time apart.
    let kept_up = (1.0 - KEEPS_UP) * rate * seconds(samples) / 2.0;
    growth(samples) > kept_up.max(FEW_EVENTS) || is_growing_clearly(samples)
}

/// Returns true if the lag grew by more than the events of a tenth of a second. A short pause of
/// the router causes less, even in a short measurement.
pub fn is_growing_clearly(samples: &[Sample]) -> bool {
    let rate = mean(samples, &|sample| sample.created_rate);
    growth(samples) > (rate * 0.1).max(FEW_EVENTS)
}

/// The mean lag of the second half minus that of the first half.
fn growth(samples: &[Sample]) -> f64 {
    let (first, second) = samples.split_at(samples.len() / 2);
    let lag = |part: &[Sample]| mean(part, &|sample| sample.lag_events as f64);
    if first.is_empty() { 0.0 } else { lag(second) - lag(first) }
}

/// Returns true if deliveries fell short of the rate by more than a delay of the last moments.
pub fn falls_behind(samples: &[Sample], offered_rate: f64) -> bool {
    let delivered_rate = mean(samples, &|sample| sample.delivered_rate);
    let short_events = (offered_rate - delivered_rate) * seconds(samples);
    delivered_rate < KEEPS_UP * offered_rate && short_events > (offered_rate * 0.1).max(FEW_EVENTS)
}

/// The time from the first sample to the last.
fn seconds(samples: &[Sample]) -> f64 {
    samples.first().zip(samples.last()).map_or(0.0, |(first, last)| last.seconds - first.seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(lag_events: u64, router: f64, generator: f64, parse: f64, under_way: f64) -> Sample {
        Sample {
            lag_events,
            created_rate: 1000.0,
            router_cores: Some(router),
            generator_cores: generator,
            stages: [("parse".to_owned(), parse), ("core".to_owned(), 0.1)].into(),
            requests_under_way: Some(under_way),
            ..Sample::default()
        }
    }

    #[test]
    fn intervals_are_weighted_by_their_length() {
        let sample = |seconds: f64, rate: f64| Sample { seconds, delivered_rate: rate, ..Sample::default() };
        let check = |samples: &[Sample], expected: f64| {
            let found = mean(samples, &|sample| sample.delivered_rate);
            assert!((found - expected).abs() < 1e-9, "{found} instead of {expected}");
        };
        check(&[], 0.0);
        check(&[sample(3.0, 7.0)], 7.0);
        check(&[sample(1.0, 100.0), sample(2.0, 200.0)], 150.0);
        check(&[sample(1.0, 100.0), sample(2.0, 200.0), sample(2.5, 0.0)], 120.0);
    }

    #[test]
    fn the_evidence_names_the_bottleneck() {
        let workload = Workload::parse("test", "rate: 1000\nduration: 10s\nvcenters: 4").unwrap();
        let check = |samples: [Sample; 2], expected: &str| {
            let found = limited_by(&workload, &samples, 0, Cores { all: 4, router: 4 });
            assert!(found.starts_with(expected), "{found}");
        };
        let growing = |router, generator, parse, under_way| {
            [
                sample(0, router, generator, parse, under_way),
                sample(10_000, router, generator, parse, under_way),
            ]
        };
        check([sample(50, 1.0, 0.5, 0.5, 1.0), sample(53, 1.0, 0.5, 0.5, 1.0)], "the offered load");
        let steady = [sample(50, 1.0, 0.5, 0.5, 1.0), sample(50, 1.0, 0.5, 0.5, 1.0)];
        let lossy = limited_by(&workload, &steady, 7, Cores { all: 4, router: 4 });
        assert_eq!(lossy, "unknown: the lag did not grow, but 7 events did not arrive");
        check(growing(2.0, 1.9, 0.95, 4.0), "the machine");
        check(growing(1.5, 0.5, 0.97, 1.0), "the router's stage `parse`");
        check(growing(1.0, 0.5, 0.5, 3.9), "the target's answers");
        check(growing(1.0, 0.5, 0.5, 1.0), "round trips");
        let mut disturbed = growing(1.0, 0.5, 0.5, 1.0);
        disturbed.iter_mut().for_each(|sample| sample.other_cores = Some(1.5));
        let found = limited_by(&workload, &disturbed, 0, Cores { all: 4, router: 4 });
        assert!(
            found.starts_with("round trips") && found.contains("(but other programs kept 1.5"),
            "{found}"
        );
        let pinned = limited_by(&workload, &growing(1.0, 0.5, 0.5, 1.0), 0, Cores { all: 4, router: 1 });
        assert!(pinned.starts_with("the router's CPU cores: it kept 1.0 of 1 busy"), "{pinned}");
        assert_eq!(busiest_stage(&growing(1.0, 0.5, 0.7, 1.0)), Some(("parse", 0.7)));
    }

    /// One sample per second.
    fn lags(rate: f64, lags: &[u64]) -> Vec<Sample> {
        let sample = |(at, lag): (usize, &u64)| Sample {
            seconds: at as f64,
            created_rate: rate,
            ..sample(*lag, 1.0, 1.0, 0.1, 0.0)
        };
        lags.iter().enumerate().map(sample).collect()
    }

    #[test]
    fn swaying_lag_is_not_growing_lag() {
        assert!(!is_growing(&lags(1000.0, &[100, 500, 80, 400, 120, 450])));
        assert!(is_growing(&lags(1000.0, &[100, 200, 300, 400, 500, 600])));
        assert!(!is_growing(&lags(1000.0, &[100])));
    }

    #[test]
    fn growth_is_judged_by_lag_and_by_time() {
        // 70 events/s, of which 47 are delivered.
        assert!(is_growing(&lags(70.0, &[10, 33, 56, 79])));
        assert!(!is_growing(&lags(70.0, &[0, 1, 3, 0])), "a few events are chance");
        let mut short = lags(1000.0, &[0, 10, 60, 60]);
        short.iter_mut().for_each(|sample| sample.seconds *= 0.1);
        assert!(is_growing(&short) && !is_growing_clearly(&short), "60 ms of a short look");
        let delivering = |rates: &[f64]| -> Vec<Sample> {
            let sample = |(at, rate): (usize, &f64)| Sample {
                seconds: at as f64 * 0.1,
                delivered_rate: *rate,
                ..Sample::default()
            };
            rates.iter().enumerate().map(sample).collect()
        };
        assert!(falls_behind(&delivering(&[47.0; 15]), 70.0));
        assert!(!falls_behind(&delivering(&[67.0; 15]), 70.0));
        assert!(!falls_behind(&delivering(&[2.0; 15]), 4.0), "three events are no proof");
        // 70 ms without a delivery in a measurement of 1.4 s.
        assert!(!falls_behind(&delivering(&[940.0; 15]), 1000.0));
        assert!(falls_behind(&delivering(&[900.0; 15]), 1000.0));
    }
}
