//! `loadtest limit`: searches for the highest rate that holds.

use std::path::Path;
use std::time::Duration;

use clap::Args;
use tokio::time::Instant;

use super::End;
use super::options::{Overrides, OwnRouter};
use super::output::OutputFlags;
use super::progress::{ProgressLine, line};
use crate::limit::cases::{self, Case};
use crate::limit::figures::{LimitResult, Purpose};
use crate::limit::{LimitProgress, LimitSearch, Plan};
use crate::measure::machine::Machine;
use crate::result::{FORMAT, Outcome};
use crate::search::RATE_MAX;
use crate::workload::tree::WorkloadErrors;
use crate::workload::{Workload, fields};

/// The workload if neither a workload nor a flag is given.
const PLAIN: &str = "rate: 1\nduration: 1s\n";

/// Find the highest rate that holds: everything arrives, p99 stays under its bound, the lag does
/// not grow.
///
/// Doubles the rate until it does not hold, narrows the gap, confirms the limit by a longer run,
/// and measures latency at half of it. If a rate is tried several times, the longest run decides,
/// and among equally long ones the last. Without a workload, two shapes are searched: batches, and
/// one request per event. Stop other work on the machine first.
///
/// Ctrl-C, SIGTERM and SIGHUP end the search with the results so far.
///
/// Exit code 0 if every case has a limit, 1 if one has none or broke off, 2 if arguments or
/// workload are wrong, 130 if interrupted.
#[derive(Debug, Args)]
pub struct LimitArgs {
    /// Use the vCenters, events, target and troubles of this workload: a file or a built-in name
    workload: Option<String>,
    /// Search all shapes, 1 to 64 vCenters, HTTP and HTTPS, with and without spill, on fewer cores;
    /// about five minutes for each of about 14 cases
    #[arg(long, conflicts_with_all = ["workload", "shape", "ordering", "vcenters", "https", "target_https", "spill", "cpus"])]
    full: bool,
    /// Use short steps and a coarse precision, to check that everything works
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    output: OutputFlags,
    /// Upper bound of p99, from creation to receipt
    #[arg(long, value_name = "TIME", default_value = "250ms", value_parser = fields::duration)]
    p99: Duration,
    /// First rate to try, in events per second; by default one that a small machine handles
    #[arg(long, value_name = "RATE", value_parser = fields::whole(1, RATE_MAX as u64))]
    from: Option<u64>,
    /// Highest rate to try
    #[arg(long, value_name = "RATE", value_parser = fields::whole(1, RATE_MAX as u64))]
    max: Option<u64>,
    /// Largest error of the limit, in per cent [default: 5; with --quick 30]
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
    precision: Option<u32>,
    /// Time to measure each rate, after a warm-up of a quarter of it that is left out of the
    /// figures [default: 8s; with --quick 1500ms]
    #[arg(long, value_name = "TIME", value_parser = fields::duration)]
    step: Option<Duration>,
    /// Time for the whole search; near its end the precision gets coarser [default: 15m; with
    /// --full 6m per case]
    #[arg(long, value_name = "TIME", value_parser = fields::duration)]
    time: Option<Duration>,
    #[command(flatten)]
    router: OwnRouter,
    #[command(flatten)]
    overrides: Overrides,
}

pub(super) fn run(args: &LimitArgs) -> anyhow::Result<End> {
    let machine = Machine::this();
    let cases = match cases(args, machine.cores) {
        Ok(cases) => cases,
        Err(errors) => return super::wrong_workload(&errors),
    };
    if let Err(wrong) = args.output.check(args.workload.as_deref().map(Path::new)) {
        return super::usage(&wrong);
    }
    if let (Some(from), Some(max)) = (args.from, args.max)
        && from > max
    {
        return super::usage(&format!("`--from {from}` is above `--max {max}`"));
    }
    // The time is per case with `--full`, since the number of cases depends on the machine.
    let plan = plan(args)?;
    let usual =
        if args.full { Duration::from_secs(360) * cases.len() as u32 } else { Duration::from_secs(900) };
    let time = args.time.unwrap_or(usual);
    let result = super::runtime()?.block_on(watched(&cases, &plan, time))?;
    let outcome = Outcome::Limit(Box::new(result));
    args.output.write(&outcome)?;
    Ok(End::of(&outcome))
}

fn cases(args: &LimitArgs, cores: usize) -> Result<Vec<Case>, WorkloadErrors> {
    let mut base = Workload::load_or(args.workload.as_deref(), PLAIN)?;
    args.overrides.apply(&mut base);
    base.check()?;
    let cases = match (&args.workload, args.overrides.shape()) {
        (Some(_), _) => vec![Case::new(&base.name.clone(), base)],
        (None, Some(shape)) => vec![Case::new(shape.name(), base)],
        (None, None) if args.full => cases::full(&base, cores),
        (None, None) => cases::usual(&base),
    };
    Ok(cases)
}

fn plan(args: &LimitArgs) -> anyhow::Result<Plan> {
    let quick = args.quick;
    let step = args.step.unwrap_or(Duration::from_millis(if quick { 1_500 } else { 8_000 }));
    let step = step.max(Duration::from_millis(500));
    Ok(Plan {
        program: args.router.program()?,
        cpus: args.router.cpus(),
        from: args.from.map(|rate| rate as f64),
        max: args.max.map_or(RATE_MAX, |rate| rate as f64),
        precision: f64::from(args.precision.unwrap_or(if quick { 30 } else { 5 })) / 100.0,
        p99: args.p99,
        warm_up: step / 4,
        step,
        confirm: if quick { step } else { step * 3 },
        sample_interval: (step / 16).max(Duration::from_millis(100)),
    })
}

/// Runs the searches and shows their progress. Ctrl-C ends them with the results so far.
async fn watched(cases: &[Case], plan: &Plan, time: Duration) -> anyhow::Result<LimitResult> {
    let (watch, interrupts) = ProgressLine::new("starting".into(), |count| {
        (count == 1).then_some("interrupted: reporting the results so far")
    })?;
    let start = Instant::now();
    let cores = Machine::this().cores;
    let mut found = Vec::new();
    // Each case gets an equal share of the time that is left.
    for (number, case) in cases.iter().enumerate() {
        let left = time.saturating_sub(start.elapsed());
        let until = Instant::now() + left / (cases.len() - number) as u32;
        let mut doing = String::new();
        // The search reports its progress, which becomes the line on the terminal.
        let mut observe = |event: LimitProgress<'_>| match event {
            LimitProgress::Case(case) => {
                watch.say(&format!("{} ({} of {})", case.name, number + 1, cases.len()))
            }
            LimitProgress::Try(purpose, rate) => {
                let why = match purpose {
                    Purpose::Search => "trying",
                    Purpose::Again => "repeating",
                    Purpose::Confirm => "confirming",
                    Purpose::Half => "at half of the limit,",
                };
                doing = format!("{}: {why} {rate:.0}/s", case.name);
                watch.show(doing.clone());
            }
            LimitProgress::Sample(sample) => watch.show(format!("{doing}{}", line(sample))),
            LimitProgress::Step(step) => watch.say(&step.line(cores)),
        };
        let figures = LimitSearch::new(case, plan, until, &interrupts).run(&mut observe).await;
        let interrupted = figures.interrupted;
        found.push(figures);
        if interrupted {
            break;
        }
    }
    Ok(LimitResult {
        format: FORMAT,
        machine: Machine::this(),
        p99_us: plan.p99.as_micros() as u64,
        precision: plan.precision,
        warm_up_seconds: plan.warm_up.as_secs_f64(),
        seconds: start.elapsed().as_secs_f64(),
        passed: found.len() == cases.len()
            && found.iter().all(|case| case.limit.is_some() && case.error.is_none() && !case.interrupted),
        cases: found,
    })
}
