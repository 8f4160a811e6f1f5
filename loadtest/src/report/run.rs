//! The report of one run: the verdict, and how it went over time.

use std::collections::BTreeMap;
use std::fmt::Write;

use super::chart::{BLACK, BLUE, Chart, GREY, ORANGE, PALETTE, RED, Scale, Style};
use super::page::{page as whole_page, row, stages, table, tiles};
use super::text::{escape, number, short, time};
use crate::measure::sample::Sample;
use crate::result::RunResult;

/// Stages that a chart shows.
const STAGES_MAX: usize = 6;
/// More names than these hide each other.
const NAMED_MAX: usize = 8;

pub fn page(result: &RunResult) -> String {
    let mut out = format!("<h1>Load test “{}”</h1>\n", escape(&result.workload));
    // Writing to a string does not fail.
    let _ = writeln!(out, "<p>{} {}.</p>", escape(&result.description), escape(&result.setup));
    out.push_str(match (result.interrupted, result.passed) {
        (true, _) => "<p><span class=\"bad\">Interrupted</span> The run ended before its end: it says nothing about what would have come.</p>\n",
        (false, true) => "<p><span class=\"good\">Passed</span> Everything that was wanted of this run is true.</p>\n",
        (false, false) => "<p><span class=\"bad\">Failed</span></p>\n",
    });
    if !result.failures.is_empty() {
        out.push_str("<ul>");
        for failure in &result.failures {
            let _ = write!(out, "<li>{}</li>", escape(failure));
        }
        out.push_str("</ul>\n");
    }
    out.push_str(&figures(result));
    let _ = writeln!(out, "<p>What limited the rate: {}.</p>", escape(&result.limited_by));
    out.push_str("<h2>Over time</h2>\n");
    if !result.incidents.is_empty() {
        out.push_str("<p>Upright lines are moments at which something went wrong on purpose; the table below counts them.</p>\n");
    }
    out.push_str("<div class=\"charts\">\n");
    for chart in charts(result) {
        out.push_str(&chart.html());
    }
    out.push_str("</div>\n");
    out.push_str(&incidents(result));
    out.push_str(&suspects(result));
    whole_page(&format!("Load test {}", result.workload), &result.machine, &out)
}

fn figures(result: &RunResult) -> String {
    let total = &result.totals;
    let mut list = vec![
        (number(total.unique as f64), "events delivered"),
        (number(total.missing as f64), if result.was_whole() { "lost" } else { "not arrived" }),
        (number(total.duplicates as f64), "delivered more than once"),
        (number(result.rate.round()), "events a second"),
    ];
    if result.latency.count > 0 {
        list.push((time(result.latency.p50_us as f64), "p50 from creation to receipt"));
        list.push((time(result.latency.p99_us as f64), "p99"));
    }
    if let Some(cpu) = result.router.cpu_seconds_per_million {
        list.push((format!("{} s", number(cpu)), "router CPU for a million events"));
    }
    if let Some(rss) = result.router.rss_peak_bytes {
        list.push((format!("{} MB", number(rss as f64 / 1e6)), "router memory at most"));
    }
    tiles(&list)
}

fn charts(result: &RunResult) -> Vec<Chart> {
    let samples = &result.samples;
    let over = |value: &dyn Fn(&Sample) -> Option<f64>| -> Vec<(f64, f64)> {
        samples.iter().filter_map(|sample| Some((sample.seconds, value(sample)?))).collect()
    };
    let chart = |title, caption, y, format| {
        let mut chart = Chart::new(title, caption, "seconds since the start", y, format);
        marks(result, &mut chart);
        chart
    };

    let mut rate = chart(
        "Created and delivered",
        "As long as both lines are one, the router keeps up. Delivered runs above created while it catches up.",
        "events a second",
        short as fn(f64) -> String,
    );
    rate.add("created", ORANGE, Style::Line, over(&|sample| Some(sample.created_rate)));
    rate.add("delivered", BLUE, Style::Line, over(&|sample| Some(sample.delivered_rate)));

    let mut latency = chart(
        "Latency from creation to receipt",
        "Of the events that arrived in each interval. Each line across is ten times the one below.",
        "",
        time,
    );
    latency.scale = Scale::Log;
    latency.add("p50", BLUE, Style::Line, over(&|sample| Some(sample.p50_us as f64)));
    latency.add("p99", ORANGE, Style::Line, over(&|sample| Some(sample.p99_us as f64)));
    latency.add("slowest", RED, Style::Line, over(&|sample| Some(sample.max_us as f64)));

    let mut lag = chart(
        "Lag",
        "Events that exist and have not arrived. It returns to nothing when all has arrived.",
        "events",
        short,
    );
    lag.add("lag", BLUE, Style::Line, over(&|sample| Some(sample.lag_events as f64)));

    let mut cpu = chart(
        "Processors",
        "How many cores were busy, and for whom. The line across is all that the machine has.",
        "busy cores",
        short,
    );
    cpu.bounds.push((result.machine.cores as f64, format!("all {} cores", result.machine.cores)));
    cpu.add("router", BLUE, Style::Line, over(&|sample| sample.router_cores));
    cpu.add("vCenters and target", ORANGE, Style::Line, over(&|sample| Some(sample.generator_cores)));
    cpu.add("other programs", GREY, Style::Line, over(&|sample| sample.other_cores));
    cpu.add(
        "all together",
        BLACK,
        Style::Dashed,
        over(&|sample| Some(sample.router_cores? + sample.generator_cores + sample.other_cores?)),
    );

    let mut memory = chart("Memory", "What the router's process held in memory.", "MB", number);
    memory.add("router", BLUE, Style::Line, over(&|sample| Some(sample.rss_bytes? as f64 / 1e6)));

    let mut utilisation = chart(
        "Utilisation of the router's stages",
        "The share of time that the threads of a stage worked. A stage near 100 % is the one that everything else waits for.",
        "% of its threads' time",
        number,
    );
    utilisation.bounds.push((100.0, "all the time".into()));
    for (name, color) in stages(samples.iter(), STAGES_MAX).iter().zip(PALETTE) {
        let share = |sample: &Sample| Some(sample.stages.get(name).copied().unwrap_or_default() * 100.0);
        utilisation.add(name, color, Style::Line, over(&share));
    }
    vec![rate, latency, lag, cpu, memory, utilisation]
}

/// Warm-up and drain are shaded, incidents are upright lines.
fn marks(result: &RunResult, chart: &mut Chart) {
    let (samples, loaded) = (&result.samples, &result.loaded);
    let at = |number: usize| samples.get(number).map(|sample| sample.seconds);
    if let Some(until) = loaded.start.checked_sub(1).and_then(at) {
        chart.bands.push((0.0, until));
    }
    if loaded.end < samples.len()
        && let (Some(from), Some(last)) = (loaded.end.checked_sub(1).and_then(at), samples.last())
    {
        chart.bands.push((from, last.seconds));
        if !chart.caption.contains("Shaded") {
            chart.caption.push_str(" Shaded: before and after the load.");
        }
    }
    let named = result.incidents.len() <= NAMED_MAX;
    for incident in &result.incidents {
        let name = if named { incident.trouble.clone() } else { String::new() };
        chart.marks.push((incident.seconds, name));
    }
}

fn incidents(result: &RunResult) -> String {
    if result.incidents.is_empty() {
        return String::new();
    }
    let mut by_name: BTreeMap<&str, (u32, f64)> = BTreeMap::new();
    for incident in &result.incidents {
        by_name.entry(&incident.trouble).or_insert((0, incident.seconds)).0 += 1;
    }
    let mut rows = vec![row(["what went wrong on purpose", "times", "first after"])];
    for (name, (times, first)) in by_name {
        rows.push(vec![name.to_owned(), times.to_string(), format!("{} s", number(first))]);
    }
    format!("<h2>Troubles</h2>\n{}", table(&rows))
}

fn suspects(result: &RunResult) -> String {
    if result.suspects.is_empty() {
        return String::new();
    }
    let mut rows = vec![row(["vCenter", "event key", "what", "received after"])];
    for suspect in &result.suspects {
        rows.push(vec![
            suspect.vcenter.to_string(),
            suspect.key.to_string(),
            suspect.what.clone(),
            suspect.seconds.map_or("–".to_owned(), |seconds| format!("{} s", number(seconds))),
        ]);
    }
    format!("<h2>Events to look for</h2>\n{}", table(&rows))
}
