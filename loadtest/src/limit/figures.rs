//! The result of a limit search, for files and tables.

use std::ops::Range;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use testbed::verify::Latency;

use super::cases::Case;
use crate::bottleneck::{busiest_stage_in_mean, falls_behind, is_disturbed, is_growing, mean};
use crate::measure::machine::Machine;
use crate::measure::sample::Sample;
use crate::report::text::{cpu_share, number};
use crate::result::{RunResult, WarmUp};

/// The result of all cases.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LimitResult {
    pub format: u32,
    pub machine: Machine,
    /// The upper bound of p99.
    pub p99_us: u64,
    /// The largest relative error of a limit; 0.05 is 5 %.
    pub precision: f64,
    /// The warm-up of each run. Events received in it are left out of the figures.
    pub warm_up_seconds: f64,
    pub seconds: f64,
    /// True if every case has a limit.
    pub passed: bool,
    pub cases: Vec<CaseFigures>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CaseFigures {
    pub name: String,
    /// The case in one line.
    pub setup: String,
    /// CPU cores of the router, if it had not all of them.
    pub cpus: Option<Vec<usize>>,
    /// The highest rate below all failures whose decisive run held, in events per second.
    pub limit: Option<f64>,
    /// The lowest rate whose decisive run failed.
    pub fails_at: Option<f64>,
    /// True if the true limit may be higher: no rate failed, or the search was interrupted.
    pub at_least: bool,
    /// True if the run at the limit was a longer one.
    pub confirmed: bool,
    pub limited_by: String,
    pub interrupted: bool,
    /// The error that ended the case.
    pub error: Option<String>,
    pub steps: Vec<Step>,
}

/// The reason to try a rate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Purpose {
    #[default]
    Search,
    /// A repetition of a failure that was not clear.
    Again,
    /// A longer run, to confirm the limit.
    Confirm,
    /// A run at half of the limit, the load to plan with.
    Half,
}

/// One run at one rate. Rates, shares and loads are means over the time between warm-up and drain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    pub purpose: Purpose,
    /// True if this is the decisive run of its rate, see [`super::verdict`].
    pub decides: bool,
    pub holds: bool,
    /// The reasons why the rate does not hold.
    pub why: Vec<String>,
    pub offered_rate: f64,
    pub delivered_rate: f64,
    pub latency: Latency,
    pub warm_up: Option<WarmUp>,
    pub lag_events_max: u64,
    pub lag_grows: bool,
    pub router_cores: f64,
    pub generator_cores: f64,
    pub other_cores: f64,
    pub cpu_seconds_per_million: f64,
    pub rss_peak_bytes: u64,
    pub busiest_stage: String,
    pub busiest_stage_share: f64,
    pub limited_by: String,
    pub samples: Vec<Sample>,
    /// The samples between warm-up and drain, over which the means are taken.
    pub loaded: Range<usize>,
}

impl Step {
    /// Judges a run at `rate`: `holds`, or the reasons against it in `why`.
    pub fn of(purpose: Purpose, rate: f64, p99: Duration, result: RunResult) -> Step {
        let load = result.under_load();
        // A run is only given up for its lag, so the events that it left behind are no loss.
        let lag_grows = result.given_up || is_growing(load);
        let mut why = if result.given_up { Vec::new() } else { result.failures.clone() };
        if lag_grows {
            why.push("the lag grows".to_owned());
        }
        let late = u128::from(result.latency.p99_us) > p99.as_micros();
        if late {
            let (is, may) = (result.latency.p99_us as f64 / 1e3, p99.as_secs_f64() * 1e3);
            why.push(format!("p99 is {is:.1} ms, the bound is {may:.0} ms"));
        }
        // A low rate may be missed without a visible lag.
        let delivered_rate = mean(load, &|sample| sample.delivered_rate);
        let is_behind = falls_behind(load, rate);
        if result.latency.count == 0 {
            why.push("nothing arrived".to_owned());
        } else if is_behind {
            why.push(format!("{:.0} % of the offered load was delivered", delivered_rate / rate * 100.0));
        }
        let router_cores = mean(load, &|sample| sample.router_cores.unwrap_or_default());
        let (busiest_stage, busiest_stage_share) = busiest_stage_in_mean(load).unwrap_or_default();
        let busiest_stage = busiest_stage.to_owned();
        Step {
            purpose,
            decides: false,
            holds: why.is_empty(),
            offered_rate: rate,
            delivered_rate,
            lag_events_max: load.iter().map(|sample| sample.lag_events).max().unwrap_or_default(),
            lag_grows,
            router_cores,
            generator_cores: mean(load, &|sample| sample.generator_cores),
            other_cores: mean(load, &|sample| sample.other_cores.unwrap_or_default()),
            cpu_seconds_per_million: if delivered_rate > 0.0 {
                router_cores * 1e6 / delivered_rate
            } else {
                0.0
            },
            rss_peak_bytes: result.router.rss_peak_bytes.unwrap_or_default(),
            busiest_stage,
            busiest_stage_share,
            limited_by: match (lag_grows || is_behind, late) {
                (true, _) => result.busiest.clone(),
                // The router keeps up but is late: the busiest part causes the queues.
                (false, true) => format!("latency, before the lag grows; {}", result.busiest),
                (false, false) => result.limited_by.clone(),
            },
            latency: result.latency.clone(),
            warm_up: result.warm_up.clone(),
            why,
            samples: result.samples,
            loaded: result.loaded,
        }
    }
}

impl CaseFigures {
    pub fn of(case: &Case) -> CaseFigures {
        CaseFigures {
            name: case.name.clone(),
            setup: case.workload.setup(),
            cpus: case.cpus.clone(),
            ..CaseFigures::default()
        }
    }

    /// Names the limit after the last step.
    pub fn conclude(&mut self, max: f64) {
        self.at_least = self.limit.is_some() && (self.fails_at.is_none() || self.interrupted);
        self.limited_by = match self.first_failure() {
            Some(step) => step.limited_by.clone(),
            None if self.limit.is_some_and(|limit| limit >= max) => {
                format!("nothing up to {max:.0} events/s, the highest rate tried")
            }
            None => "unknown: no rate failed".to_owned(),
        };
    }

    /// `at least 20000 events/s`. `write` formats the number.
    pub fn limit_in_words(&self, write: impl Fn(f64) -> String) -> Option<String> {
        let at_least = if self.at_least { "at least " } else { "" };
        self.limit.map(|limit| format!("{at_least}{} events/s", write(limit)))
    }

    /// The reason why there is no limit.
    pub fn without_limit(&self) -> &'static str {
        match (self.interrupted, self.steps.iter().any(|step| !step.holds)) {
            (true, false) => "interrupted before a rate was tried",
            (true, true) => "no rate held before the interrupt",
            (false, _) => "no rate held",
        }
    }
}

impl LimitResult {
    /// Cores that other programs used, on average over all steps.
    pub fn other_cores(&self) -> f64 {
        let steps = || self.cases.iter().flat_map(|case| &case.steps);
        steps().map(|step| step.other_cores).sum::<f64>() / steps().count().max(1) as f64
    }

    /// A sentence about the events that were left out because they arrived during a warm-up.
    pub fn warm_up_in_words(&self) -> Option<String> {
        let warm_ups =
            self.cases.iter().flat_map(|case| &case.steps).filter_map(|step| step.warm_up.as_ref());
        let events: u64 = warm_ups.map(|warm_up| warm_up.latency.count).sum();
        (self.warm_up_seconds > 0.0).then(|| {
            format!(
                "Each try begins with a warm-up of {:.2} s, rounded up to the next sample. The {} events received in the warm-ups are \
                 left out of latency and load figures; an event created in a warm-up and received after it is counted.",
                self.warm_up_seconds,
                number(events as f64)
            )
        })
    }

    /// Formats the result as a table.
    pub fn table(&self) -> String {
        let mut out = self.summary(|rate| format!("{rate:.0}")) + "\n";
        for case in &self.cases {
            out.push_str(&format!("{}: {}\n", case.name, case.setup));
            let mut line = |name: &str, text: String| out.push_str(&format!("  {name:<15}{text}\n"));
            match case.limit_in_words(|limit| format!("{limit:.0}")) {
                Some(limit) => {
                    let above =
                        case.fails_at.map_or(String::new(), |fails| format!(", {fails:.0} does not hold"));
                    let sure = if case.confirmed { "" } else { ", not confirmed by a longer run" };
                    let interrupted = if case.interrupted { " (interrupted)" } else { "" };
                    line("limit", format!("{limit}{above}{sure}{interrupted}"));
                }
                None => line("limit", format!("none: {}", case.without_limit())),
            }
            if let Some(error) = &case.error {
                line("broken off", error.clone());
            }
            line("limited by", case.limited_by.clone());
            for (name, step) in [("at the limit", case.at_limit()), ("at half", case.at_half())] {
                if let Some(step) = step {
                    line(name, step.line(self.machine.cores));
                }
            }
        }
        if let Some(left_out) = self.warm_up_in_words() {
            out.push_str(&format!("{left_out}\n"));
        }
        if is_disturbed(self.other_cores(), self.machine.cores) {
            out.push_str(&format!(
                "Other programs kept {:.1} of {} cores busy: the limits are too low. Stop them and measure again.\n",
                self.other_cores(),
                self.machine.cores
            ));
        }
        out
    }
}

impl Step {
    /// The samples over which the figures are means.
    pub fn under_load(&self) -> &[Sample] {
        self.samples.get(self.loaded.clone()).unwrap_or(&self.samples)
    }

    /// Formats the step as one line. `cores` is the number of cores of the machine.
    pub fn line(&self, cores: usize) -> String {
        let ms = |micros: u64| micros as f64 / 1e3;
        let outcome = if self.holds { "holds".to_owned() } else { format!("fails: {}", self.why.join("; ")) };
        format!(
            "{:>9.0}/s offered, {:>9.0}/s delivered, p50 {:.1} ms, p99 {:.1} ms, router CPU {}, {:.2} s for a million events, {:.0} MB, \
             busiest stage {} {:.0} %: {outcome}",
            self.offered_rate,
            self.delivered_rate,
            ms(self.latency.p50_us),
            ms(self.latency.p99_us),
            cpu_share(self.router_cores, cores),
            self.cpu_seconds_per_million,
            self.rss_peak_bytes as f64 / 1e6,
            self.busiest_stage,
            self.busiest_stage_share * 100.0,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A run at 40 events/s without a lag.
    fn step(delivered_rate: f64) -> Step {
        let sample = |at: u32| Sample {
            seconds: f64::from(at) * 0.5,
            created_rate: 40.0,
            delivered_rate,
            ..Sample::default()
        };
        let samples: Vec<Sample> = (0..10).map(sample).collect();
        let result = RunResult {
            loaded: 0..samples.len(),
            samples,
            latency: Latency { count: 1, ..Latency::default() },
            limited_by: "the offered load".into(),
            busiest: "the target's answers".into(),
            ..RunResult::default()
        };
        Step::of(Purpose::Search, 40.0, Duration::from_secs(1), result)
    }

    #[test]
    fn a_router_that_falls_behind_fails_the_step_and_is_not_limited_by_the_load() {
        let behind = step(30.0);
        assert_eq!(behind.why, ["75 % of the offered load was delivered"]);
        assert_eq!((behind.holds, &*behind.limited_by), (false, "the target's answers"));
        let kept_up = step(40.0);
        assert_eq!((kept_up.holds, &*kept_up.limited_by), (true, "the offered load"));
    }

    #[test]
    fn a_limit_says_whether_it_may_be_higher() {
        let check = |fails_at, interrupted, expected: &str| {
            let mut case = CaseFigures { limit: Some(40.0), fails_at, interrupted, ..CaseFigures::default() };
            case.conclude(1000.0);
            assert_eq!(case.limit_in_words(|limit| limit.to_string()).unwrap(), expected);
        };
        check(Some(50.0), false, "40 events/s");
        check(None, false, "at least 40 events/s");
        check(Some(50.0), true, "at least 40 events/s");
        assert_eq!(CaseFigures::default().limit_in_words(|limit| limit.to_string()), None);
    }
}
