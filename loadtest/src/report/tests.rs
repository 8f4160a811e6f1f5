//! The table, the page and the charts of one result must agree.

use std::collections::BTreeMap;
use std::time::Duration;

use testbed::verify::Latency;

use super::chart::Chart;
use super::limit_charts::{OFFERED, charts};
use super::text::{cpu_share, number, time};
use super::{limit, run};
use crate::limit::figures::{CaseFigures, LimitResult, Purpose, Step};
use crate::measure::machine::Machine;
use crate::measure::sample::Sample;
use crate::result::{RouterFigures, RunResult, WarmUp};

const CORES: usize = 2;

/// A try whose figures differ from those of all other tries, by `number`. The lag is highest in the
/// warm-up and in the drain.
fn step(number: u64, purpose: Purpose, rate: f64, p99_ms: u64) -> Step {
    let sample = |at: u64, lag: u64| Sample {
        seconds: at as f64,
        created_rate: rate,
        delivered_rate: rate - number as f64,
        lag_events: lag,
        router_cores: Some(0.5 + number as f64 / 100.0),
        generator_cores: 0.25,
        other_cores: Some(0.01 * number as f64),
        stages: [("parse".to_owned(), 0.3 + number as f64 / 50.0), ("core".to_owned(), 0.2)].into(),
        ..Sample::default()
    };
    let lags = [9_000, 100 + number, 101 + number, 100 + number, 101 + number, 8_000];
    let result = RunResult {
        samples: lags.iter().enumerate().map(|(at, lag)| sample(at as u64, *lag)).collect(),
        loaded: 1..5,
        latency: Latency {
            count: 1_000,
            p50_us: 1_000 + number,
            p90_us: 2_000 + number,
            p99_us: p99_ms * 1_000 + number * 100,
            p999_us: p99_ms * 2_000,
            max_us: p99_ms * 3_000,
            mean_us: 1.0,
        },
        warm_up: Some(WarmUp { seconds: 1.0, latency: Latency { count: 70, ..Latency::default() } }),
        router: RouterFigures { rss_peak_bytes: Some((50 + number) * 1_000_000), ..RouterFigures::default() },
        limited_by: "the offered load".into(),
        busiest: "a stage".into(),
        ..RunResult::default()
    };
    Step::of(purpose, rate, Duration::from_millis(250), result)
}

/// A search that tried four of its five rates more than once, with different outcomes.
fn result() -> LimitResult {
    use Purpose::{Again, Confirm, Half, Search};
    let tries = [
        (Search, 30_000.0, 9),
        (Search, 60_000.0, 93),
        (Search, 120_000.0, 400),
        (Again, 120_000.0, 500),
        // Failed, held, and failed again in a longer run.
        (Search, 80_000.0, 300),
        (Again, 80_000.0, 200),
        (Confirm, 80_000.0, 310),
        (Search, 70_000.0, 260),
        (Again, 70_000.0, 270),
        (Confirm, 60_000.0, 50),
        (Half, 30_000.0, 5),
    ];
    let steps =
        tries.iter().zip(1..).map(|((purpose, rate, p99), number)| step(number, *purpose, *rate, *p99));
    let mut case = CaseFigures { name: "batched".into(), steps: steps.collect(), ..CaseFigures::default() };
    case.settle();
    case.conclude(1e9);
    LimitResult {
        machine: Machine { cores: CORES, ..Machine::default() },
        cases: vec![case],
        p99_us: 250_000,
        precision: 0.05,
        warm_up_seconds: 1.0,
        ..LimitResult::default()
    }
}

fn chart<'c>(charts: &'c [Chart], title: &str) -> &'c Chart {
    charts.iter().find(|chart| chart.title == title).unwrap_or_else(|| panic!("no chart {title}"))
}

fn points(chart: &Chart, name: &str) -> Vec<(f64, f64)> {
    let found = chart.series.iter().find(|series| series.name == name);
    found.unwrap_or_else(|| panic!("no series {name} in {}", chart.title)).points.clone()
}

fn at(points: &[(f64, f64)], rate: f64) -> f64 {
    points.iter().find(|point| point.0 == rate).unwrap_or_else(|| panic!("no point at {rate}")).1
}

#[test]
fn a_rate_is_shown_once_in_every_chart() {
    let result = result();
    let charts = charts(&result.cases[0], &result);
    let throughput = chart(&charts, "Throughput");
    let rates = |name: &str| points(throughput, name).iter().map(|point| point.0).collect::<Vec<_>>();
    assert_eq!(rates("holds"), [30_000.0, 60_000.0]);
    assert_eq!(rates("does not hold"), [70_000.0, 80_000.0, 120_000.0]);
    for chart in charts.iter().filter(|chart| chart.x == OFFERED) {
        let one_a_rate = |name: &str| !["offered = delivered", "holds", "does not hold"].contains(&name);
        for series in chart.series.iter().filter(|series| one_a_rate(&series.name)) {
            let rates: Vec<f64> = series.points.iter().map(|point| point.0).collect();
            let expected = [30_000.0, 60_000.0, 70_000.0, 80_000.0, 120_000.0];
            assert_eq!(rates, expected, "{} of {}", series.name, chart.title);
        }
    }
}

#[test]
fn text_tables_and_charts_show_the_same_run_of_each_rate() {
    let result = result();
    let case = &result.cases[0];
    assert_eq!((case.limit, case.fails_at, case.confirmed), (Some(60_000.0), Some(70_000.0), true));
    let (half, limit) = (case.at_half().unwrap(), case.at_limit().unwrap());
    assert_eq!((half.purpose, limit.purpose), (Purpose::Half, Purpose::Confirm));
    let charts = charts(case, &result);

    // The row of the case in the table of limits, by column.
    let rows = limit::limits(&result);
    let line: BTreeMap<&str, &str> =
        rows[0].iter().map(String::as_str).zip(rows[1].iter().map(String::as_str)).collect();
    let latency = chart(&charts, "Latency from creation to receipt");
    let cpu = at(&points(chart(&charts, "CPU"), "router"), 60_000.0);
    for (head, expected) in [
        ("limit, events/s", "60,000".to_owned()),
        ("does not hold", "70,000".to_owned()),
        ("vCenters with room for storms", "6".to_owned()),
        ("p50 at half", time(at(&points(latency, "p50"), 30_000.0))),
        ("p99 at half", time(at(&points(latency, "p99"), 30_000.0))),
        ("p99 at the limit", time(at(&points(latency, "p99"), 60_000.0))),
        ("router CPU at the limit", cpu_share(cpu * CORES as f64 / 100.0, CORES)),
        (
            "memory at the limit",
            format!("{} MB", number(at(&points(chart(&charts, "Memory"), "router"), 60_000.0))),
        ),
    ] {
        assert_eq!(line.get(head), Some(&expected.as_str()), "{head}");
    }

    // The page and the table of the command line.
    let (page, table) = (limit::page(&result), result.table());
    for text in [&page, &table] {
        assert!(text.contains("This machine takes 60"), "{text}");
        assert!(text.contains("that is 6 vCenters with room for storms"), "{text}");
        assert!(text.contains("The 770 events received in the warm-ups"), "{text}");
        assert!(!text.contains("rocessor"), "{text}");
    }
    assert!(page.contains("The limit is <b>60,000 events/s</b>; 70,000 does not hold."), "{page}");
    assert!(table.contains("60000 events/s, 70000 does not hold"), "{table}");
    // 93 ms is the p99 of a try that a longer run outweighs.
    assert!(table.contains("p99 51.0 ms") && !table.contains("p99 93"), "{table}");
}

#[test]
fn the_list_of_tries_marks_those_that_the_charts_show() {
    let result = result();
    let case = &result.cases[0];
    let rows = limit::tries(case, CORES);
    let column = |head: &str| rows[0].iter().position(|name| name == head).unwrap();
    let charts = charts(case, &result);
    let (throughput, latency) =
        (chart(&charts, "Throughput"), chart(&charts, "Latency from creation to receipt"));
    assert_eq!(rows.len() - 1, case.steps.len());
    let mut counting = Vec::new();
    for (row, step) in rows[1..].iter().zip(&case.steps) {
        if row[column("counts")] != "yes" {
            continue;
        }
        counting.push(step.offered_rate);
        let mark = if row[column("outcome")] == "holds" { "holds" } else { "does not hold" };
        assert_eq!(at(&points(throughput, mark), step.offered_rate).round(), step.delivered_rate.round());
        assert_eq!(row[column("p99")], time(at(&points(latency, "p99"), step.offered_rate)));
        let stage =
            at(&points(chart(&charts, "Utilisation of the router's stages"), "parse"), step.offered_rate);
        assert_eq!(row[column("busiest stage")], format!("parse, {stage:.0} %"));
    }
    counting.sort_by(f64::total_cmp);
    assert_eq!(counting, [30_000.0, 60_000.0, 70_000.0, 80_000.0, 120_000.0]);
}

#[test]
fn a_lag_line_shows_the_run_that_its_name_says() {
    let result = result();
    let case = &result.cases[0];
    let charts = charts(case, &result);
    let lag = chart(&charts, "Lag over time");
    for (name, step) in [
        ("at half of the limit (30k/s)", case.at_half()),
        ("at the limit (60k/s)", case.at_limit()),
        ("at the lowest rate that does not hold (70k/s)", case.first_failure()),
    ] {
        let step = step.unwrap();
        let line = points(lag, name);
        let highest = line.iter().map(|point| point.1).fold(0.0, f64::max);
        assert_eq!(highest, step.lag_events_max as f64, "{name}");
        let expected: Vec<f64> = step.under_load().iter().map(|sample| sample.lag_events as f64).collect();
        assert_eq!(line.iter().map(|point| point.1).collect::<Vec<_>>(), expected, "{name}");
    }
    let numbers: Vec<u64> = [case.at_half(), case.at_limit(), case.first_failure()]
        .map(|step| step.unwrap().lag_events_max - 101)
        .to_vec();
    assert_eq!(numbers, [11, 10, 9], "the last try at half, the longer one at the limit, the last failure");
}

#[test]
fn decisive_runs_survive_the_file() {
    let result = result();
    let text = serde_json::to_string(&result).unwrap();
    let read: LimitResult = serde_json::from_str(&text).unwrap();
    assert_eq!(limit::page(&read), limit::page(&result));
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    let steps = json["cases"][0]["steps"].as_array().unwrap();
    let decides = steps.iter().filter(|step| step["decides"] == true);
    let failed = decides.clone().filter(|step| step["holds"] == false);
    assert_eq!((decides.count(), failed.clone().count()), (5, 3));
    let limit = json["cases"][0]["limit"].as_f64().unwrap();
    assert!(failed.into_iter().all(|step| step["offeredRate"].as_f64().unwrap() > limit));
}

#[test]
fn the_text_of_a_run_says_what_its_charts_show() {
    let sample = |at: u64, max_us: u64| Sample {
        seconds: at as f64,
        max_us,
        latency_count: 10,
        router_cores: Some(0.7),
        ..Sample::default()
    };
    let mut result = RunResult {
        samples: vec![sample(1, 26_100), sample(2, 11_100), sample(3, 9_000)],
        loaded: 0..3,
        latency: Latency { count: 30, p50_us: 2_000, p99_us: 9_000, max_us: 26_100, ..Latency::default() },
        machine: Machine { cores: CORES, ..Machine::default() },
        created: 30,
        router: RouterFigures {
            cpu_seconds: Some(2.1),
            rss_peak_bytes: Some(60_000_000),
            ..RouterFigures::default()
        },
        ..RunResult::default()
    };
    let slowest = |result: &RunResult| {
        points(chart(&run::charts(result), "Latency from creation to receipt"), "slowest")
    };
    assert_eq!(slowest(&result).iter().map(|point| point.1).fold(0.0, f64::max), 26_100.0);
    let (page, table) = (run::page(&result), result.table());
    assert!(page.contains("the slowest after 26.1 ms") && table.contains("max 26.1 ms"), "{page} {table}");
    for text in [&page, &table] {
        assert!(text.contains("70 % of a core, 35 % of the machine"), "{text}");
        assert!(!text.contains("warm-up)") && !text.contains("rocessor"), "{text}");
    }

    // With a warm-up: the omission is stated, and shaded in the charts.
    result.loaded = 1..3;
    result.latency = Latency { count: 20, max_us: 11_100, ..result.latency };
    result.warm_up =
        Some(WarmUp { seconds: 1.0, latency: Latency { count: 10, max_us: 26_100, ..Latency::default() } });
    let charts = run::charts(&result);
    assert_eq!(chart(&charts, "Latency from creation to receipt").bands[0], (0.0, 1.0));
    for text in [run::page(&result), result.table()] {
        assert!(text.contains("10 events received in the first 1.0 s (warm-up) are left out"), "{text}");
        assert!(text.contains("11.1 ms") && !text.contains("26.1 ms"), "{text}");
    }
}
