//! One run from beginning to end: stand, router, events, drain, stop, verdict.

use std::ops::ControlFlow;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::bottleneck::{self, Cores};
use crate::interrupts::Interrupts;
use crate::measure::admin::Admin;
use crate::measure::machine::Machine;
use crate::measure::sample::{Sample, Sampler};
use crate::result::{self, FORMAT, RouterFigures, RunResult, WarmUp};
use crate::stand::config::{DATA, FILE};
use crate::stand::pace::{self, Happened};
use crate::stand::router::{self, Router, RouterError};
use crate::stand::{Stand, StandError};
use crate::workload::{Rate, Workload};

/// How long a run waits for a router that somebody else starts.
const ATTACH_LIMIT: Duration = Duration::from_secs(300);

#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Stand(#[from] StandError),
    #[error(transparent)]
    Router(#[from] RouterError),
    #[error("cannot make a temporary folder for the router: {0}; name one by `--folder`")]
    Temporary(std::io::Error),
    #[error("cannot make the folder {folder} for the router: {cause}")]
    Folder { folder: String, cause: std::io::Error },
    #[error(
        "{data} holds what a router knew at the end of another run: one that starts with it would take the events of this run for old ones; \
         remove it, or name another folder"
    )]
    Used { data: String },
    #[error("cannot write the router's configuration to {file}: {cause}")]
    Attach { file: String, cause: std::io::Error },
    #[error("no router was ready at {address} after {} s: {why}", ATTACH_LIMIT.as_secs())]
    NotAttached { address: String, why: String },
    #[error("interrupted before the router was ready: nothing was measured")]
    Interrupted,
    /// Of a search: [`RunResult::broken_off`] says why there is no further try.
    #[error("{0}")]
    BrokenOff(String),
}

/// Whose router it is.
#[derive(Clone, Debug)]
pub enum Whose {
    /// Started here, from this binary, on these CPU cores if any are named.
    Ours { program: PathBuf, cpus: Option<Vec<usize>> },
    /// Started by somebody else with the configuration that the run writes to this file; its
    /// process, for memory and CPU time.
    Theirs { config: PathBuf, admin: String, pid: Option<u32> },
}

/// How a run is carried out, besides its workload.
#[derive(Clone, Debug)]
pub struct Settings {
    pub whose: Whose,
    /// Keeps the router's files here instead of in a temporary folder.
    pub folder: Option<PathBuf>,
    pub sample_interval: Duration,
    /// Events received before this time are left out of latency and load figures, and counted
    /// apart.
    pub warm_up: Duration,
}

impl Settings {
    fn cores(&self) -> Cores {
        let all = Machine::this().cores;
        let router = match &self.whose {
            Whose::Ours { cpus: Some(cpus), .. } => cpus.len().min(all),
            _ => all,
        };
        Cores { all, router }
    }
}

/// What a run tells while it goes on.
pub enum Progress<'a> {
    /// The configuration that somebody is to start a router with, and the folder that is to hold its data.
    WaitingForRouter {
        config: &'a Path,
        folder: &'a Path,
    },
    Sample(&'a Sample),
    /// No more events are created; those that are missing are waited for.
    Draining,
}

/// Told of everything; `Break` gives the run up: nothing that follows would change the outcome.
pub type Observer<'o> = dyn FnMut(Progress<'_>) -> ControlFlow<()> + 'o;

/// How a run came to its end.
enum Ended {
    /// All events are there, or the others were waited for in vain.
    Whole,
    /// By its observer.
    GivenUp,
    /// By an interrupt: no more events were created, or waited for.
    Interrupted,
    /// By a second one, in the midst of whatever was going on.
    AtOnce,
    /// By the router, which is gone.
    Broken(RouterError),
}

/// The first interrupt ends the events, or the wait for those that are under way; what was measured by then is judged. The second one ends
/// everything at once.
///
/// # Errors
/// The stand or the router could not be started.
pub async fn run(
    workload: &Workload,
    settings: &Settings,
    interrupts: &Interrupts,
    observe: &mut Observer<'_>,
) -> Result<RunResult, RunError> {
    let folder = Folder::make(settings)?;
    let stand = Stand::start(workload).await?;
    // The router reads a backlog from its start, so the clock starts with it. When somebody else
    // starts the router, nobody here knows when that was: then the clock starts when it is ready.
    let is_ours = matches!(settings.whose, Whose::Ours { .. });
    let from_scratch = workload.backlog > 0;
    let early = (from_scratch && is_ours).then(|| Sampler::new(&stand, None, true, settings.warm_up));
    let mut running = tokio::select! {
        running = Running::start(workload, settings, &folder.path, &stand, observe) => running?,
        () = interrupts.reach(1) => return Err(RunError::Interrupted),
    };
    let mut sampler =
        early.unwrap_or_else(|| Sampler::new(&stand, running.pid(), from_scratch, settings.warm_up));
    let around = Around { workload, settings, stand: &stand, interrupts };
    let mut ended = tokio::select! {
        ended = running.carry_out(&around, &mut sampler, observe) => ended,
        () = interrupts.reach(2) => Ended::AtOnce,
    };
    if matches!(ended, Ended::AtOnce) {
        stand.stop_events();
        running.kill();
    }
    sampler.take(&stand, running.pid(), &running.admin).await;
    if matches!(ended, Ended::GivenUp) {
        running.kill();
    }
    let status = tokio::select! {
        status = running.stop() => status?,
        () = interrupts.reach(2) => {
            running.kill();
            ended = Ended::AtOnce;
            None
        }
    };
    // A router that stops may deliver until its end; charts and figures count the same events.
    sampler.take_rest(&stand, &running.admin).await;
    Ok(judge(workload, settings, &stand, sampler, &ended, running.figures(status)))
}

/// Where the router's files are.
struct Folder {
    path: PathBuf,
    /// Removes it at the end.
    _temporary: Option<TempDir>,
}

impl Folder {
    fn make(settings: &Settings) -> Result<Folder, RunError> {
        let Some(path) = &settings.folder else {
            let temporary = tempfile::Builder::new().prefix("loadtest-").tempdir();
            let temporary = temporary.map_err(RunError::Temporary)?;
            return Ok(match settings.whose {
                Whose::Ours { .. } => {
                    Folder { path: temporary.path().to_owned(), _temporary: Some(temporary) }
                }
                // Their router goes on when the run has ended, and needs its data.
                Whose::Theirs { .. } => Folder { path: temporary.keep(), _temporary: None },
            });
        };
        let wrong = |cause| RunError::Folder { folder: path.display().to_string(), cause };
        std::fs::create_dir_all(path).map_err(wrong)?;
        // Whoever starts the router may do so elsewhere.
        let path = std::path::absolute(path).map_err(wrong)?;
        let data = path.join(DATA);
        if data.exists() {
            return Err(RunError::Used { data: data.display().to_string() });
        }
        Ok(Folder { path, _temporary: None })
    }
}

/// What a run goes on in.
struct Around<'a> {
    workload: &'a Workload,
    settings: &'a Settings,
    stand: &'a Stand,
    interrupts: &'a Interrupts,
}

/// A router that works, ours or theirs.
struct Running {
    router: Option<Router>,
    pid: Option<u32>,
    admin: Admin,
}

impl Running {
    async fn start(
        workload: &Workload,
        settings: &Settings,
        folder: &Path,
        stand: &Stand,
        observe: &mut Observer<'_>,
    ) -> Result<Running, RunError> {
        match &settings.whose {
            Whose::Ours { program, cpus } => {
                let admin = Admin::new(&router::free_address().map_err(RouterError::Io)?);
                stand.write_config(workload, folder, admin.address())?;
                let mut router = Router::new(program.clone(), folder, admin.clone(), cpus.clone());
                router.start().await?;
                Ok(Running { router: Some(router), pid: None, admin })
            }
            Whose::Theirs { config, admin, pid } => {
                let admin = Admin::new(admin);
                stand.write_config(workload, folder, admin.address())?;
                let written = folder.join(FILE);
                let wrong = |cause| RunError::Attach { file: config.display().to_string(), cause };
                std::fs::copy(&written, config).map_err(wrong)?;
                // Nothing was measured yet that could be given up.
                let _ = observe(Progress::WaitingForRouter { config, folder });
                let end = Instant::now() + ATTACH_LIMIT;
                loop {
                    let why = match admin.is_ready().await {
                        Ok(true) => break,
                        Ok(false) => "/readyz says no".to_owned(),
                        Err(why) => why,
                    };
                    if Instant::now() >= end {
                        return Err(RunError::NotAttached { address: admin.address().to_owned(), why });
                    }
                    sleep(Duration::from_millis(100)).await;
                }
                Ok(Running { router: None, pid: *pid, admin })
            }
        }
    }

    fn pid(&self) -> Option<u32> {
        self.router.as_ref().and_then(Router::pid).or(self.pid)
    }

    /// What is known of the router when it has ended.
    fn figures(&self, status: Option<ExitStatus>) -> RouterFigures {
        RouterFigures {
            starts: self.router.as_ref().map_or(0, |router| router.starts),
            exit_code: status.and_then(|status| status.code()),
            signal: status.and_then(|status| status.signal()),
            ..RouterFigures::default()
        }
    }

    /// Creates the events and waits for them.
    async fn carry_out(
        &mut self,
        around: &Around<'_>,
        sampler: &mut Sampler,
        observe: &mut Observer<'_>,
    ) -> Ended {
        let (happened, mut inbox) = mpsc::unbounded_channel();
        let driven = around.stand.driven();
        let driving = pace::drive(around.workload, &driven, &happened);
        let created = self.events(around, sampler, observe, driving, &mut inbox).await;
        around.stand.stop_events();
        let created = match created {
            Ok(created @ (Ended::Whole | Ended::Interrupted)) => created,
            Ok(other) => return other,
            Err(error) => return Ended::Broken(error),
        };
        // The end of the load belongs to the load, unless it is so short that its rates say
        // nothing.
        if sampler.since_last() >= around.settings.sample_interval / 2 {
            let sample = sampler.take(around.stand, self.pid(), &self.admin).await;
            if observe(Progress::Sample(sample)).is_break() {
                return Ended::GivenUp;
            }
        }
        if observe(Progress::Draining).is_break() {
            return Ended::GivenUp;
        }
        sampler.draining_from = Some(sampler.samples.len());
        match (created, self.drain(around, sampler, observe, &mut inbox).await) {
            (_, Err(error)) => Ended::Broken(error),
            (Ended::Interrupted, Ok(Ended::Whole)) => Ended::Interrupted,
            (_, Ok(drained)) => drained,
        }
    }

    /// While events are created: samples, what the troubles ask for, and whether the end has come.
    async fn events(
        &mut self,
        around: &Around<'_>,
        sampler: &mut Sampler,
        observe: &mut Observer<'_>,
        driving: impl Future<Output = ()>,
        inbox: &mut mpsc::UnboundedReceiver<Happened>,
    ) -> Result<Ended, RouterError> {
        let mut ticks = ticks(around.settings);
        let mut looks = interval(Duration::from_millis(20));
        tokio::pin!(driving);
        loop {
            tokio::select! {
                () = &mut driving => return Ok(Ended::Whole),
                () = around.interrupts.reach(1) => return Ok(Ended::Interrupted),
                _ = looks.tick() => {
                    if is_over(around.workload, around.stand) {
                        return Ok(Ended::Whole);
                    }
                }
                Some(happened) = inbox.recv() => self.note(happened, sampler).await?,
                _ = ticks.tick() => {
                    self.check_alive()?;
                    let sample = sampler.take(around.stand, self.pid(), &self.admin).await;
                    if observe(Progress::Sample(sample)).is_break() {
                        return Ok(Ended::GivenUp);
                    }
                }
            }
        }
    }

    /// Until nothing is missing, patience runs out, or the next interrupt.
    async fn drain(
        &mut self,
        around: &Around<'_>,
        sampler: &mut Sampler,
        observe: &mut Observer<'_>,
        inbox: &mut mpsc::UnboundedReceiver<Happened>,
    ) -> Result<Ended, RouterError> {
        let mut ticks = ticks(around.settings);
        let next = around.interrupts.count() + 1;
        let draining = around.stand.drain(around.workload.goals.patience);
        tokio::pin!(draining);
        loop {
            tokio::select! {
                () = &mut draining => return Ok(Ended::Whole),
                () = around.interrupts.reach(next) => return Ok(Ended::Interrupted),
                Some(happened) = inbox.recv() => self.note(happened, sampler).await?,
                _ = ticks.tick() => {
                    self.check_alive()?;
                    let sample = sampler.take(around.stand, self.pid(), &self.admin).await;
                    if observe(Progress::Sample(sample)).is_break() {
                        return Ok(Ended::GivenUp);
                    }
                }
            }
        }
    }

    async fn note(&mut self, happened: Happened, sampler: &mut Sampler) -> Result<(), RouterError> {
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

    /// How it ended; `None` where it was not ours to stop, or had to be killed.
    async fn stop(&mut self) -> Result<Option<ExitStatus>, RouterError> {
        match &mut self.router {
            Some(router) => router.stop().await,
            None => Ok(None),
        }
    }
}

fn ticks(settings: &Settings) -> tokio::time::Interval {
    let first = Instant::now() + settings.sample_interval;
    let mut ticks = tokio::time::interval_at(first, settings.sample_interval);
    // A sample that took long must not be followed by several at once.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks
}

/// All events that there are to be exist.
fn is_over(workload: &Workload, stand: &Stand) -> bool {
    let last = match (workload.rate, workload.events) {
        (Rate::None, _) => Some(workload.backlog),
        (_, events) => events.map(|events| events + workload.backlog),
    };
    last.is_some_and(|last| stand.produced() >= last)
}

fn judge(
    workload: &Workload,
    settings: &Settings,
    stand: &Stand,
    sampler: Sampler,
    ended: &Ended,
    router: RouterFigures,
) -> RunResult {
    let report = stand.report();
    let cpu_seconds = sampler.usage.cpu_seconds();
    let receivers = stand.receivers();
    let events = report.total.unique as f64 / receivers as f64;
    let generator_cpu_seconds = sampler.generator_cpu_seconds();
    let Sampler { samples, usage, counts, incidents, started_us, draining_from, warm_from, until, .. } =
        sampler;
    // A run that ended during its warm-up has nothing but warm-up to show its load by.
    let from = warm_from.unwrap_or(0);
    // What was waited for after the last event says little about load; where all was there from the start it is all there is.
    let loaded = match draining_from {
        Some(until) if until > from && workload.rate != Rate::None => from..until,
        _ => from.min(until)..until,
    };
    let (busiest_stage, busiest_stage_share) = bottleneck::busiest_stage(&samples).unwrap_or_default();
    // Until the last sample in which something arrived.
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
            // What is given up does not keep up, whatever its few samples show.
            Ended::GivenUp => bottleneck::busiest(workload, &samples[loaded.clone()], settings.cores()),
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
        interrupted: matches!(ended, Ended::Interrupted | Ended::AtOnce),
        given_up: matches!(ended, Ended::GivenUp),
        broken_off: match ended {
            Ended::Broken(error) => Some(error.to_string()),
            _ => None,
        },
        ..RunResult::default()
    };
    result.failures = result.objections(workload, matches!(settings.whose, Whose::Theirs { .. }));
    result.passed = result.failures.is_empty() && !result.interrupted;
    result
}
