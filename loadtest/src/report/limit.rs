//! The report of a limit search: the limit of each case, its meaning for planning, the evidence and
//! the cause.
//!
//! Text, tables and charts show the decisive run of each rate (`limit::verdict`). Only the list of
//! all tries shows the others, and marks them.

use std::fmt::Write;

use super::limit_charts::{OFFERED, charts};
use super::page::{Row, page as whole_page, row, table};
use super::terms::{PageKind, terms};
use super::text::{cpu_share, escape, number, short, time};
use crate::bottleneck::is_disturbed;
use crate::limit::figures::{CaseFigures, LimitResult, Purpose, Step};
use crate::limit::planning;

const TITLE: &str = "How many events one router takes";

pub fn page(result: &LimitResult) -> String {
    let mut out = format!("<h1>{TITLE}</h1>\n");
    out.push_str(&summary(result));
    for case in &result.cases {
        out.push_str(&case_section(case, result));
    }
    let steps = result.cases.iter().flat_map(|case| &case.steps);
    out.push_str(&terms(&PageKind::Limit, steps.flat_map(|step| &step.samples)));
    whole_page(TITLE, &result.machine, &out)
}

fn summary(result: &LimitResult) -> String {
    let mut out = String::new();
    // Writing to a string cannot fail.
    let _ = writeln!(out, "<p class=\"lead\">{}</p>", escape(&result.summary(number)));
    if result.cases.iter().any(|case| case.limit.is_some()) {
        let _ = writeln!(out, "<p>{}</p>", escape(&planning::assumption(number)));
    }
    let _ = writeln!(
        out,
        "<p>Each limit was searched for by doubling the rate until it did not hold, and then by halving the gap until it was at most {:.0} %. A rate \
         <b>holds</b> when every event arrived once, with its own id and in its order, when 99 of 100 events arrived within {} of their \
         creation, and when the number of events under way did not grow. The terms are explained <b>at the end of this page</b>.</p>",
        result.precision * 100.0,
        time(result.p99_us as f64),
    );
    if let Some(left_out) = result.warm_up_in_words() {
        let _ = writeln!(out, "<p>{}</p>", escape(&left_out));
    }
    let (other, cores) = (result.other_cores(), result.machine.cores);
    if is_disturbed(other, cores) {
        let _ = writeln!(
            out,
            "<p><span class=\"bad\">Disturbed</span> Other programs used {} meanwhile: the limits are too low. Stop them and measure again.</p>",
            cpu_share(other, cores)
        );
    }
    out.push_str(&table(&limits(result)));
    if result.cases.len() > 3 {
        out.push_str(&bars(&result.cases));
    }
    out
}

/// The table of limits, one row for each case.
pub fn limits(result: &LimitResult) -> Vec<Row> {
    let mut rows = vec![row([
        "case",
        "limit, events/s",
        "vCenters with room for storms",
        "does not hold",
        "p50 at half",
        "p99 at half",
        "p99 at the limit",
        "router CPU at the limit",
        "CPU for a million events",
        "memory at the limit",
        "what limits",
    ])];
    for case in &result.cases {
        let of = |step: Option<&Step>, value: &dyn Fn(&Step) -> String| step.map_or("–".to_owned(), value);
        let (half, limit) = (case.at_half(), case.at_limit());
        let maybe = |rate: Option<f64>| rate.map_or("–".to_owned(), number);
        rows.push(vec![
            case.name.clone(),
            format!("{}{}", if case.at_least { "at least " } else { "" }, maybe(case.limit)),
            case.limit.map_or("–".to_owned(), |limit| planning::vcenters(limit).to_string()),
            maybe(case.fails_at),
            of(half, &|step| time(step.latency.p50_us as f64)),
            of(half, &|step| time(step.latency.p99_us as f64)),
            of(limit, &|step| time(step.latency.p99_us as f64)),
            of(limit, &|step| cpu_share(step.router_cores, result.machine.cores)),
            of(limit, &|step| format!("{} s", number(step.cpu_seconds_per_million))),
            of(limit, &|step| format!("{} MB", number(step.rss_peak_bytes as f64 / 1e6))),
            short_cause(&case.limited_by).to_owned(),
        ]);
    }
    rows
}

/// A cause without its evidence, which is in the section of the case.
fn short_cause(cause: &str) -> &str {
    cause.split(": ").next().unwrap_or(cause)
}

/// A bar chart of the limits.
fn bars(cases: &[CaseFigures]) -> String {
    let highest = cases.iter().filter_map(|case| case.limit).fold(1.0, f64::max);
    let mut out = String::from("<h2>Limits side by side</h2>\n<div class=\"bar\">");
    for case in cases {
        let limit = case.limit.unwrap_or_default();
        let width = limit / highest * 70.0;
        let _ = write!(
            out,
            "<span>{}</span><span><i style=\"width:{width:.1}%\"></i>{}</span>",
            escape(&case.name),
            number(limit)
        );
    }
    out + "</div>\n"
}

fn case_section(case: &CaseFigures, result: &LimitResult) -> String {
    let mut name = case.name.clone();
    name[..1].make_ascii_uppercase();
    let mut out = format!("<h2>{}</h2>\n<p>{}.", escape(&name), escape(&case.setup));
    match case.limit_in_words(number) {
        Some(limit) => {
            let _ = write!(out, " The limit is <b>{limit}</b>");
            match case.fails_at {
                Some(fails) => {
                    let _ = write!(out, "; {} does not hold.", number(fails));
                }
                None => out.push('.'),
            }
            if !case.confirmed {
                out.push_str(" No longer run has confirmed it.");
            }
        }
        None => {
            let _ = write!(out, " There is no limit: {}.", case.without_limit());
        }
    }
    let _ = writeln!(out, " What limits: {}.</p>", escape(&case.limited_by));
    if let Some(error) = &case.error {
        let _ = writeln!(out, "<p><span class=\"bad\">Aborted</span> {}</p>", escape(error));
    }
    if case.interrupted {
        out.push_str(
            "<p><span class=\"bad\">Interrupted</span> The figures are those known by then. The limit may be higher.</p>\n",
        );
    }
    out.push_str("<div class=\"charts\">\n");
    for mut chart in charts(case, result) {
        if let (Some(limit), true) = (case.limit, chart.x == OFFERED) {
            chart.marks.push((limit, format!("limit {}", short(limit))));
        }
        out.push_str(&chart.html());
    }
    out.push_str("</div>\n");
    let _ = write!(
        out,
        "<details><summary>All tries, including those that do not count</summary>\n{}</details>\n",
        table(&tries(case, result.machine.cores))
    );
    out
}

/// The table of all tries.
pub fn tries(case: &CaseFigures, cores: usize) -> Vec<Row> {
    let mut rows = vec![row([
        "try",
        "counts",
        "offered, events/s",
        "delivered",
        "p50",
        "p99",
        "slowest",
        "largest lag",
        "router CPU",
        "vCenters and target",
        "other programs",
        "CPU for a million events",
        "memory",
        "busiest stage",
        "excluded (warm-up)",
        "outcome",
    ])];
    for step in &case.steps {
        let purpose = match step.purpose {
            Purpose::Search => "search",
            Purpose::Again => "repeated",
            Purpose::Confirm => "longer",
            Purpose::Half => "at half",
        };
        rows.push(vec![
            // The rate of the run, and the events delivered at it.
            purpose.to_owned(),
            if step.decides { "yes" } else { "no: another try of this rate counts" }.to_owned(),
            number(step.offered_rate),
            number(step.delivered_rate.round()),
            time(step.latency.p50_us as f64),
            time(step.latency.p99_us as f64),
            time(step.latency.max_us as f64),
            // The cost: lag, processor time of each part, memory.
            number(step.lag_events_max as f64),
            cpu_share(step.router_cores, cores),
            cpu_share(step.generator_cores, cores),
            cpu_share(step.other_cores, cores),
            format!("{} s", number(step.cpu_seconds_per_million)),
            format!("{} MB", number(step.rss_peak_bytes as f64 / 1e6)),
            // The cause of the outcome.
            format!("{}, {:.0} %", step.busiest_stage, step.busiest_stage_share * 100.0),
            step.warm_up.as_ref().map_or("–".to_owned(), |warm_up| number(warm_up.latency.count as f64)),
            if step.holds { "holds".to_owned() } else { step.why.join("; ") },
        ]);
    }
    rows
}
