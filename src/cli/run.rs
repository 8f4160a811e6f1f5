//! `event-router run`: routes events until it is stopped.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, anyhow};
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use super::reloads::{Reloads, RunOverrides};
use super::{ConfigArgs, Exit, LogArgs};
use crate::admin::control::{ControlClient, ControlSocket, Orders};
use crate::admin::model::Model;
use crate::admin::replays::RangeReplays;
use crate::admin::{AdminError, Listener};
use crate::app::Router;
use crate::settings::{self, Config, Log, LogFormat, StateLocation};
use crate::supervise::{self, ServiceManager};
use crate::telemetry::{log, metrics};

/// Route events until SIGTERM or Ctrl-C.
///
/// The first signal (SIGTERM or Ctrl-C) stops reading, and gives deliveries in progress up to
/// `shutdownTimeout` to finish. A second signal ends the router at once. The next start delivers
/// the remaining events. SIGHUP applies the changed configuration, as `event-router reload` does,
/// and opens the files of processors of type `file` again, as logrotate expects.
///
/// The old router's command line (`-config FILE -log-level LEVEL -log-json -verbose`, without a
/// command) also works.
///
/// Exit codes: 0 every event was delivered, 1 failure (the message names the cause), 2 wrong
/// arguments or configuration, 3 stopped with undelivered events.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Write a JSON line to stdout for each delivery of an event: key, id, subject, destination,
    /// status, milliseconds, attempt
    #[arg(long)]
    log_invocations: bool,
    #[command(flatten)]
    log: LogArgs,
}

pub(super) fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    // The flags say already how to log that the configuration cannot be read.
    let file = super::config_file(&args.config);
    let Ok(file) = file else { return Ok(Exit::Usage) };
    let loaded = settings::load(&file);
    let (mut config, warnings) = match loaded {
        Ok(loaded) => loaded,
        Err(errors) if args.log.is_json() => {
            log::install(&args.log.over(&Log::default()));
            for problem in errors.to_string().lines() {
                tracing::error!(problem, "the configuration has an error");
            }
            return Ok(Exit::Usage);
        }
        Err(errors) => {
            super::complain(&errors.to_string());
            return Ok(Exit::Usage);
        }
    };
    let overrides = RunOverrides { log: args.log, log_invocations: args.log_invocations };
    overrides.apply(&mut config);
    let is_json = config.log.format == LogFormat::Json;
    log::install(&config.log);
    for warning in warnings {
        tracing::warn!(problem = %warning, "the configuration deserves attention");
    }
    let ended = route(config, &file, overrides);
    match ended {
        // Not on standard error as text, where every other line is JSON.
        Err(error) if is_json => {
            tracing::error!(error = format!("{error:#}"), "the router has failed");
            Ok(Exit::Failed)
        }
        ended => ended,
    }
}

/// Routes events until a signal or a failure.
fn route(config: Config, file: &Path, overrides: RunOverrides) -> anyhow::Result<Exit> {
    let prometheus = metrics::install();
    supervise::log_panics();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the I/O runtime")?;
    // Signals, the stop and the admin pages have a runtime of their own: a task that hangs in its
    // turn can keep all timers and sockets of a runtime from being served.
    let control_runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the control runtime")?;
    let ended = control_runtime.block_on(async {
        // Start the router.
        let listener = match Listener::bind(&config.admin).await {
            Err(error @ AdminError::Listen { .. }) => return Err(second_instance(&config, error)),
            listener => listener?,
        };
        let config = Arc::new(config);
        let (mut reloads, requests) = Reloads::new(file.to_owned(), overrides, runtime.handle().clone());
        let (mut router, control, model, orders) = {
            let _within = runtime.enter();
            let router = Router::start(Arc::clone(&config))?;
            supervise::watch(router.supervisor(), ServiceManager::from_env())?;
            let model = Model::start(router.view(), router.supervisor().clone());
            let orders = Orders {
                letters: router.dead_letters(),
                reloads: requests,
                replays: RangeReplays::new(file),
                model: model.clone(),
            };
            let control = ControlSocket::serve(router.state_dir(), orders.clone(), router.supervisor())?;
            let orders = watch::Sender::new(Some(orders));
            (router, control, model, orders)
        };
        let supervisor = router.supervisor().clone();
        let mut failed = supervisor.failed();
        let data_dir = match config.state {
            StateLocation::Dir(_) => std::path::absolute(router.state_dir())?.display().to_string(),
            StateLocation::Ephemeral => "none, since the configuration keeps no state".to_owned(),
        };
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            config = %file.display(),
            data_dir,
            admin = config.admin.bind_address.as_deref().unwrap_or("none"),
            sources = router.positions().join(", "),
            processors = config.processors.len(),
            "event router started"
        );
        let page_orders = orders.subscribe();
        if let Some(listener) = listener {
            tokio::spawn(listener.serve(model, page_orders, prometheus));
        }
        // Wait for a signal, or the failure of a part.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut hangup = signal(SignalKind::hangup())?;
        ServiceManager::ready();
        loop {
            let watches = router.config().reload_on_change;
            let cause = tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = failed.wait_for(Option::is_some) => break,
                _ = hangup.recv() => {
                    if router.reopen_files() {
                        tracing::info!("opening files again on SIGHUP");
                    }
                    None
                }
                cause = reloads.next(watches) => Some(cause),
            };
            // A signal to stop waits for the end of a reload, which takes a bounded time.
            let reloaded = match cause {
                Some(cause) => reloads.serve(cause, router).await,
                None => reloads.apply(router).await.map(|(router, _)| router),
            };
            router =
                reloaded.context("the reload panicked; this is a defect of the router, please report it")?;
        }
        if let Some(reason) = supervisor.failure() {
            // The last writes may not be durable. Write nothing more; unsettled events are read
            // again.
            anyhow::bail!("{reason}");
        }
        ServiceManager::stopping();
        // Stop. Remove the socket first, while the data directory still belongs to this process.
        drop(control);
        orders.send_replace(None);
        tracing::info!("finishing deliveries in progress; a second signal ends at once");
        let stopping = Instant::now();
        tokio::select! {
            drained = router.stop() => {
                let drained = drained?;
                let (settled, undelivered) = (drained.settled, drained.undelivered);
                tracing::info!(settled, undelivered, took_s = stopping.elapsed().as_secs_f64(), "stopped");
                Ok(if drained.settled { Exit::Done } else { Exit::Unsettled })
            }
            _ = terminate.recv() => Ok(Exit::Unsettled),
            _ = interrupt.recv() => Ok(Exit::Unsettled),
        }
    });
    // A task that hangs must not keep the process.
    runtime.shutdown_background();
    control_runtime.shutdown_background();
    ended
}

/// The reason why the admin port is in use: another router on the same data directory is a better
/// one than its port.
fn second_instance(config: &Config, error: AdminError) -> anyhow::Error {
    let dir = match &config.state {
        StateLocation::Dir(dir) => dir,
        StateLocation::Ephemeral => return error.into(),
    };
    match ControlClient::connect(dir) {
        Ok(Some(_)) => anyhow!(
            "another event-router runs with the data directory `{}` (and its address for `admin` is in use); stop it, or give this one a `dataDir` and an `admin.bindAddress` of its own",
            dir.display()
        ),
        _ => error.into(),
    }
}
