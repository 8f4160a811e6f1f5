//! A child process whose output is kept line by line and which dies with its owner.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::wait_until;

/// This test binary with one of its ignored tests alone: a process that a test can kill or watch.
///
/// `module` is the caller's `module_path!()`, so that a test is found where it stands.
pub fn ignored_test(module: &str, name: &str) -> Command {
    let (_, module) = module.split_once("::").expect("a test is in a module of this binary");
    let mut command = Command::new(std::env::current_exe().expect("the path of this binary"));
    let test = format!("{module}::{name}");
    command.args(["--ignored", "--exact", &test, "--nocapture", "--test-threads=1"]);
    command
}

/// The lines that a process has written so far to one of its streams.
#[derive(Clone, Default)]
pub struct Lines(Arc<Mutex<Vec<String>>>);

impl Lines {
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn text(&self) -> String {
        self.all().join("\n")
    }

    pub fn contains(&self, wanted: &str) -> bool {
        self.all().iter().any(|line| line.contains(wanted))
    }

    /// Ends with the stream, that is with the process and those that it started.
    fn follow(&self, stream: impl Read + Send + 'static) -> JoinHandle<()> {
        let lines = self.clone();
        std::thread::spawn(move || {
            let mut reader = BufReader::new(stream);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
                let text = String::from_utf8_lossy(&line).trim_end().to_owned();
                lines.0.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                line.clear();
            }
        })
    }
}

/// A running process; killed and reaped on drop.
pub struct Process {
    pub stdout: Lines,
    pub stderr: Lines,
    pub child: Child,
    followers: [JoinHandle<()>; 2],
}

impl Process {
    /// Starts a command and captures its output. Its standard input stays as configured.
    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let (stdout, stderr) = (Lines::default(), Lines::default());
        let followers = [
            stdout.follow(child.stdout.take().expect("stdout is piped")),
            stderr.follow(child.stderr.take().expect("stderr is piped")),
        ];
        Self { stdout, stderr, child, followers }
    }

    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// The exit status, or `None` when it still runs after `limit`. All output has been read by
    /// then.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        wait_until(limit, || !self.running() && self.followers.iter().all(JoinHandle::is_finished));
        self.child.try_wait().expect("ask for the exit status of an own child")
    }

    /// SIGKILL, as `kill -9`: no destructor and no handler runs in the process.
    pub fn kill(&mut self) {
        // Fails only for a process that has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by its name (`TERM`, `HUP`). The standard library has only SIGKILL.
    pub fn signal(&mut self, name: &str) {
        assert!(self.running(), "no process to signal; it wrote: {}", self.stderr.text());
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .expect("run kill");
        assert!(status.success(), "kill -{name} failed");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}
