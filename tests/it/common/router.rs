//! The router as its users have it: the binary, a configuration file, a data folder.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use super::child::{Lines, Process};
use super::{http_get, wait_until};

/// Time from the start to the first 200 of /readyz: seconds for a debug build on a loaded machine.
const READY_LIMIT: Duration = Duration::from_secs(60);
/// One look at /readyz.
const GET_LIMIT: Duration = Duration::from_secs(5);

/// A running router. Its folder belongs to the caller, so that it outlives a crash.
pub struct Router {
    launch: Launch,
    admin: SocketAddr,
    process: Process,
}

/// A command line of the router.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    arguments: Vec<OsString>,
    env: Vec<(String, String)>,
    folder: Option<PathBuf>,
}

impl Launch {
    /// These arguments, and no configuration in the environment.
    pub fn new<A: Into<OsString>>(arguments: impl IntoIterator<Item = A>) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Launch { arguments, ..Launch::default() }
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Starts in this working directory.
    pub fn folder(mut self, folder: &Path) -> Self {
        self.folder = Some(folder.into());
        self
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_event-router"));
        command.args(&self.arguments).stdin(Stdio::null());
        command.env_remove("EVENT_ROUTER_CONFIG").env_remove("STATE_DIRECTORY").env_remove("RUST_LOG");
        command.envs(self.env.iter().map(|(name, value)| (name, value)));
        if let Some(folder) = &self.folder {
            command.current_dir(folder);
        }
        command
    }
}

impl Router {
    /// Writes `config` to `folder/config.yaml`, starts `event-router run` on it, and waits for
    /// /readyz at `admin`, which the configuration must name. Panics with the output when the
    /// router ends or is not ready in time.
    pub fn start(folder: &Path, admin: SocketAddr, config: &str) -> Self {
        let mut router = Self::spawn(folder, admin, config);
        router.wait_ready();
        router
    }

    /// As [`Router::start`], without waiting: for a start that must fail.
    pub fn spawn(folder: &Path, admin: SocketAddr, config: &str) -> Self {
        Self::spawn_with(folder, admin, config, Vec::new())
    }

    /// As [`Router::spawn`], with more in its environment.
    pub fn spawn_with(folder: &Path, admin: SocketAddr, config: &str, env: Vec<(String, String)>) -> Self {
        let config_file = folder.join("config.yaml");
        std::fs::write(&config_file, config).expect("write the router's configuration");
        let launch = Launch::new([OsString::from("run"), "--config".into(), config_file.into()]);
        Self::launch(admin, Launch { env, ..launch })
    }

    /// Starts a command line that is to listen at `admin`, without waiting.
    pub fn launch(admin: SocketAddr, launch: Launch) -> Self {
        let process = Process::spawn(&mut launch.command());
        Self { launch, admin, process }
    }

    pub fn wait_ready(&mut self) {
        let (admin, process) = (self.admin, &mut self.process);
        let mut last = String::new();
        let ready = wait_until(READY_LIMIT, || {
            match http_get(admin, "/readyz", GET_LIMIT) {
                Ok((200, _)) => return true,
                Ok((status, body)) => last = format!("{status} {body}"),
                Err(error) => last = error.to_string(),
            }
            !process.running()
        });
        assert!(
            ready && process.running(),
            "the router is not ready: {last}\nstdout: {}\nstderr: {}",
            process.stdout.text(),
            process.stderr.text()
        );
    }

    /// Returns true if `/readyz` says that the router is ready.
    pub fn is_ready(&self) -> bool {
        matches!(http_get(self.admin, "/readyz", GET_LIMIT), Ok((200, _)))
    }

    /// The Prometheus page.
    pub fn metrics(&self) -> String {
        let (status, body) = http_get(self.admin, "/metrics", GET_LIMIT).expect("GET /metrics");
        assert_eq!(status, 200, "GET /metrics: {body}");
        body
    }

    /// A metric of one source, destination or stage (`""`: of the process), summed over its other
    /// labels. A missing metric is 0.
    pub fn metric(&self, name: &str, of: &str) -> f64 {
        let wanted = format!("=\"{of}\"");
        let value = |line: &str| {
            let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
            let is_wanted = match of {
                "" => labels.is_empty(),
                _ => labels.starts_with('{') && labels.contains(&wanted),
            };
            is_wanted.then(|| value.parse::<f64>().ok())?
        };
        self.metrics().lines().filter_map(value).sum()
    }

    pub fn stdout(&self) -> &Lines {
        &self.process.stdout
    }

    pub fn stderr(&self) -> &Lines {
        &self.process.stderr
    }

    /// Of the process that runs now.
    pub fn pid(&self) -> u32 {
        self.process.child.id()
    }

    /// The most memory that the process ever had, in KiB.
    pub fn peak_rss_kib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("Linux's /proc");
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the process runs");
        line.trim().trim_end_matches(" kB").parse().expect("a number of KiB")
    }

    pub fn running(&mut self) -> bool {
        self.process.running()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Kills it if it runs and starts it again on the same configuration, with empty output.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = Process::spawn(&mut self.launch.command());
        self.wait_ready();
    }

    /// Sends a signal by its name (`HUP`).
    pub fn signal(&mut self, name: &str) {
        self.process.signal(name);
    }

    /// SIGTERM, then its exit status; panics when it still runs after `limit`.
    pub fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.process.signal("TERM");
        self.wait(limit)
    }

    /// Its exit status when it ends by itself; panics when it still runs after `limit`.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let status = self.process.wait(limit);
        status.unwrap_or_else(|| panic!("the router still runs; stderr: {}", self.process.stderr.text()))
    }
}
