//! The router as a child process: started, observed, stopped, and killed if the run ends early.

use std::fs::File;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal};
use rustix::thread::CpuSet;
use tokio::time::{Instant, sleep};

use super::config;
use crate::measure::admin::Admin;

/// Time limit from the start to the first 200 of `/readyz`. A debug build on a loaded machine takes
/// some seconds, and the first attempt at a slow vCenter may take ten.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// Time limit from SIGTERM to the end: the router's own `shutdownTimeout` of 20 s, and the rest of
/// its shutdown.
const STOP_LIMIT: Duration = Duration::from_secs(40);
/// The polling interval for conditions.
const POLL: Duration = Duration::from_millis(10);
/// Maximum number of bytes of the router's log in an error; the last lines.
const LOG_SHOWN_BYTES: usize = 4_000;

#[derive(Debug, thiserror::Error)]
pub enum RouterError {
    #[error("cannot start the router {program}: {cause}; give its path with `--router`")]
    Start { program: String, cause: io::Error },
    #[error("there is no `event-router` beside {beside}; build it, or give its path with `--router`")]
    Missing { beside: String },
    #[error("the router ended ({status}); it wrote:\n{log}")]
    Ended { status: ExitStatus, log: String },
    #[error("the router is not ready after {} s: {why}; it wrote:\n{log}", READY_LIMIT.as_secs())]
    NotReady { why: String, log: String },
    #[error("cannot control the router: {0}")]
    Io(#[from] io::Error),
}

/// A router process. Killed and reaped on drop.
pub struct Router {
    program: PathBuf,
    folder: PathBuf,
    cpus: Option<Vec<usize>>,
    admin: Admin,
    child: Option<Child>,
    /// The number of starts so far.
    pub starts: u32,
}

/// Finds the router's binary: the given one, or the one beside this executable.
///
/// # Errors
/// There is none.
pub fn find(named: Option<&Path>) -> Result<PathBuf, RouterError> {
    if let Some(named) = named {
        return Ok(named.to_owned());
    }
    let own = std::env::current_exe()?;
    // Under `cargo test` an executable may be in `deps`, one level below the binaries.
    let beside = own.parent().unwrap_or(Path::new("."));
    [beside.join("event-router"), beside.join("../event-router")]
        .into_iter()
        .find(|path| path.is_file())
        .ok_or_else(|| RouterError::Missing { beside: own.display().to_string() })
}

/// A loopback address with a free port.
///
/// # Errors
/// No port is free.
pub fn free_address() -> io::Result<String> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.to_string())
}

impl Router {
    /// A router for the configuration in `folder`, not started yet.
    pub fn new(program: PathBuf, folder: &Path, admin: Admin, cpus: Option<Vec<usize>>) -> Router {
        Router { program, folder: folder.to_owned(), cpus, admin, child: None, starts: 0 }
    }

    /// Starts the router and waits until it is ready.
    ///
    /// # Errors
    /// It ends by itself, or is not ready in time.
    pub async fn start(&mut self) -> Result<(), RouterError> {
        self.spawn()?;
        let end = Instant::now() + READY_LIMIT;
        loop {
            if let Some(status) = self.ended()? {
                return Err(RouterError::Ended { status, log: self.log_tail() });
            }
            match self.admin.is_ready().await {
                Ok(true) => return Ok(()),
                Ok(false) if Instant::now() < end => {}
                Err(_) if Instant::now() < end => {}
                outcome => {
                    let why = outcome.err().unwrap_or_else(|| "/readyz reports not ready".into());
                    return Err(RouterError::NotReady { why, log: self.log_tail() });
                }
            }
            sleep(POLL).await;
        }
    }

    fn spawn(&mut self) -> Result<(), RouterError> {
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let mut command = Command::new(&self.program);
        command
            .args(["run", "--log-level", "info", "--config"])
            .arg(self.folder.join(config::FILE))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // A terminal sends Ctrl-C to the whole process group, but this process decides when the
            // router stops.
            .process_group(0);
        // A child inherits the affinity of the thread that starts it.
        let before = self.cpus.as_ref().map(|_| rustix::thread::sched_getaffinity(None)).transpose();
        let before = before.map_err(io::Error::from)?;
        if let Some(cpus) = &self.cpus {
            let mut set = CpuSet::new();
            cpus.iter().for_each(|cpu| set.set(*cpu));
            rustix::thread::sched_setaffinity(None, &set).map_err(io::Error::from)?;
        }
        let child = command.spawn();
        if let Some(before) = before {
            rustix::thread::sched_setaffinity(None, &before).map_err(io::Error::from)?;
        }
        let start = |cause| RouterError::Start { program: self.program.display().to_string(), cause };
        self.child = Some(child.map_err(start)?);
        self.starts += 1;
        Ok(())
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// The exit status, if the router has ended by itself.
    ///
    /// # Errors
    /// The system does not report it.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.as_mut().map_or(Ok(None), Child::try_wait)
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Killing fails only for a process that has ended.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Sends SIGTERM and returns the exit status; `None` if the router had to be killed.
    ///
    /// # Errors
    /// The system refuses the signal.
    pub async fn stop(&mut self) -> Result<Option<ExitStatus>, RouterError> {
        let Some(child) = &mut self.child else { return Ok(None) };
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        let pid = Pid::from_child(child);
        rustix::process::kill_process(pid, Signal::TERM).map_err(io::Error::from)?;
        let end = Instant::now() + STOP_LIMIT;
        while Instant::now() < end {
            if let Some(status) = self.ended()? {
                return Ok(Some(status));
            }
            sleep(POLL).await;
        }
        self.kill();
        Ok(None)
    }

    pub fn log_file(&self) -> PathBuf {
        self.folder.join("router.log")
    }

    /// The last lines of the router's log.
    pub fn log_tail(&self) -> String {
        let log = std::fs::read(self.log_file()).unwrap_or_default();
        let from = log.len().saturating_sub(LOG_SHOWN_BYTES);
        String::from_utf8_lossy(&log[from..]).trim_end().to_owned()
    }
}

impl Drop for Router {
    fn drop(&mut self) {
        self.kill();
    }
}
