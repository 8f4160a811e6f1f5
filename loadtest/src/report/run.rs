//! The report of one run: the verdict and the course of the run.

use std::fmt::Write;

use super::chart::{BLACK, BLUE, Chart, GREY, ORANGE, PALETTE, RED, Scale, Style};
use super::page::{page as whole_page, row, stages, table, tiles};
use super::terms::{PageKind, terms};
use super::text::{cpu_share, escape, number, percent, short, time};
use crate::limit::planning;
use crate::measure::sample::Sample;
use crate::result::RunResult;

/// Maximum number of stages in a chart.
const STAGES_MAX: usize = 6;
/// Maximum number of numbered marks: more would overlap.
const NAMED_MAX: usize = 8;

pub fn page(result: &RunResult) -> String {
    let mut out = format!("<h1>Load test “{}”</h1>\n", escape(&result.workload));
    // Writing to a string cannot fail.
    let _ = writeln!(out, "<p class=\"lead\">{}</p>", escape(&summary(result)));
    out.push_str(match (result.interrupted, result.passed) {
        (true, _) => "<p><span class=\"bad\">Interrupted</span> The run ended early, so the missing events may still have arrived.</p>\n",
        (false, true) => "<p><span class=\"good\">Passed</span> Every event arrived as required, and every goal was met.</p>\n",
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
    let _ = writeln!(out, "<p>{} {}.</p>", escape(&result.description), escape(&result.setup));
    let _ = writeln!(out, "<p>What limited the rate: {}.</p>", escape(&result.limited_by));
    if let Some(warm_up) = &result.warm_up {
        let _ = writeln!(out, "<p>{}.</p>", escape(&warm_up.in_words()));
    }
    if result.totals.from_backlog > 0 {
        let events = number(result.totals.from_backlog as f64);
        let _ = writeln!(
            out,
            "<p>{events} events existed before the start. They count as delivered but have no latency.</p>"
        );
    }
    out.push_str("<p>The terms are explained <b>at the end of this page</b>.</p>\n");
    out.push_str("<h2>Over time</h2>\n");
    if !result.incidents.is_empty() {
        out.push_str("<p>Vertical lines mark troubles that the workload caused; the table below lists them by number.</p>\n");
    }
    out.push_str("<div class=\"charts\">\n");
    for chart in charts(result) {
        out.push_str(&chart.html());
    }
    out.push_str("</div>\n");
    out.push_str(&incidents(result));
    out.push_str(&suspects(result));
    out.push_str(&terms(&PageKind::Run, result.samples.iter()));
    whole_page(&format!("Load test {}", result.workload), &result.machine, &out)
}

/// The run in a paragraph, for readers who read nothing else.
fn summary(result: &RunResult) -> String {
    let total = &result.totals;
    let events = total.unique as f64 / result.receivers.max(1) as f64;
    let each = if result.receivers > 1 {
        format!(" to each of {} receivers", result.receivers)
    } else {
        String::new()
    };
    let mut out = format!(
        "One router delivered {} events{each} in {} s: {} a second.",
        number(events.round()),
        number(result.seconds),
        number(result.rate.round())
    );
    out.push_str(&match (total.missing, result.was_whole()) {
        (0, _) => " None was lost.".to_owned(),
        (missing, true) => format!(" {} were lost.", number(missing as f64)),
        (missing, false) => format!(" {} had not arrived when the run ended.", number(missing as f64)),
    });
    let latency = &result.latency;
    if latency.count > 0 {
        let _ = write!(
            out,
            " Half of them arrived within {} of their creation, 99 of 100 within {}, the slowest after {}.",
            time(latency.p50_us as f64),
            time(latency.p99_us as f64),
            time(latency.max_us as f64)
        );
    }
    if let Some(cores) = result.router_cores() {
        let _ = write!(out, " The router's CPU load was {}.", cpu_share(cores, result.machine.cores));
    }
    let storm = planning::STORM_RATE;
    if result.rate >= storm {
        let _ = write!(
            out,
            " A busy vCenter is assumed to write up to {} events a second in a storm: this load is that of {} in a storm at the same time.",
            number(storm),
            planning::counted((result.rate / storm) as u64)
        );
    }
    out + " This is one load, not the limit; the command “loadtest limit” searches for the limit."
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
        list.push((time(result.latency.max_us as f64), "slowest"));
    }
    if let Some(cores) = result.router_cores() {
        let of_all = cores * 100.0 / result.machine.cores.max(1) as f64;
        list.push((format!("{:.0} %", cores * 100.0), "router CPU, of a core"));
        list.push((format!("{of_all:.0} %"), "router CPU, of the machine"));
    }
    if let Some(cpu) = result.router.cpu_seconds_per_million {
        list.push((format!("{} s", number(cpu)), "router CPU for a million events"));
    }
    if let Some(rss) = result.router.rss_peak_bytes {
        list.push((format!("{} MB", number(rss as f64 / 1e6)), "router memory at most"));
    }
    tiles(&list)
}

pub fn charts(result: &RunResult) -> Vec<Chart> {
    let samples = &result.samples;
    let over = |value: &dyn Fn(&Sample) -> Option<f64>| -> Vec<(f64, f64)> {
        samples.iter().filter_map(|sample| Some((sample.seconds, value(sample)?))).collect()
    };
    let chart = |title, caption, y, format| {
        let mut chart = Chart::new(title, caption, "seconds since the start", y, format);
        marks(result, &mut chart);
        chart
    };

    // Throughput, latency and lag: the course of the run.
    let mut rate = chart(
        "Created and delivered",
        "The router keeps up as long as both lines are equal. While it catches up, more events are delivered than created.",
        "events a second",
        short as fn(f64) -> String,
    );
    rate.add("created", ORANGE, Style::Line, over(&|sample| Some(sample.created_rate)));
    rate.add("delivered", BLUE, Style::Line, over(&|sample| Some(sample.delivered_rate)));

    let mut latency = chart(
        "Latency from creation to receipt",
        "Latency of the events that arrived in each interval. Each horizontal line is ten times the one below.",
        "",
        time,
    );
    latency.scale = Scale::Log;
    latency.add("p50", BLUE, Style::Line, over(&|sample| Some(sample.p50_us as f64)));
    latency.add("p99", ORANGE, Style::Line, over(&|sample| Some(sample.p99_us as f64)));
    latency.add("slowest", RED, Style::Line, over(&|sample| Some(sample.max_us as f64)));

    let mut lag = chart(
        "Lag",
        "Events that exist and have not arrived. The lag returns to 0 when all have arrived.",
        "events",
        short,
    );
    lag.add("lag", BLUE, Style::Line, over(&|sample| Some(sample.lag_events as f64)));

    // The cost. An attached router without a process id has no CPU time and no memory.
    let mut cpu = chart(
        "CPU",
        "The share of the CPU time that the router and other programs used. Horizontal lines mark one core and the whole machine.",
        "% of the machine",
        percent,
    );
    let share = |busy: f64| busy * 100.0 / result.machine.cores.max(1) as f64;
    cpu.add_cpu_bounds(result.machine.cores);
    cpu.add("router", BLUE, Style::Line, over(&|sample| sample.router_cores.map(share)));
    cpu.add("vCenters and target", ORANGE, Style::Line, over(&|sample| Some(share(sample.generator_cores))));
    cpu.add("other programs", GREY, Style::Line, over(&|sample| sample.other_cores.map(share)));
    let sum =
        |sample: &Sample| Some(share(sample.router_cores? + sample.generator_cores + sample.other_cores?));
    cpu.add("all together", BLACK, Style::Dashed, over(&sum));

    let mut memory = chart("Memory", "The memory of the router's process.", "MB", number);
    memory.add("router", BLUE, Style::Line, over(&|sample| Some(sample.rss_bytes? as f64 / 1e6)));

    // The cause of a limit: the stage that works all the time.
    let mut utilisation = chart(
        "Utilisation of the router's stages",
        "The share of time in which a stage's threads worked. All other stages wait for a stage near 100 %.",
        "% of its threads' time",
        percent,
    );
    utilisation.bounds.push((100.0, "all the time".into()));
    for (name, color) in stages(samples.iter(), STAGES_MAX).iter().zip(PALETTE) {
        let share = |sample: &Sample| Some(sample.stages.get(name).copied().unwrap_or_default() * 100.0);
        utilisation.add(name, color, Style::Line, over(&share));
    }
    vec![rate, latency, lag, cpu, memory, utilisation]
}

/// Shades warm-up and drain, and marks troubles with vertical lines.
fn marks(result: &RunResult, chart: &mut Chart) {
    let (samples, loaded) = (&result.samples, &result.loaded);
    let at = |number: usize| samples.get(number).map(|sample| sample.seconds);
    if let Some(until) = loaded.start.checked_sub(1).and_then(at) {
        chart.bands.push((0.0, until));
        chart.caption.push_str(" Shaded at the start: the warm-up, which the figures exclude.");
    }
    if loaded.end < samples.len()
        && let (Some(from), Some(last)) = (loaded.end.checked_sub(1).and_then(at), samples.last())
    {
        chart.bands.push((from, last.seconds));
        chart.caption.push_str(" Shaded at the end: the drain.");
    }
    let named = result.incidents.len() <= NAMED_MAX;
    let names = trouble_names(result);
    for incident in &result.incidents {
        let number = names.iter().position(|name| *name == incident.trouble).map(|at| (at + 1).to_string());
        chart.marks.push((incident.seconds, number.filter(|_| named).unwrap_or_default()));
    }
}

/// The troubles that occurred, by their first occurrence. A trouble's number is its position here.
fn trouble_names(result: &RunResult) -> Vec<&str> {
    let mut names: Vec<&str> = Vec::new();
    for incident in &result.incidents {
        if !names.contains(&incident.trouble.as_str()) {
            names.push(&incident.trouble);
        }
    }
    names
}

fn incidents(result: &RunResult) -> String {
    if result.incidents.is_empty() {
        return String::new();
    }
    let mut rows = vec![row(["number", "trouble", "times", "first after"])];
    for (at, name) in trouble_names(result).into_iter().enumerate() {
        let of: Vec<f64> = result
            .incidents
            .iter()
            .filter(|incident| incident.trouble == name)
            .map(|incident| incident.seconds)
            .collect();
        let first = of.first().copied().unwrap_or_default();
        rows.push(vec![
            (at + 1).to_string(),
            name.to_owned(),
            of.len().to_string(),
            format!("{} s", number(first)),
        ]);
    }
    format!("<h2>Troubles</h2>\n{}", table(&rows))
}

fn suspects(result: &RunResult) -> String {
    if result.suspects.is_empty() {
        return String::new();
    }
    let mut rows = vec![row(["vCenter", "event key", "fault", "received after"])];
    for suspect in &result.suspects {
        rows.push(vec![
            suspect.vcenter.to_string(),
            suspect.key.to_string(),
            suspect.what.clone(),
            suspect.seconds.map_or("–".to_owned(), |seconds| format!("{} s", number(seconds))),
        ]);
    }
    format!("<h2>Events with faults</h2>\n{}", table(&rows))
}
