//! `event-router run`: routes events until it is told to stop.

use std::sync::Arc;

use anyhow::Context;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use super::{ConfigArgs, Exit, LogArgs};
use crate::admin::Listener;
use crate::admin::control::ControlSocket;
use crate::app::Router;
use crate::telemetry::{log, metrics};

/// Route events until SIGTERM or Ctrl-C.
///
/// The first signal stops reading and delivers what is under way (`shutdownTimeout`), the second ends at once. What was not delivered is read again at the next start.
///
/// The old router's command line (`-config FILE -log-level LEVEL -log-json -verbose`, without a command) does the same.
///
/// Exit codes: 0 all was delivered, 1 failed (the message says at what), 2 wrong arguments or configuration, 3 stopped with events that are not delivered yet.
#[derive(Debug, Args)]
pub struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Write one line to stdout for each invocation: key, id, subject, destination, status, milliseconds, attempt
    #[arg(long)]
    log_invocations: bool,
    #[command(flatten)]
    log: LogArgs,
}

pub(super) fn run(args: &RunArgs) -> anyhow::Result<Exit> {
    let mut config = match super::load(&args.config) {
        Ok((_, config)) => config,
        Err(end) => return Ok(end),
    };
    config.log = args.log.over(&config.log);
    config.log.invocations |= args.log_invocations;
    log::install(&config.log);
    let prometheus = metrics::install();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the I/O runtime")?;
    runtime.block_on(async {
        let listener = Listener::bind(&config.admin).await?;
        let config = Arc::new(config);
        let router = Router::start(Arc::clone(&config))?;
        let mut failed = router.failed();
        tracing::info!(
            sources = config.sources.len(),
            processors = config.processors.len(),
            version = env!("CARGO_PKG_VERSION"),
            "event router started"
        );
        let control = ControlSocket::serve(router.state_dir(), router.dead_letters())?;
        if let Some(listener) = listener {
            tokio::spawn(listener.serve(router.view(), prometheus, failed.clone()));
        }
        let mut terminate = signal(SignalKind::terminate())?;
        // Of a terminal that was closed, or of somebody who takes it for a wish to read the configuration again: nothing is lost either way.
        let mut hangup = signal(SignalKind::hangup())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = hangup.recv() => tracing::info!("SIGHUP: the configuration is read at the start, so this one ends"),
            result = tokio::signal::ctrl_c() => result?,
            _ = failed.wait_for(Option::is_some) => {}
        }
        if let Some(reason) = failed.borrow().clone() {
            // Whether the last writes are durable is unknown: nothing more is written, what is unsettled is read again.
            anyhow::bail!("{reason}");
        }
        // While the directory is still ours: the next router has a socket of its own.
        drop(control);
        tracing::info!("stopping: delivering what is under way; a second signal ends at once");
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
    })
}
