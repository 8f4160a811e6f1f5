//! The search for the limit of a case: many runs at different rates, and the limit that they show.
//!
//! ```text
//! case ──► search says a rate ──► run ──► step (holds?) ──► … ──► confirmed by a longer run ──► a run at half of it
//! ```
//!
//! A rate holds when everything arrived (nothing lost, no id changed, no order violated), p99
//! stayed under its bound, and what was delivered kept up with what was offered.

pub mod cases;
pub mod figures;
pub mod planning;
mod verdict;

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use crate::bottleneck;
use crate::interrupts::Interrupts;
use crate::measure::sample::Sample;
use crate::run::{self, Progress, RunError, Settings, Whose};
use crate::search::Search;
use crate::stand::pin;
use crate::stand::router::RouterError;
use crate::workload::{Rate, Workload};
use cases::Case;
use figures::{CaseFigures, Purpose, Step};

/// A step that delivers less than this share of the offered load has failed for good. It needs no
/// longer look and no repetition.
const HOPELESS: f64 = 0.9;
/// Samples that this judgement needs.
const HOPELESS_SAMPLES: usize = 4;
/// Runs of one case: 13 doublings from 10,000 to 50 million, 5 halvings to 5 %, as much again for
/// repetitions.
const STEPS_MAX: usize = 36;
/// Time that a step takes besides its events: start, drain, stop.
const STEP_OVERHEAD: Duration = Duration::from_secs(3);
/// Longest wait for events: those that have not arrived by then are lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a limit is searched for.
#[derive(Clone, Debug)]
pub struct Plan {
    pub program: PathBuf,
    /// CPU cores that the router may use, where a case does not say.
    pub cpus: Option<Vec<usize>>,
    /// First rate; that of the case if left out.
    pub from: Option<f64>,
    pub max: f64,
    pub precision: f64,
    pub p99: Duration,
    pub warm_up: Duration,
    /// How long a step is looked at, after its warm-up.
    pub step: Duration,
    /// The same of the run that confirms the answer.
    pub confirm: Duration,
    pub sample_interval: Duration,
}

/// Progress of a search.
pub enum Event<'a> {
    Case(&'a Case),
    Try(Purpose, f64),
    Sample(&'a Sample),
    Step(&'a Step),
}

/// A callback for the progress of a search.
pub type Observer<'o> = dyn FnMut(Event<'_>) + 'o;

/// The search in one case.
pub struct Hunt<'a> {
    case: &'a Case,
    plan: &'a Plan,
    /// Steps that refine the answer begin before this only.
    until: Instant,
    interrupts: &'a Interrupts,
    found: CaseFigures,
}

impl<'a> Hunt<'a> {
    /// An interrupt ends the search, which gives what is known by then.
    pub fn new(case: &'a Case, plan: &'a Plan, until: Instant, interrupts: &'a Interrupts) -> Hunt<'a> {
        Hunt { case, plan, until, interrupts, found: CaseFigures::of(case) }
    }

    /// Runs the search. An error, such as a router that dies, goes into the figures, so that other
    /// cases can go on.
    pub async fn run(mut self, observe: &mut Observer<'_>) -> CaseFigures {
        observe(Event::Case(self.case));
        match self.pinned(observe).await {
            Ok(()) => {}
            Err(RunError::Interrupted) => self.found.interrupted = true,
            Err(error) => self.found.error = Some(error.to_string()),
        }
        self.found.conclude(self.plan.max);
        self.found
    }

    async fn pinned(&mut self, observe: &mut Observer<'_>) -> Result<(), RunError> {
        let before = self.cpus().map(|cpus| pin::leave(&cpus)).transpose().map_err(RouterError::Io)?;
        let outcome = self.search(observe).await;
        if let Some(before) = before {
            before.restore().map_err(RouterError::Io)?;
        }
        outcome
    }

    fn cpus(&self) -> Option<Vec<usize>> {
        self.case.cpus.clone().or_else(|| self.plan.cpus.clone())
    }

    async fn search(&mut self, observe: &mut Observer<'_>) -> Result<(), RunError> {
        let mut search =
            Search::new(self.plan.from.unwrap_or(self.case.from), self.plan.max, self.plan.precision);
        let mut is_first = true;
        loop {
            while let Some(rate) = search.next().filter(|_| self.may_refine(&search)) {
                self.attempt(Purpose::Search, rate, observe).await?;
                self.record(&mut search, rate);
            }
            let Some(rate) = search.holds() else { return Ok(()) };
            // The first answer is confirmed whatever the time. A later one that is not says so.
            if is_first || !self.is_over() {
                is_first = false;
                self.step(Purpose::Confirm, rate, observe).await?;
                if !self.record(&mut search, rate) {
                    continue;
                }
            }
            // A limit above a rate that fails would be none: if half of it fails, the search goes
            // on below.
            self.attempt(Purpose::Half, rate / 2.0, observe).await?;
            if self.record(&mut search, rate / 2.0) || self.found.steps.len() >= STEPS_MAX {
                return Ok(());
            }
        }
    }

    /// Tells the search whether a rate holds, by its decisive run.
    fn record(&self, search: &mut Search, rate: f64) -> bool {
        let holds = self.found.decisive_runs().any(|step| step.offered_rate == rate && step.holds);
        search.record(rate, holds);
        holds
    }

    fn is_over(&self) -> bool {
        self.found.steps.len() >= STEPS_MAX || Instant::now() > self.until
    }

    /// Without an answer it goes on whatever the time, within the number of steps.
    fn may_refine(&self, search: &Search) -> bool {
        let rest = self.plan.warm_up * 3 + self.plan.step * 2 + self.plan.confirm + STEP_OVERHEAD * 3;
        let is_time = Instant::now() + rest <= self.until;
        self.found.steps.len() < STEPS_MAX && (is_time || search.holds().is_none())
    }

    /// Tries a rate. A failure that is not clear is tried once more: a hiccup of the machine must
    /// not pass for the limit.
    async fn attempt(
        &mut self,
        purpose: Purpose,
        rate: f64,
        observe: &mut Observer<'_>,
    ) -> Result<(), RunError> {
        if self.step(purpose, rate, observe).await? {
            return Ok(());
        }
        let is_clear =
            self.found.steps.last().is_some_and(|step| step.delivered_rate < HOPELESS * step.offered_rate);
        if !is_clear {
            let again = if purpose == Purpose::Search { Purpose::Again } else { purpose };
            self.step(again, rate, observe).await?;
        }
        Ok(())
    }

    /// # Errors
    /// It was interrupted, or its router died.
    async fn step(
        &mut self,
        purpose: Purpose,
        rate: f64,
        observe: &mut Observer<'_>,
    ) -> Result<bool, RunError> {
        observe(Event::Try(purpose, rate));
        let length = if purpose == Purpose::Confirm { self.plan.confirm } else { self.plan.step };
        let mut workload: Workload = self.case.workload.clone();
        workload.rate = Rate::Steady(rate);
        (workload.events, workload.backlog) = (None, 0);
        workload.duration = Some(self.plan.warm_up + length);
        workload.goals.patience = PATIENCE;
        let settings = Settings {
            whose: Whose::Ours { program: self.plan.program.clone(), cpus: self.cpus() },
            folder: None,
            sample_interval: self.plan.sample_interval,
            warm_up: self.plan.warm_up,
        };
        let warm = self.plan.warm_up.as_secs_f64();
        let mut under_load = Vec::new();
        let mut watch = |progress: Progress<'_>| {
            let Progress::Sample(sample) = progress else { return ControlFlow::Continue(()) };
            observe(Event::Sample(sample));
            if sample.seconds > warm {
                under_load.push(sample.clone());
            }
            if is_hopeless(&under_load) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let never = Interrupts::never();
        let result = tokio::select! {
            result = run::run(&workload, &settings, &never, &mut watch) => result?,
            // An unfinished try is of no use: it is dropped, with its router.
            () = self.interrupts.reach(1) => return Err(RunError::Interrupted),
        };
        if let Some(why) = result.broken_off {
            return Err(RunError::BrokenOff(why));
        }
        let step = Step::of(purpose, rate, self.plan.p99, result);
        observe(Event::Step(&step));
        let holds = step.holds;
        self.found.steps.push(step);
        self.found.settle();
        Ok(holds)
    }
}

/// Whether a longer look would change nothing.
fn is_hopeless(samples: &[Sample]) -> bool {
    let offered = bottleneck::mean(samples, &|sample| sample.created_rate);
    let delivered = bottleneck::mean(samples, &|sample| sample.delivered_rate);
    samples.len() >= HOPELESS_SAMPLES
        && delivered < HOPELESS * offered
        && bottleneck::is_growing_clearly(samples)
}
