//! The charts of a limit search. Each point is the decisive run of its rate; no averages over
//! tries.

use super::chart::{BLACK, BLUE, Chart, GREEN, GREY, ORANGE, PALETTE, RED, SKY, Scale, Style};
use super::page::stages;
use super::text::{number, percent, short, time};
use crate::bottleneck::mean;
use crate::limit::figures::{CaseFigures, LimitResult, Step};
use crate::measure::sample::Sample;

/// Maximum number of stages in a chart.
const STAGES_MAX: usize = 6;
/// The name of the x axis in charts over rates.
pub const OFFERED: &str = "offered load, events a second";

pub fn charts(case: &CaseFigures, result: &LimitResult) -> Vec<Chart> {
    let runs: Vec<&Step> = case.decisive_runs().collect();
    let values = |value: &dyn Fn(&Step) -> f64| by_rate(&runs, value);
    let chart = |title, caption, y, format| Chart::new(title, caption, OFFERED, y, format);

    // The limit itself: delivered over offered, and the outcome of each run.
    let mut throughput = chart(
        "Throughput",
        "On the dashed line, events are delivered as fast as they are created. The points leave it at the knee: the router cannot deliver more.",
        "delivered, events a second",
        short as fn(f64) -> String,
    );
    let highest = runs.last().map_or(0.0, |step| step.offered_rate);
    throughput.add("offered = delivered", GREY, Style::Dashed, vec![(0.0, 0.0), (highest, highest)]);
    throughput.add("delivered", BLUE, Style::Line, values(&|step| step.delivered_rate));
    for (name, color, style, holds) in
        [("holds", GREEN, Style::Dots, true), ("does not hold", RED, Style::Crosses, false)]
    {
        let of = runs.iter().filter(|step| step.holds == holds);
        throughput.add(name, color, style, of.map(|step| (step.offered_rate, step.delivered_rate)).collect());
    }

    // Latencies span four powers of ten, hence the logarithmic scale.
    let mut latency = chart(
        "Latency from creation to receipt",
        "Half of all events are faster than p50, 99 of 100 faster than p99. Each horizontal line is ten times the one below.",
        "",
        time,
    );
    latency.scale = Scale::Log;
    latency.bounds.push((result.p99_us as f64, format!("bound of p99: {}", time(result.p99_us as f64))));
    latency.add("p50", BLUE, Style::Line, values(&|step| step.latency.p50_us as f64));
    latency.add("p90", SKY, Style::Line, values(&|step| step.latency.p90_us as f64));
    latency.add("p99", ORANGE, Style::Line, values(&|step| step.latency.p99_us as f64));
    latency.add("p99.9", RED, Style::Line, values(&|step| step.latency.p999_us as f64));

    // The cost: processor time by program, and memory.
    let mut cpu = chart(
        "CPU",
        "The share of the CPU time that the router and other programs used. If the sum is near 100 %, the machine is the limit.",
        "% of the machine",
        percent,
    );
    let share = |busy: f64| busy * 100.0 / result.machine.cores.max(1) as f64;
    cpu.add_cpu_bounds(result.machine.cores);
    cpu.add("router", BLUE, Style::Line, values(&|step| share(step.router_cores)));
    cpu.add("vCenters and target", ORANGE, Style::Line, values(&|step| share(step.generator_cores)));
    cpu.add("other programs", GREY, Style::Line, values(&|step| share(step.other_cores)));
    let sum = |step: &Step| share(step.router_cores + step.generator_cores + step.other_cores);
    cpu.add("all together", BLACK, Style::Dashed, values(&sum));

    let mut memory =
        chart("Memory", "The largest memory of the router's process at each rate.", "MB", number);
    memory.add("router", BLUE, Style::Line, values(&|step| step.rss_peak_bytes as f64 / 1e6));

    vec![throughput, latency, lag(case), cpu, memory, utilisation(&runs)]
}

fn lag(case: &CaseFigures) -> Chart {
    let mut chart = Chart::new(
        "Lag over time",
        "Events that exist and have not arrived, in the runs of the legend, between warm-up and drain. A level line means that the \
         router keeps up; a rising one means that it does not.",
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
        let points =
            step.under_load().iter().map(|sample| (sample.seconds, sample.lag_events as f64)).collect();
        chart.add(&name, color, Style::Line, points);
    }
    chart
}

fn utilisation(runs: &[&Step]) -> Chart {
    let mut chart = Chart::new(
        "Utilisation of the router's stages",
        "The share of time in which a stage's threads worked. All other stages wait for a stage near 100 %.",
        OFFERED,
        "% of its threads' time",
        percent,
    );
    chart.bounds.push((100.0, "all the time".into()));
    let samples = runs.iter().flat_map(|step| step.under_load());
    for (name, color) in stages(samples, STAGES_MAX).iter().zip(PALETTE) {
        let share = |step: &Step| {
            let of = |sample: &Sample| sample.stages.get(name).copied().unwrap_or_default();
            mean(step.under_load(), &of) * 100.0
        };
        chart.add(name, color, Style::Line, by_rate(runs, &share));
    }
    chart
}

/// A value of each run by its offered rate.
fn by_rate(runs: &[&Step], value: &dyn Fn(&Step) -> f64) -> Vec<(f64, f64)> {
    runs.iter().map(|step| (step.offered_rate, value(step))).collect()
}
