//! `event-router run`: routes events until it is stopped.

use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigArgs, Exit, LogArgs};
use crate::admin::Listener;
use crate::admin::control::ControlSocket;
use crate::app::Router;
use crate::supervise::{self, ServiceManager};
use crate::telemetry::{log, metrics};

/// Route events until SIGTERM or Ctrl-C.
///
/// The first signal (SIGTERM, SIGHUP or Ctrl-C) stops reading, and gives deliveries in progress up
/// to `shutdownTimeout` to finish. A second signal ends the router at once. The next start delivers
/// the remaining events. A router with a processor of type `file` does not stop on SIGHUP: it opens
/// its files again, as logrotate expects.
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
    // Load the configuration, and install log and metrics.
    let mut config = match super::load(&args.config) {
        Ok((_, config)) => config,
        Err(end) => return Ok(end),
    };
    config.log = args.log.over(&config.log);
    config.log.invocations |= args.log_invocations;
    log::install(&config.log);
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
        let listener = Listener::bind(&config.admin).await?;
        let config = Arc::new(config);
        let (router, control) = {
            let _within = runtime.enter();
            let router = Router::start(Arc::clone(&config))?;
            supervise::watch(router.supervisor(), ServiceManager::from_env())?;
            let control =
                ControlSocket::serve(router.state_dir(), router.dead_letters(), router.supervisor())?;
            (router, control)
        };
        let supervisor = router.supervisor().clone();
        let mut failed = supervisor.failed();
        tracing::info!(
            sources = config.sources.len(),
            processors = config.processors.len(),
            version = env!("CARGO_PKG_VERSION"),
            "event router started"
        );
        if let Some(listener) = listener {
            tokio::spawn(listener.serve(router.view(), prometheus, supervisor.clone()));
        }
        // Wait for a signal, or the failure of a part.
        let mut terminate = signal(SignalKind::terminate())?;
        // The terminal was closed, or somebody expects a reload. Stopping loses nothing in either
        // case. With files, logrotate has moved them.
        let mut hangup = signal(SignalKind::hangup())?;
        ServiceManager::ready();
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = hangup.recv() => {
                    if router.reopen_files() {
                        tracing::info!("opening files again on SIGHUP");
                        continue;
                    }
                    tracing::info!("stopping on SIGHUP: the configuration is read only at the start");
                }
                result = tokio::signal::ctrl_c() => result?,
                _ = failed.wait_for(Option::is_some) => {}
            }
            break;
        }
        if let Some(reason) = supervisor.failure() {
            // The last writes may not be durable. Write nothing more; unsettled events are read
            // again.
            anyhow::bail!("{reason}");
        }
        ServiceManager::stopping();
        // Stop. Remove the socket first, while the data directory still belongs to this process.
        drop(control);
        tracing::info!("finishing deliveries in progress; a second signal ends at once");
        tokio::select! {
            drained = router.stop() => {
                let drained = drained?;
                tracing::info!(settled = drained.settled, "stopped");
                Ok(if drained.settled { Exit::Done } else { Exit::Unsettled })
            }
            _ = terminate.recv() => Ok(Exit::Unsettled),
            _ = hangup.recv() => Ok(Exit::Unsettled),
            _ = tokio::signal::ctrl_c() => Ok(Exit::Unsettled),
        }
    });
    // A task that hangs must not keep the process.
    runtime.shutdown_background();
    control_runtime.shutdown_background();
    ended
}
