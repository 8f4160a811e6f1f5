//! The report of a search: what the limit is, how it shows, what makes it.

use std::fmt::Write;

use super::chart::{BLACK, BLUE, Chart, GREEN, GREY, ORANGE, PALETTE, RED, SKY, Scale, Style};
use super::page::{page as whole_page, row, stages, table};
use super::text::{escape, number, short, time};
use crate::bottleneck::is_disturbed;
use crate::limit::figures::{CaseFigures, LimitResult, Purpose, Step};
use crate::measure::sample::Sample;

/// Stages that a chart shows.
const STAGES_MAX: usize = 6;
const OFFERED: &str = "offered load, events a second";

pub fn page(result: &LimitResult) -> String {
    let mut out = String::from("<h1>The limit of one event router</h1>\n");
    out.push_str(&summary(result));
    for case in &result.cases {
        out.push_str(&case_section(case, result));
    }
    whole_page("The limit of one event router", &result.machine, &out)
}

fn summary(result: &LimitResult) -> String {
    let mut out = String::new();
    let sentences: Vec<String> = result
        .cases
        .iter()
        .filter_map(|case| Some(format!("<b>{}</b> ({})", case.limit_in_words(number)?, escape(&case.name))))
        .collect();
    // Writing to a string does not fail.
    if sentences.is_empty() {
        out.push_str("<p><span class=\"bad\">There is no limit that was found.</span></p>\n");
    } else if result.cases.len() <= 3 {
        let _ = writeln!(out, "<p>On this machine one router takes {}.</p>", sentences.join(" and "));
    }
    let _ = writeln!(
        out,
        "<p>A limit is the highest rate of events that <b>holds</b>: every event arrived once, with its own id and in its order; 99 of 100 \
         were at the target {} or sooner after vCenter had created them; and the number of events under way did not grow. It was searched \
         for by doubling the rate until it did not hold, then by halving the gap to {:.0} %, and then put to a longer run. Plan with half \
         of it: then there is room for storms, and latency is that of the column “at half”.</p>",
        time(result.p99_us as f64),
        result.precision * 100.0,
    );
    let (other, cores) = (result.other_cores(), result.machine.cores);
    if is_disturbed(other, cores) {
        let _ = writeln!(
            out,
            "<p><span class=\"bad\">Disturbed</span> Other programs kept {} of {cores} cores busy meanwhile: the limits are too low. Stop them \
             and measure again.</p>",
            number(other)
        );
    }
    let mut rows = vec![row([
        "what was tested",
        "limit, events/s",
        "does not hold",
        "p50 at half",
        "p99 at half",
        "p99 at limit",
        "CPU for a million events",
        "memory at limit",
        "what limits",
    ])];
    for case in &result.cases {
        let of = |step: Option<&Step>, value: &dyn Fn(&Step) -> String| step.map_or("–".to_owned(), value);
        let (half, limit) = (case.at_half(), case.at_limit());
        let maybe = |rate: Option<f64>| rate.map_or("–".to_owned(), number);
        rows.push(vec![
            case.name.clone(),
            format!("{}{}", if case.at_least { "at least " } else { "" }, maybe(case.limit)),
            maybe(case.fails_at),
            of(half, &|step| time(step.latency.p50_us as f64)),
            of(half, &|step| time(step.latency.p99_us as f64)),
            of(limit, &|step| time(step.latency.p99_us as f64)),
            of(limit, &|step| format!("{} s", number(step.cpu_seconds_per_million))),
            of(limit, &|step| format!("{} MB", number(step.rss_peak_bytes as f64 / 1e6))),
            case.limited_by.clone(),
        ]);
    }
    out.push_str(&table(&rows));
    if result.cases.len() > 3 {
        out.push_str(&bars(&result.cases));
    }
    out
}

/// Limits side by side.
fn bars(cases: &[CaseFigures]) -> String {
    let highest = cases.iter().filter_map(|case| case.limit).fold(1.0, f64::max);
    let mut out = String::from("<h2>Limits side by side</h2>\n<div class=\"bar\">");
    for case in cases {
        let limit = case.limit.unwrap_or_default();
        let width = limit / highest * 80.0;
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
                    let _ = write!(out, ", and {} does not hold.", number(fails));
                }
                None => out.push('.'),
            }
            match case.confirmed {
                Some(true) => {}
                Some(false) => out.push_str(" A longer run at it did not hold: take it for less."),
                None => out.push_str(" No longer run has confirmed it."),
            }
        }
        None => {
            let _ = write!(out, " There is no limit: {}.", case.without_limit());
        }
    }
    let _ = writeln!(out, " What limits: {}.</p>", escape(&case.limited_by));
    if let Some(error) = &case.error {
        let _ = writeln!(out, "<p><span class=\"bad\">Broken off</span> {}</p>", escape(error));
    }
    if case.interrupted {
        out.push_str(
            "<p><span class=\"bad\">Interrupted</span> The figures are those known by then: the limit may be higher.</p>\n",
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
    out + &steps(case)
}

fn charts(case: &CaseFigures, result: &LimitResult) -> Vec<Chart> {
    let mut sorted: Vec<&Step> = case.steps.iter().collect();
    sorted.sort_by(|a, b| a.offered_rate.total_cmp(&b.offered_rate));
    let values = |value: &dyn Fn(&Step) -> f64| by_rate(&sorted, value);
    let chart = |title, caption, y, format| Chart::new(title, caption, OFFERED, y, format);

    let mut throughput = chart(
        "Throughput",
        "On the dashed line everything that vCenter creates is delivered at once. Where the points leave it, the router takes no more: the knee.",
        "delivered, events a second",
        short as fn(f64) -> String,
    );
    let highest = sorted.last().map_or(0.0, |step| step.offered_rate);
    throughput.add("offered = delivered", GREY, Style::Dashed, vec![(0.0, 0.0), (highest, highest)]);
    throughput.add("delivered", BLUE, Style::Line, values(&|step| step.delivered_rate));
    for (name, color, style, holds) in
        [("holds", GREEN, Style::Dots, true), ("does not hold", RED, Style::Crosses, false)]
    {
        let of = sorted.iter().filter(|step| step.holds == holds);
        throughput.add(name, color, style, of.map(|step| (step.offered_rate, step.delivered_rate)).collect());
    }

    let mut latency = chart(
        "Latency from creation to receipt",
        "How long an event takes from vCenter's clock to the target: half of all are faster than p50, 99 of 100 faster than p99. \
         Each line across is ten times the one below.",
        "",
        time,
    );
    latency.scale = Scale::Log;
    latency.bounds.push((result.p99_us as f64, format!("bound of p99: {}", time(result.p99_us as f64))));
    latency.add("p50", BLUE, Style::Line, values(&|step| step.latency.p50_us as f64));
    latency.add("p90", SKY, Style::Line, values(&|step| step.latency.p90_us as f64));
    latency.add("p99", ORANGE, Style::Line, values(&|step| step.latency.p99_us as f64));
    latency.add("p99.9", RED, Style::Line, values(&|step| step.latency.p999_us as f64));

    let mut cpu = chart(
        "Processors",
        "How many cores were busy, and for whom. Where the sum comes near the line across, the machine is what limits.",
        "busy cores",
        short,
    );
    cpu.bounds.push((result.machine.cores as f64, format!("all {} cores", result.machine.cores)));
    cpu.add("router", BLUE, Style::Line, values(&|step| step.router_cores));
    cpu.add("vCenters and target", ORANGE, Style::Line, values(&|step| step.generator_cores));
    cpu.add("other programs", GREY, Style::Line, values(&|step| step.other_cores));
    cpu.add(
        "all together",
        BLACK,
        Style::Dashed,
        values(&|step| step.router_cores + step.generator_cores + step.other_cores),
    );

    let mut memory =
        chart("Memory", "The most memory that the router's process had at each rate.", "MB", number);
    memory.add("router", BLUE, Style::Line, values(&|step| step.rss_peak_bytes as f64 / 1e6));

    vec![throughput, latency, lag(case), cpu, memory, utilisation(&sorted)]
}

fn lag(case: &CaseFigures) -> Chart {
    let mut chart = Chart::new(
        "Lag over time",
        "Events that exist and have not arrived, in single runs. A lag that stays where it is means that the router keeps up; one that climbs \
         means that it does not.",
        "seconds since the start of the run",
        "events",
        short,
    );
    let lines = [
        ("at half of the limit", GREEN, case.at_half()),
        ("at the limit", BLUE, case.at_limit()),
        ("at the lowest rate that does not hold", RED, case.first_failure()),
    ];
    for (name, color, step) in lines {
        let Some(step) = step else { continue };
        let name = format!("{name} ({}/s)", short(step.offered_rate));
        let points = step.samples.iter().map(|sample| (sample.seconds, sample.lag_events as f64)).collect();
        chart.add(&name, color, Style::Line, points);
    }
    chart
}

fn utilisation(sorted: &[&Step]) -> Chart {
    let mut chart = Chart::new(
        "Utilisation of the router's stages",
        "The share of time that the threads of a stage worked. A stage near 100 % is the one that everything else waits for.",
        OFFERED,
        "% of its threads' time",
        number,
    );
    chart.bounds.push((100.0, "all the time".into()));
    let samples = sorted.iter().flat_map(|step| &step.samples);
    for (name, color) in stages(samples, STAGES_MAX).iter().zip(PALETTE) {
        let share = |step: &Step| {
            let of = |sample: &Sample| sample.stages.get(name).copied().unwrap_or_default();
            crate::bottleneck::mean(&step.samples, &of) * 100.0
        };
        chart.add(name, color, Style::Line, by_rate(sorted, &share));
    }
    chart
}

/// A value by offered rate; where a rate was tried more than once, the mean.
fn by_rate(sorted: &[&Step], value: &dyn Fn(&Step) -> f64) -> Vec<(f64, f64)> {
    let same = sorted.chunk_by(|a, b| a.offered_rate == b.offered_rate);
    same.map(|steps| {
        let sum: f64 = steps.iter().map(|step| value(step)).sum();
        (steps[0].offered_rate, sum / steps.len() as f64)
    })
    .collect()
}

/// Everything that was tried, for those who want to look closer.
fn steps(case: &CaseFigures) -> String {
    let mut rows = vec![row([
        "try",
        "offered, events/s",
        "delivered",
        "p50",
        "p99",
        "router, cores",
        "vCenters and target",
        "others",
        "CPU for a million events",
        "memory",
        "busiest stage",
        "outcome",
    ])];
    for step in &case.steps {
        let purpose = match step.purpose {
            Purpose::Search => "search",
            Purpose::Again => "once more",
            Purpose::Confirm => "for longer",
            Purpose::Half => "at half",
        };
        rows.push(vec![
            purpose.to_owned(),
            number(step.offered_rate),
            number(step.delivered_rate.round()),
            time(step.latency.p50_us as f64),
            time(step.latency.p99_us as f64),
            number(step.router_cores),
            number(step.generator_cores),
            number(step.other_cores),
            format!("{} s", number(step.cpu_seconds_per_million)),
            format!("{} MB", number(step.rss_peak_bytes as f64 / 1e6)),
            format!("{}, {:.0} %", step.busiest_stage, step.busiest_stage_share * 100.0),
            if step.holds { "holds".to_owned() } else { step.why.join("; ") },
        ]);
    }
    format!("<details><summary>Every rate that was tried</summary>\n{}</details>\n", table(&rows))
}
