//! One run from beginning to end.
//!
//! ```text
//! stand ─► router ready ─► events, samples, troubles ─► drain ─► SIGTERM ─► last sample ─► verdict
//!           first interrupt: ─────────────────┴───────────┘
//!           second interrupt: kill the router, then the verdict
//! ```

mod folder;

use std::ops::ControlFlow;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use self::folder::RunFolder;
use crate::bottleneck::{self, Cores};
use crate::interrupts::Interrupts;
use crate::measure::admin::Admin;
use crate::measure::machine::Machine;
use crate::measure::sample::{Sample, Sampler};
use crate::result::{self, FORMAT, RouterFigures, RunResult, WarmUp};
use crate::stand::config::FILE;
use crate::stand::pace::{self, StartedTrouble};
use crate::stand::router::{self, Router, RouterError};
use crate::stand::{Stand, StandError};
use crate::workload::{Rate, Workload};

/// The longest wait for a router that somebody else starts.
const ATTACH_LIMIT: Duration = Duration::from_secs(300);

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Stand(#[from] StandError),
    #[error(transparent)]
    Router(#[from] RouterError),
    #[error("cannot create a temporary folder for the router: {0}; give one with `--folder`")]
    Temporary(std::io::Error),
    #[error("cannot create the folder {folder} for the router: {cause}")]
    RunFolder { folder: String, cause: std::io::Error },
    #[error(
        "{data} holds the state of a router from another run, which would treat this run's events as old; \
         remove it, or choose another folder"
    )]
    Used { data: String },
    #[error("cannot write the router's configuration to {file}: {cause}")]
    Attach { file: String, cause: std::io::Error },
    #[error("no router is ready at {address} after {} s: {why}", ATTACH_LIMIT.as_secs())]
    NotAttached { address: String, why: String },
    #[error("interrupted before the router was ready: nothing was measured")]
    Interrupted,
    /// For a limit search: [`RunResult::broken_off`] has the reason why no further run is possible.
    #[error("{0}")]
    BrokenOff(String),
}

/// The router to test.
#[derive(Clone, Debug)]
pub enum RouterUnderTest {
    /// Started here from this binary, on these CPU cores if any are given.
    Started { program: PathBuf, cpus: Option<Vec<usize>> },
    /// Started by somebody else with the configuration that the run writes to this file. The
    /// process id is for memory and CPU time.
    Attached { config: PathBuf, admin: String, pid: Option<u32> },
}

/// Parameters of a run besides its workload.
#[derive(Clone, Debug)]
pub struct Settings {
    pub router: RouterUnderTest,
    /// The folder for the router's files; a temporary one if `None`.
    pub folder: Option<PathBuf>,
    pub sample_interval: Duration,
    /// Events received before this time are left out of latency and load figures and counted
    /// separately.
    pub warm_up: Duration,
}

impl Settings {
    fn cores(&self) -> Cores {
        let all = Machine::this().cores;
        let router = match &self.router {
            RouterUnderTest::Started { cpus: Some(cpus), .. } => cpus.len().min(all),
            _ => all,
        };
        Cores { all, router }
    }
}

/// Progress of a run.
pub enum Progress<'a> {
    /// Somebody must start a router with this configuration. Its data will be in this folder.
    WaitingForRouter {
        config: &'a Path,
        folder: &'a Path,
    },
    Sample(&'a Sample),
    /// No more events are created. The run waits for missing ones.
    Draining,
}

/// A callback for the progress. `Break` gives the run up, because its outcome is certain.
pub type Observer<'o> = dyn FnMut(Progress<'_>) -> ControlFlow<()> + 'o;

/// The way a run ended.
enum RunEnd {
    /// All events arrived, or patience ran out.
    Complete,
    /// The observer gave up.
    GivenUp,
    /// An interrupt ended the events or the drain.
    Interrupted,
    /// A second interrupt ended everything at once.
    Aborted,
    /// The router ended by itself.
    RouterFailed(RouterError),
}

/// Runs a workload. The first interrupt ends the events or the drain, and the measured part is
/// judged. The second one ends everything at once.
///
/// # Errors
/// The stand or the router could not be started.
pub async fn run(
    workload: &Workload,
    settings: &Settings,
    interrupts: &Interrupts,
    observe: &mut Observer<'_>,
) -> Result<RunResult, RunError> {
    let folder = RunFolder::make(settings)?;
    let stand = Stand::start(workload).await?;
    // The router reads a backlog from its start, so the clock starts together with our router. The
    // start of somebody else's router is unknown, so the clock starts when it is ready.
    let is_ours = matches!(settings.router, RouterUnderTest::Started { .. });
    let from_scratch = workload.backlog > 0;
    let early = (from_scratch && is_ours).then(|| Sampler::new(&stand, None, true, settings.warm_up));
    let mut running = tokio::select! {
        running = RunningRouter::start(workload, settings, &folder.path, &stand, observe) => running?,
        () = interrupts.reach(1) => return Err(RunError::Interrupted),
    };
    let mut sampler =
        early.unwrap_or_else(|| Sampler::new(&stand, running.pid(), from_scratch, settings.warm_up));
    let context = RunContext { workload, settings, stand: &stand, interrupts };
    let mut ended = tokio::select! {
        ended = running.carry_out(&context, &mut sampler, observe) => ended,
        () = interrupts.reach(2) => RunEnd::Aborted,
    };
    // The future was dropped before it could stop the events.
    if matches!(ended, RunEnd::Aborted) {
        stand.stop_events();
        running.kill();
    }
    sampler.take(&stand, running.pid(), &running.admin).await;
    if matches!(ended, RunEnd::GivenUp) {
        running.kill();
    }
    let status = tokio::select! {
        status = running.stop() => status?,
        () = interrupts.reach(2) => {
            running.kill();
            ended = RunEnd::Aborted;
            None
        }
    };
    // A stopping router may deliver until its end. Charts and figures must count the same events.
    sampler.take_rest(&stand, &running.admin).await;
    Ok(judge(workload, settings, &stand, sampler, &ended, running.figures(status)))
}

/// The unchanging surroundings of a run.
struct RunContext<'a> {
    workload: &'a Workload,
    settings: &'a Settings,
    stand: &'a Stand,
    interrupts: &'a Interrupts,
}

/// The router under test, while it runs.
struct RunningRouter {
    router: Option<Router>,
    pid: Option<u32>,
    admin: Admin,
}

impl RunningRouter {
    /// Starts our router, or waits for somebody else's.
    async fn start(
        workload: &Workload,
        settings: &Settings,
        folder: &Path,
        stand: &Stand,
        observe: &mut Observer<'_>,
    ) -> Result<RunningRouter, RunError> {
        match &settings.router {
            RouterUnderTest::Started { program, cpus } => {
                let admin = Admin::new(&router::free_address().map_err(RouterError::Io)?);
                stand.write_config(workload, folder, admin.address())?;
                let mut router = Router::new(program.clone(), folder, admin.clone(), cpus.clone());
                router.start().await?;
                Ok(RunningRouter { router: Some(router), pid: None, admin })
            }
            RouterUnderTest::Attached { config, admin, pid } => {
                let admin = Admin::new(admin);
                stand.write_config(workload, folder, admin.address())?;
                let written = folder.join(FILE);
                let wrong = |cause| RunError::Attach { file: config.display().to_string(), cause };
                std::fs::copy(&written, config).map_err(wrong)?;
                // Nothing was measured yet, so there is nothing to give up.
                let _ = observe(Progress::WaitingForRouter { config, folder });
                let end = Instant::now() + ATTACH_LIMIT;
                loop {
                    let why = match admin.is_ready().await {
                        Ok(true) => break,
                        Ok(false) => "/readyz reports not ready".to_owned(),
                        Err(why) => why,
                    };
                    if Instant::now() >= end {
                        return Err(RunError::NotAttached { address: admin.address().to_owned(), why });
                    }
                    sleep(Duration::from_millis(100)).await;
                }
                Ok(RunningRouter { router: None, pid: *pid, admin })
            }
        }
    }

    fn pid(&self) -> Option<u32> {
        self.router.as_ref().and_then(Router::pid).or(self.pid)
    }

    /// The figures that are known after the router's end.
    fn figures(&self, status: Option<ExitStatus>) -> RouterFigures {
        RouterFigures {
            starts: self.router.as_ref().map_or(0, |router| router.starts),
            exit_code: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
            ..RouterFigures::default()
        }
    }

    /// Creates the events and waits for their arrival.
    async fn carry_out(
        &mut self,
        context: &RunContext<'_>,
        sampler: &mut Sampler,
        observe: &mut Observer<'_>,
    ) -> RunEnd {
        let (happened, mut inbox) = mpsc::unbounded_channel();
        let driven = context.stand.driven();
        let driving = pace::drive(context.workload, &driven, &happened);
        let created = self.events(context, sampler, observe, driving, &mut inbox).await;
        context.stand.stop_events();
        let created = match created {
            Ok(created @ (RunEnd::Complete | RunEnd::Interrupted)) => created,
            Ok(other) => return other,
            Err(error) => return RunEnd::RouterFailed(error),
        };
        // The rest of the last interval belongs to the load, unless it is too short for meaningful
        // rates.
        if sampler.since_last() >= context.settings.sample_interval / 2 {
            let sample = sampler.take(context.stand, self.pid(), &self.admin).await;
            if observe(Progress::Sample(sample)).is_break() {
                return RunEnd::GivenUp;
            }
        }
        if observe(Progress::Draining).is_break() {
            return RunEnd::GivenUp;
        }
        sampler.draining_from = Some(sampler.samples.len());
        match (created, self.drain(context, sampler, observe, &mut inbox).await) {
            (_, Err(error)) => RunEnd::RouterFailed(error),
            (RunEnd::Interrupted, Ok(RunEnd::Complete)) => RunEnd::Interrupted,
            (_, Ok(drained)) => drained,
        }
    }

    /// While events are created, takes samples, carries out troubles, and checks for the end.
    async fn events(
        &mut self,
        context: &RunContext<'_>,
        sampler: &mut Sampler,
        observe: &mut Observer<'_>,
        driving: impl Future<Output = ()>,
        inbox: &mut mpsc::UnboundedReceiver<StartedTrouble>,
    ) -> Result<RunEnd, RouterError> {
        let mut ticks = ticks(context.settings);
        let mut looks = interval(Duration::from_millis(20));
        tokio::pin!(driving);
        loop {
            tokio::select! {
                () = &mut driving => return Ok(RunEnd::Complete),
                () = context.interrupts.reach(1) => return Ok(RunEnd::Interrupted),
                _ = looks.tick() => {
                    if is_over(context.workload, context.stand) {
                        return Ok(RunEnd::Complete);
                    }
                }
                Some(happened) = inbox.recv() => self.note(happened, sampler).await?,
                _ = ticks.tick() => {
                    self.check_alive()?;
                    let sample = sampler.take(context.stand, self.pid(), &self.admin).await;
                    if observe(Progress::Sample(sample)).is_break() {
                        return Ok(RunEnd::GivenUp);
                    }
                }
            }
        }
    }

    /// Waits until nothing is missing, patience runs out, or the next interrupt arrives.
    async fn drain(
        &mut self,
        context: &RunContext<'_>,
        sampler: &mut Sampler,
        observe: &mut Observer<'_>,
        inbox: &mut mpsc::UnboundedReceiver<StartedTrouble>,
    ) -> Result<RunEnd, RouterError> {
        let mut ticks = ticks(context.settings);
        let next = context.interrupts.count() + 1;
        let draining = context.stand.drain(context.workload.goals.patience);
        tokio::pin!(draining);
        loop {
            tokio::select! {
                () = &mut draining => return Ok(RunEnd::Complete),
                () = context.interrupts.reach(next) => return Ok(RunEnd::Interrupted),
                Some(happened) = inbox.recv() => self.note(happened, sampler).await?,
                _ = ticks.tick() => {
                    self.check_alive()?;
                    let sample = sampler.take(context.stand, self.pid(), &self.admin).await;
                    if observe(Progress::Sample(sample)).is_break() {
                        return Ok(RunEnd::GivenUp);
                    }
                }
            }
        }
    }

    /// Records a trouble. A killed router is started again after its downtime.
    async fn note(&mut self, happened: StartedTrouble, sampler: &mut Sampler) -> Result<(), RouterError> {
        sampler.incident(happened.trouble, happened.vcenter);
        if let (Some(router), Some(downtime)) = (&mut self.router, happened.router_downtime) {
            router.kill();
            sleep(downtime).await;
            router.start().await?;
        }
        Ok(())
    }

    fn check_alive(&mut self) -> Result<(), RouterError> {
        if let Some(router) = &mut self.router
            && let Some(status) = router.ended()?
        {
            return Err(RouterError::Ended { status, log: router.log_tail() });
        }
        Ok(())
    }

    fn kill(&mut self) {
        if let Some(router) = &mut self.router {
            router.kill();
        }
    }

    /// Returns the exit status. `None` if the router was not ours to stop, or had to be killed.
    async fn stop(&mut self) -> Result<Option<ExitStatus>, RouterError> {
        match &mut self.router {
            Some(router) => router.stop().await,
            None => Ok(None),
        }
    }
}

/// The clock of the samples.
fn ticks(settings: &Settings) -> tokio::time::Interval {
    let first = Instant::now() + settings.sample_interval;
    let mut ticks = tokio::time::interval_at(first, settings.sample_interval);
    // A slow sample must not be followed by several at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// Returns true if all events of the workload exist.
fn is_over(workload: &Workload, stand: &Stand) -> bool {
    let last = match (workload.rate, workload.events) {
        (Rate::None, _) => Some(workload.backlog),
        (_, events) => events.map(|events| events + workload.backlog),
    };
    last.is_some_and(|last| stand.produced() >= last)
}

/// Turns the samples and the verifiers' reports into the result of the run.
fn judge(
    workload: &Workload,
    settings: &Settings,
    stand: &Stand,
    sampler: Sampler,
    ended: &RunEnd,
    router: RouterFigures,
) -> RunResult {
    let report = stand.report();
    let cpu_seconds = sampler.usage.cpu_seconds();
    let receivers = stand.receivers();
    let events = report.total.unique as f64 / receivers as f64;
    let generator_cpu_seconds = sampler.generator_cpu_seconds();
    let Sampler { samples, usage, counts, incidents, started_us, draining_from, warm_from, until, .. } =
        sampler;
    // A run that ended during its warm-up has only the warm-up to judge its load by.
    let from = warm_from.unwrap_or(0);
    // The drain says little about the load. If all events existed at the start, the drain is all
    // there is.
    let loaded = match draining_from {
        Some(until) if until > from && workload.rate != Rate::None => from..until,
        _ => from.min(until)..until,
    };
    let (busiest_stage, busiest_stage_share) = bottleneck::busiest_stage(&samples).unwrap_or_default();
    // Up to the last sample in which something arrived.
    let seconds =
        samples.iter().rfind(|sample| sample.delivered_rate > 0.0).map_or(0.0, |sample| sample.seconds);
    let mut result = RunResult {
        format: FORMAT,
        workload: workload.name.clone(),
        description: workload.description.clone(),
        setup: format!("{}; {}", workload.setup(), workload.offered()),
        machine: Machine::this(),
        seconds,
        unreadable: report.unreadable,
        strays: report.stray_sources.values().sum(),
        latency: report.latency,
        warm_up: (!settings.warm_up.is_zero()).then(|| WarmUp {
            seconds: samples[..warm_from.unwrap_or(samples.len())]
                .last()
                .map_or(0.0, |sample| sample.seconds),
            latency: report.warm_up,
        }),
        created: stand.produced().saturating_sub(workload.backlog),
        receivers,
        rate: if seconds > 0.0 { events / seconds } else { 0.0 },
        lag_events_max: samples.iter().map(|sample| sample.lag_events).max().unwrap_or_default(),
        router: RouterFigures {
            cpu_seconds,
            cpu_seconds_per_million: cpu_seconds.filter(|_| events > 0.0).map(|cpu| cpu * 1e6 / events),
            rss_peak_bytes: cpu_seconds.map(|_| usage.rss_peak_bytes),
            busiest_stage: busiest_stage.to_owned(),
            busiest_stage_share,
            counts,
            ..router
        },
        generator_cpu_seconds,
        limited_by: match ended {
            // A run that was given up did not keep up, whatever its few samples show.
            RunEnd::GivenUp => bottleneck::busiest(workload, &samples[loaded.clone()], settings.cores()),
            _ => bottleneck::limited_by(
                workload,
                &samples[loaded.clone()],
                report.total.missing,
                settings.cores(),
            ),
        },
        busiest: bottleneck::busiest(workload, &samples[loaded.clone()], settings.cores()),
        loaded,
        overtaken: result::overtaken(workload, &report.total),
        totals: report.total,
        suspects: result::suspects(&report.sources, started_us),
        incidents,
        samples,
        interrupted: matches!(ended, RunEnd::Interrupted | RunEnd::Aborted),
        given_up: matches!(ended, RunEnd::GivenUp),
        broken_off: match ended {
            RunEnd::RouterFailed(error) => Some(error.to_string()),
            _ => None,
        },
        ..RunResult::default()
    };
    result.failures =
        result.objections(workload, matches!(settings.router, RouterUnderTest::Attached { .. }));
    result.passed = result.failures.is_empty() && !result.interrupted;
    result
}
