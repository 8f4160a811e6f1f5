//! Compares two results figure by figure, as ratios, and marks the figures that are worse.

use crate::limit::figures::{CaseFigures, LimitResult, Step};
use crate::result::{Outcome, RunResult};

/// Latencies that differ by less are equal: clock, scheduler and histogram cause such differences.
const LATENCY_NOISE_US: f64 = 500.0;

#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    #[error("one result is of `loadtest run`, the other of `loadtest limit`; compare two of one kind")]
    Kinds,
    #[error("the results have no figures in common")]
    Nothing,
}

/// The direction in which a figure is worse.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Worse {
    Lower,
    Higher,
}

/// One figure of both results.
#[derive(Clone, Debug, PartialEq)]
pub struct ComparisonRow {
    pub case: String,
    pub what: &'static str,
    pub unit: &'static str,
    /// `None` if the result has no such figure.
    pub first: Option<f64>,
    pub second: Option<f64>,
    pub regressed: bool,
}

impl ComparisonRow {
    pub fn ratio(&self) -> Option<f64> {
        let (first, second) = (self.first?, self.second?);
        (first > 0.0).then(|| second / first)
    }
}

/// All figures that are in either result. `tolerance` is the ratio that still counts as equal: 0.1
/// is 10 %.
///
/// # Errors
/// The results cannot be compared.
pub fn compare(
    first: &Outcome,
    second: &Outcome,
    tolerance: f64,
) -> Result<Vec<ComparisonRow>, CompareError> {
    let rows = match (first, second) {
        (Outcome::Run(first), Outcome::Run(second)) => {
            Comparison { tolerance, rows: Vec::new() }.runs(first, second)
        }
        (Outcome::Limit(first), Outcome::Limit(second)) => {
            Comparison { tolerance, rows: Vec::new() }.limits(first, second)
        }
        _ => return Err(CompareError::Kinds),
    };
    if rows.is_empty() { Err(CompareError::Nothing) } else { Ok(rows) }
}

struct Comparison {
    tolerance: f64,
    rows: Vec<ComparisonRow>,
}

impl Comparison {
    fn add(
        &mut self,
        case: &str,
        what: &'static str,
        unit: &'static str,
        worse: Worse,
        values: [Option<f64>; 2],
    ) {
        let [first, second] = values;
        let noise = if unit == "ms" { LATENCY_NOISE_US / 1e3 } else { 0.0 };
        let regressed = match (first, second) {
            // A figure that is missing now may hide a regression.
            (Some(_), None) => true,
            (None, _) => false,
            (Some(first), Some(second)) => match worse {
                Worse::Lower => second < first * (1.0 - self.tolerance),
                Worse::Higher => second > first * (1.0 + self.tolerance) + noise,
            },
        };
        if first.is_some() || second.is_some() {
            self.rows.push(ComparisonRow { case: case.to_owned(), what, unit, first, second, regressed });
        }
    }

    fn runs(mut self, first: &RunResult, second: &RunResult) -> Vec<ComparisonRow> {
        let case = first.workload.as_str();
        let runs = [first, second];
        let mut add = |what, unit, worse, value: &dyn Fn(&RunResult) -> Option<f64>| {
            self.add(case, what, unit, worse, runs.map(value));
        };
        add("not passed", "1 is yes", Worse::Higher, &|run| Some(f64::from(u8::from(!run.passed))));
        let late = |run: &RunResult, micros: u64| (run.latency.count > 0).then(|| micros as f64 / 1e3);
        let mut count = |what, value: &dyn Fn(&RunResult) -> u64| {
            add(what, "events", Worse::Higher, &|run| Some(value(run) as f64));
        };
        count("lost", &|run| run.totals.missing);
        count("duplicated", &|run| run.totals.duplicates);
        count("with a wrong id", &|run| run.totals.wrong_ids);
        count("out of order", &|run| run.overtaken);
        count("never created", &|run| run.totals.unknown);
        count("forbidden", &|run| run.totals.unexpected);
        count("unreadable", &|run| run.unreadable);
        count("of another source", &|run| run.strays);
        add("rate", "events/s", Worse::Lower, &|run| Some(run.rate));
        add("p50", "ms", Worse::Higher, &|run| late(run, run.latency.p50_us));
        add("p99", "ms", Worse::Higher, &|run| late(run, run.latency.p99_us));
        add("p99.9", "ms", Worse::Higher, &|run| late(run, run.latency.p999_us));
        add("CPU for a million events", "s", Worse::Higher, &|run| run.router.cpu_seconds_per_million);
        add("memory", "MB", Worse::Higher, &|run| run.router.rss_peak_bytes.map(|bytes| bytes as f64 / 1e6));
        self.rows
    }

    fn limits(mut self, first: &LimitResult, second: &LimitResult) -> Vec<ComparisonRow> {
        let none = CaseFigures::default();
        for case in &first.cases {
            let other = second.cases.iter().find(|other| other.name == case.name).unwrap_or(&none);
            let cases = [case, other];
            let mut add = |what, unit, worse, value: &dyn Fn(&CaseFigures) -> Option<f64>| {
                self.add(&case.name, what, unit, worse, cases.map(value));
            };
            let half = |case: &CaseFigures, value: &dyn Fn(&Step) -> f64| case.at_half().map(value);
            let limit = |case: &CaseFigures, value: &dyn Fn(&Step) -> f64| case.at_limit().map(value);
            add("limit", "events/s", Worse::Lower, &|case| case.limit);
            add("p50 at half", "ms", Worse::Higher, &|case| {
                half(case, &|step| step.latency.p50_us as f64 / 1e3)
            });
            add("p99 at half", "ms", Worse::Higher, &|case| {
                half(case, &|step| step.latency.p99_us as f64 / 1e3)
            });
            add("CPU for a million at limit", "s", Worse::Higher, &|case| {
                limit(case, &|step| step.cpu_seconds_per_million)
            });
            add("memory at limit", "MB", Worse::Higher, &|case| {
                limit(case, &|step| step.rss_peak_bytes as f64 / 1e6)
            });
        }
        self.rows
    }
}

/// Reasons why ratios of the two results say little about the router.
pub fn differences(first: &Outcome, second: &Outcome) -> Vec<String> {
    let mut found = Vec::new();
    if first.machine() != second.machine() {
        found.push("the machines differ, so ratios say little about the router".to_owned());
    }
    if let (Outcome::Run(first), Outcome::Run(second)) = (first, second)
        && first.workload != second.workload
    {
        found.push(format!("the workloads differ: `{}` and `{}`", first.workload, second.workload));
    }
    let others = second.subjects();
    for (name, setup) in first.subjects() {
        if let Some((_, other)) = others.iter().find(|(other, _)| *other == name).filter(|(_, o)| *o != setup)
        {
            found.push(format!("`{name}` has different setups: {setup}; and {other}"));
        }
    }
    if first.interrupted() || second.interrupted() {
        found.push("an interrupted run has figures of a part only".to_owned());
    }
    found
}

/// Formats the figures as a table.
pub fn table(rows: &[ComparisonRow]) -> String {
    let number = |value: Option<f64>| match value {
        None => "-".to_owned(),
        Some(value) if value.abs() >= 100.0 || value == value.round() => format!("{value:.0}"),
        Some(value) => format!("{value:.2}"),
    };
    let width = |head: &str, text: &dyn Fn(&ComparisonRow) -> usize| {
        rows.iter().map(text).max().unwrap_or(0).max(head.len())
    };
    let cases = width("case", &|row| row.case.chars().count());
    let whats = width("figure", &|row| row.what.len() + row.unit.len() + 3);
    let mut out = format!(
        "{:<cases$}  {:<whats$}  {:>12}  {:>12}  {:>7}\n",
        "case", "figure", "first", "second", "ratio"
    );
    for row in rows {
        let what = format!("{} ({})", row.what, row.unit);
        let ratio = row.ratio().map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
        let (first, second) = (number(row.first), number(row.second));
        let worse = if row.regressed { "  worse" } else { "" };
        out.push_str(&format!(
            "{:<cases$}  {what:<whats$}  {first:>12}  {second:>12}  {ratio:>7}{worse}\n",
            row.case
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use testbed::verify::{Latency, Tally};

    use super::*;

    fn run(rate: f64, p99_us: u64, missing: u64) -> Outcome {
        let latency = Latency { count: 1, p50_us: 900, p99_us, ..Latency::default() };
        let totals = Tally { missing, ..Tally::default() };
        Outcome::Run(Box::new(RunResult {
            workload: "w".into(),
            passed: missing == 0,
            rate,
            latency,
            totals,
            ..RunResult::default()
        }))
    }

    fn regressed(rows: &[ComparisonRow]) -> Vec<&str> {
        rows.iter().filter(|row| row.regressed).map(|row| row.what).collect()
    }

    #[test]
    fn only_differences_beyond_the_tolerance_count() {
        let check = |second: Outcome, expected: &[&str]| {
            let rows = compare(&run(1000.0, 10_000, 0), &second, 0.1).unwrap();
            assert_eq!(regressed(&rows), expected, "{}", table(&rows));
        };
        check(run(1000.0, 10_000, 0), &[]);
        check(run(910.0, 11_000, 0), &[]);
        check(run(890.0, 5_000, 0), &["rate"]);
        check(run(5000.0, 12_000, 0), &["p99"]);
        check(run(1000.0, 10_000, 1), &["not passed", "lost"]);
        // Half a millisecond is noise at any ratio.
        let rows = compare(&run(1.0, 100, 0), &run(1.0, 580, 0), 0.1).unwrap();
        assert_eq!(regressed(&rows), Vec::<&str>::new());
    }

    #[test]
    fn every_fault_of_a_run_is_worse_than_none() {
        let good = RunResult { workload: "w".into(), passed: true, ..RunResult::default() };
        let check = |change: &dyn Fn(&mut RunResult), expected: &str| {
            let mut bad = good.clone();
            change(&mut bad);
            let outcomes = [good.clone(), bad].map(|run| Outcome::Run(Box::new(run)));
            let rows = compare(&outcomes[0], &outcomes[1], 10.0).unwrap();
            assert_eq!(regressed(&rows), [expected]);
            assert_eq!(differences(&outcomes[0], &outcomes[1]), Vec::<String>::new());
        };
        // With any tolerance, one fault is more than none.
        check(&|run| run.passed = false, "not passed");
        check(&|run| run.totals.wrong_ids = 1, "with a wrong id");
        check(&|run| run.overtaken = 1, "out of order");
        check(&|run| run.totals.unknown = 1, "never created");
        check(&|run| run.totals.unexpected = 1, "forbidden");
        check(&|run| run.unreadable = 1, "unreadable");
        check(&|run| run.strays = 1, "of another source");
    }

    #[test]
    fn different_workloads_and_setups_are_named() {
        let result = |workload: &str, setup: &str| {
            let (workload, setup) = (workload.to_owned(), setup.to_owned());
            Outcome::Run(Box::new(RunResult { workload, setup, ..RunResult::default() }))
        };
        let found = differences(&result("a", "x"), &result("b", "x"));
        assert_eq!(found, ["the workloads differ: `a` and `b`"]);
        let found = differences(&result("a", "x"), &result("a", "y"));
        assert_eq!(found, ["`a` has different setups: x; and y"]);
    }

    #[test]
    fn cases_are_matched_by_name_and_a_missing_one_is_worse() {
        let case = |name: &str, limit| CaseFigures {
            name: name.into(),
            limit: Some(limit),
            ..CaseFigures::default()
        };
        let limits = |cases| Outcome::Limit(Box::new(LimitResult { cases, ..LimitResult::default() }));
        let first = limits(vec![case("a", 10.0), case("b", 10.0)]);
        let second = limits(vec![case("b", 30.0), case("c", 1.0)]);
        let rows = compare(&first, &second, 0.1).unwrap();
        let found: Vec<_> = rows.iter().map(|row| (row.case.as_str(), row.ratio(), row.regressed)).collect();
        assert_eq!(found, [("a", None, true), ("b", Some(3.0), false)]);
        assert!(table(&rows).contains("3.00") && table(&rows).contains("worse"), "{}", table(&rows));
        assert!(matches!(compare(&first, &run(1.0, 1, 0), 0.1), Err(CompareError::Kinds)));
    }
}
