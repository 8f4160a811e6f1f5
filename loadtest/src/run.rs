//! One run from beginning to end: stand, router, events, drain, stop, verdict.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::bottleneck::{self, Cores};
use crate::measure::admin::Admin;
use crate::measure::machine::Machine;
use crate::measure::sample::{Sample, Sampler};
use crate::result::{self, FORMAT, RouterFigures, RunResult};
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
    #[error("cannot make a folder for the router: {0}; give one by `--folder`")]
    Folder(std::io::Error),
    #[error("no router was ready at {address} after {} s: {why}", ATTACH_LIMIT.as_secs())]
    NotAttached { address: String, why: String },
}

/// Whose router it is.
#[derive(Clone, Debug)]
pub enum Whose {
    /// Started here, from this binary, on these processors if any are named.
    Ours { program: PathBuf, cpus: Option<Vec<usize>> },
    /// Started by somebody else with the configuration that the run writes to this file; its process, for memory and processor time.
    Theirs { config: PathBuf, admin: String, pid: Option<u32> },
}

/// How a run is carried out, besides its workload.
#[derive(Clone, Debug)]
pub struct Settings {
    pub whose: Whose,
    /// Keeps the router's files here instead of in a folder that is removed.
    pub folder: Option<PathBuf>,
    pub sample_interval: Duration,
    /// Latency and load are those after this time: connections are open then, and caches warm.
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
    /// The configuration that somebody is to start a router with.
    WaitingForRouter {
        config: &'a Path,
    },
    Sample(&'a Sample),
    /// No more events are created; those that are missing are waited for.
    Draining,
}

/// Asked with every sample whether to go on.
pub type Observer<'o> = dyn FnMut(Progress<'_>) -> Verdict + 'o;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    GoOn,
    /// No more events; drain, stop, judge.
    Enough,
    /// Stop at once: nothing that follows would change the outcome.
    GiveUp,
}

/// # Errors
/// The stand or the router could not be started, or the router ended by itself.
pub async fn run(
    workload: &Workload,
    settings: &Settings,
    observe: &mut Observer<'_>,
) -> Result<RunResult, RunError> {
    let temporary = match &settings.folder {
        Some(folder) => {
            std::fs::create_dir_all(folder).map_err(RunError::Folder)?;
            None
        }
        None => Some(tempfile::Builder::new().prefix("loadtest-").tempdir().map_err(RunError::Folder)?),
    };
    let folder = settings.folder.as_deref().or(temporary.as_ref().map(|folder| folder.path()));
    let folder = folder.unwrap_or(Path::new("."));
    let stand = Arc::new(Stand::start(workload).await?);
    let mut running = Running::start(workload, settings, folder, &stand, observe).await?;
    let mut sampler = Sampler::new(&stand, running.pid(), workload.backlog > 0);
    let (happened, mut inbox) = mpsc::unbounded_channel();
    let ended =
        running.events(workload, settings, &stand, &mut sampler, observe, &happened, &mut inbox).await?;
    let mut complete = false;
    if ended != Verdict::GiveUp {
        observe(Progress::Draining);
        sampler.draining_from = Some(sampler.samples.len());
        complete = running.drain(workload, settings, &stand, &mut sampler, observe, &mut inbox).await?;
    }
    sampler.take(&stand, running.pid(), &running.admin).await;
    let exit_code = running.stop(ended == Verdict::GiveUp).await?;
    let starts = running.starts();
    let mut result = judge(workload, settings, &stand, sampler, exit_code, starts);
    result.interrupted = ended == Verdict::Enough && !complete;
    result.given_up = ended == Verdict::GiveUp;
    Ok(result)
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
                let written = folder.join(crate::stand::config::FILE);
                std::fs::copy(&written, config).map_err(RunError::Folder)?;
                observe(Progress::WaitingForRouter { config });
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

    fn starts(&self) -> u32 {
        self.router.as_ref().map_or(0, |router| router.starts)
    }

    /// While events are created: samples, what the troubles ask for, and whether the end has come.
    #[allow(clippy::too_many_arguments)] // one call site; what it takes is what a run consists of
    async fn events(
        &mut self,
        workload: &Workload,
        settings: &Settings,
        stand: &Arc<Stand>,
        sampler: &mut Sampler,
        observe: &mut Observer<'_>,
        happened: &mpsc::UnboundedSender<Happened>,
        inbox: &mut mpsc::UnboundedReceiver<Happened>,
    ) -> Result<Verdict, RunError> {
        let mut ticks = ticks(settings);
        let mut looks = interval(Duration::from_millis(20));
        let driven = stand.driven();
        let driving = pace::drive(workload, &driven, happened);
        tokio::pin!(driving);
        loop {
            tokio::select! {
                () = &mut driving => return Ok(Verdict::GoOn),
                _ = looks.tick() => {
                    if is_over(workload, stand) {
                        stand.stop_events();
                        return Ok(Verdict::GoOn);
                    }
                }
                Some(happened) = inbox.recv() => self.note(happened, sampler).await?,
                _ = ticks.tick() => {
                    self.check_alive()?;
                    let sample = sampler.take(stand, self.pid(), &self.admin).await;
                    let (warm, verdict) = (sample.seconds >= settings.warm_up.as_secs_f64(), observe(Progress::Sample(sample)));
                    if warm && sampler.warm_from.is_none() {
                        stand.forget_latency();
                        sampler.warm_from = Some(sampler.samples.len());
                    }
                    if verdict != Verdict::GoOn {
                        stand.stop_events();
                        return Ok(verdict);
                    }
                }
            }
        }
    }

    /// Until nothing is missing or patience runs out. Returns whether all is there.
    async fn drain(
        &mut self,
        workload: &Workload,
        settings: &Settings,
        stand: &Stand,
        sampler: &mut Sampler,
        observe: &mut Observer<'_>,
        inbox: &mut mpsc::UnboundedReceiver<Happened>,
    ) -> Result<bool, RunError> {
        let mut ticks = ticks(settings);
        let draining = stand.drain(workload.goals.patience);
        tokio::pin!(draining);
        loop {
            tokio::select! {
                complete = &mut draining => return Ok(complete),
                Some(happened) = inbox.recv() => self.note(happened, sampler).await?,
                _ = ticks.tick() => {
                    self.check_alive()?;
                    if observe(Progress::Sample(sampler.take(stand, self.pid(), &self.admin).await)) == Verdict::GiveUp {
                        return Ok(false);
                    }
                }
            }
        }
    }

    async fn note(&mut self, happened: Happened, sampler: &mut Sampler) -> Result<(), RunError> {
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

    async fn stop(&mut self, at_once: bool) -> Result<Option<i32>, RouterError> {
        let Some(router) = &mut self.router else { return Ok(None) };
        if at_once {
            router.kill();
            return Ok(None);
        }
        Ok(router.stop().await?.and_then(|status| status.code()))
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
    exit_code: Option<i32>,
    starts: u32,
) -> RunResult {
    let report = stand.report();
    let cpu_seconds = sampler.usage.cpu_seconds();
    let events = report.total.unique;
    let generator_cpu_seconds = sampler.generator_cpu_seconds();
    let Sampler { samples, usage, counts, incidents, started_us, draining_from, warm_from, .. } = sampler;
    let from = warm_from.filter(|_| !settings.warm_up.is_zero()).unwrap_or(0);
    // What was waited for after the last event says little about load; where all was there from the start it is all there is.
    let loaded = match draining_from {
        Some(until) if until > from && workload.rate != Rate::None => from..until,
        _ => from.min(samples.len())..samples.len(),
    };
    let (busiest_stage, busiest_stage_share) = bottleneck::busiest_stage(&samples).unwrap_or_default();
    // Until the last sample in which something arrived.
    let seconds =
        samples.iter().rfind(|sample| sample.delivered_rate > 0.0).map_or(0.0, |sample| sample.seconds);
    let mut result = RunResult {
        format: FORMAT,
        workload: workload.name.clone(),
        description: workload.description.clone(),
        setup: result::setup(workload),
        machine: Machine::this(),
        seconds,
        unreadable: report.unreadable,
        strays: report.stray_sources.values().sum(),
        latency: report.latency,
        rate: if seconds > 0.0 { events as f64 / seconds } else { 0.0 },
        lag_events_max: samples.iter().map(|sample| sample.lag_events).max().unwrap_or_default(),
        router: RouterFigures {
            cpu_seconds,
            cpu_seconds_per_million: cpu_seconds.map(|cpu| cpu * 1e6 / events.max(1) as f64),
            rss_peak_bytes: cpu_seconds.map(|_| usage.rss_peak_bytes),
            busiest_stage: busiest_stage.to_owned(),
            busiest_stage_share,
            starts,
            exit_code,
            counts,
        },
        generator_cpu_seconds,
        limited_by: bottleneck::limited_by(workload, &samples[loaded.clone()], settings.cores()),
        busiest: bottleneck::busiest(workload, &samples[loaded.clone()], settings.cores()),
        loaded,
        totals: report.total,
        suspects: result::suspects(&report.sources, started_us),
        incidents,
        samples,
        ..RunResult::default()
    };
    result.failures = result.objections(workload, matches!(settings.whose, Whose::Theirs { .. }));
    result.passed = result.failures.is_empty();
    result
}
