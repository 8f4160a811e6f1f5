//! The search for the limit of a case: runs at different rates, from which the limit follows.
//!
//! ```text
//! case ─► search picks a rate ─► run ─► step (holds?) ─► … ─► a longer run ─► a run at half of it
//! ```
//!
//! A rate holds under three conditions: every event arrived (nothing lost, no id changed, no order
//! violated), p99 stayed under its bound, and deliveries kept up with the offered load.

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
use crate::run::{self, Progress, RouterUnderTest, RunError, Settings};
use crate::search::Search;
use crate::stand::pin;
use crate::stand::router::RouterError;
use crate::workload::{Rate, Workload};
use cases::Case;
use figures::{CaseFigures, Purpose, Step};

/// A step that delivers less than this share of the offered load has clearly failed. It is not
/// repeated and may end early.
const HOPELESS: f64 = 0.9;
/// The number of samples that this judgement needs.
const HOPELESS_SAMPLES: usize = 4;
/// Maximum number of runs in a case: 13 doublings from 10,000 to 50 million, 5 halvings down to 5
/// %, and as many repetitions.
const STEPS_MAX: usize = 36;
/// The time of a step in addition to its events: start, drain, stop.
const STEP_OVERHEAD: Duration = Duration::from_secs(3);
/// The longest wait for missing events. After it they are lost.
const PATIENCE: Duration = Duration::from_secs(10);

/// The parameters of a search.
#[derive(Clone, Debug)]
pub struct Plan {
    pub program: PathBuf,
    /// CPU cores of the router, unless a case specifies them.
    pub cpus: Option<Vec<usize>>,
    /// The first rate; by default that of the case.
    pub from: Option<f64>,
    pub max: f64,
    pub precision: f64,
    pub p99: Duration,
    pub warm_up: Duration,
    /// The measured time of a step, after its warm-up.
    pub step: Duration,
    /// The measured time of the run that confirms the limit.
    pub confirm: Duration,
    pub sample_interval: Duration,
}

/// Progress of a search.
pub enum LimitProgress<'a> {
    Case(&'a Case),
    Try(Purpose, f64),
    Sample(&'a Sample),
    Step(&'a Step),
}

/// A callback for the progress of a search.
pub type Observer<'o> = dyn FnMut(LimitProgress<'_>) + 'o;

/// The search in one case.
pub struct LimitSearch<'a> {
    case: &'a Case,
    plan: &'a Plan,
    /// Steps that refine the answer must end before this time.
    until: Instant,
    interrupts: &'a Interrupts,
    found: CaseFigures,
}

impl<'a> LimitSearch<'a> {
    /// An interrupt ends the search with the results so far.
    pub fn new(
        case: &'a Case,
        plan: &'a Plan,
        until: Instant,
        interrupts: &'a Interrupts,
    ) -> LimitSearch<'a> {
        LimitSearch { case, plan, until, interrupts, found: CaseFigures::of(case) }
    }

    /// Runs the search. An error, such as a router that crashes, is stored in the figures, so that
    /// the other cases can proceed.
    pub async fn run(mut self, observe: &mut Observer<'_>) -> CaseFigures {
        observe(LimitProgress::Case(self.case));
        match self.pinned(observe).await {
            Ok(()) => {}
            Err(RunError::Interrupted) => self.found.interrupted = true,
            Err(error) => self.found.error = Some(error.to_string()),
        }
        self.found.conclude(self.plan.max);
        self.found
    }

    /// Runs the search while this process leaves the router's cores alone.
    async fn pinned(&mut self, observe: &mut Observer<'_>) -> Result<(), RunError> {
        let before = self.cpus().map(|cpus| pin::avoid(&cpus)).transpose().map_err(RouterError::Io)?;
        let outcome = self.search(observe).await;
        if let Some(before) = before {
            before.restore().map_err(RouterError::Io)?;
        }
        outcome
    }

    fn cpus(&self) -> Option<Vec<usize>> {
        self.case.cpus.clone().or_else(|| self.plan.cpus.clone())
    }

    /// Searches, confirms the answer and measures half of it. A failure of either continues the
    /// search below.
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
            // The first answer is always confirmed. A later one that is not is marked as
            // unconfirmed.
            if is_first || !self.is_over() {
                is_first = false;
                self.step(Purpose::Confirm, rate, observe).await?;
                if !self.record(&mut search, rate) {
                    continue;
                }
            }
            // A limit must not be above a rate that fails. If half of it fails, the search
            // continues below.
            self.attempt(Purpose::Half, rate / 2.0, observe).await?;
            if self.record(&mut search, rate / 2.0) || self.found.steps.len() >= STEPS_MAX {
                return Ok(());
            }
        }
    }

    /// Reports to the search whether a rate holds, by its decisive run.
    fn record(&self, search: &mut Search, rate: f64) -> bool {
        let holds = self.found.decisive_runs().any(|step| step.offered_rate == rate && step.holds);
        search.record(rate, holds);
        holds
    }

    fn is_over(&self) -> bool {
        self.found.steps.len() >= STEPS_MAX || Instant::now() > self.until
    }

    /// Returns true if there is time for another step. Without an answer the time does not matter,
    /// only the number of steps.
    fn may_refine(&self, search: &Search) -> bool {
        let rest = self.plan.warm_up * 3 + self.plan.step * 2 + self.plan.confirm + STEP_OVERHEAD * 3;
        let is_time = Instant::now() + rest <= self.until;
        self.found.steps.len() < STEPS_MAX && (is_time || search.holds().is_none())
    }

    /// Tries a rate. A failure that is not clear is repeated once, because a hiccup of the machine
    /// must not pass for the limit.
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

    /// Runs the workload at one rate and judges the run.
    ///
    /// # Errors
    /// It was interrupted, or its router crashed.
    async fn step(
        &mut self,
        purpose: Purpose,
        rate: f64,
        observe: &mut Observer<'_>,
    ) -> Result<bool, RunError> {
        observe(LimitProgress::Try(purpose, rate));
        // The case's workload at this rate.
        let length = if purpose == Purpose::Confirm { self.plan.confirm } else { self.plan.step };
        let mut workload: Workload = self.case.workload.clone();
        workload.rate = Rate::Steady(rate);
        (workload.events, workload.backlog) = (None, 0);
        workload.duration = Some(self.plan.warm_up + length);
        workload.goals.patience = PATIENCE;
        let settings = Settings {
            router: RouterUnderTest::Started { program: self.plan.program.clone(), cpus: self.cpus() },
            folder: None,
            sample_interval: self.plan.sample_interval,
            warm_up: self.plan.warm_up,
        };
        // Give up as soon as the outcome is certain.
        let warm = self.plan.warm_up.as_secs_f64();
        let mut under_load = Vec::new();
        let mut watch = |progress: Progress<'_>| {
            let Progress::Sample(sample) = progress else { return ControlFlow::Continue(()) };
            observe(LimitProgress::Sample(sample));
            if sample.seconds > warm {
                under_load.push(sample.clone());
            }
            if is_hopeless(&under_load) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let never = Interrupts::never();
        let result = tokio::select! {
            result = run::run(&workload, &settings, &never, &mut watch) => result?,
            // The unfinished run is dropped together with its router.
            () = self.interrupts.reach(1) => return Err(RunError::Interrupted),
        };
        if let Some(why) = result.broken_off {
            return Err(RunError::BrokenOff(why));
        }
        let step = Step::of(purpose, rate, self.plan.p99, result);
        observe(LimitProgress::Step(&step));
        let holds = step.holds;
        self.found.steps.push(step);
        self.found.settle();
        Ok(holds)
    }
}

/// Returns true if more samples would not change the outcome.
fn is_hopeless(samples: &[Sample]) -> bool {
    let offered = bottleneck::mean(samples, &|sample| sample.created_rate);
    let delivered = bottleneck::mean(samples, &|sample| sample.delivered_rate);
    samples.len() >= HOPELESS_SAMPLES
        && delivered < HOPELESS * offered
        && bottleneck::is_growing_clearly(samples)
}
