//! Replays of a time range that the operator's page starts.
//!
//! ```text
//! page ─► RangeReplays::start ─► process `event-router replay --json` ─► RangeReplayJob
//! ```
//!
//! Each runs as a process of its own, with a session of its own at the vCenter. So it shares no
//! memory, no metric and no failure with the router. One runs at a time.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use crate::limits::{PAGE_REPLAY_ERRORS_BYTES_MAX, REASON_BYTES_MAX};
use crate::outside;

/// The running program, also after an upgrade has replaced its file.
const PROGRAM: &str = "/proc/self/exe";
/// Variables by which a service manager knows the router itself.
const OF_THE_SERVICE: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"];

/// The range and the destination, as an operator typed them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ReplayForm {
    pub source: String,
    pub from: String,
    pub to: String,
    pub destination: String,
}

/// A line of `event-router replay --json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplayProgress {
    /// The first time of the range, RFC 3339.
    pub from: String,
    /// The last time of the range, RFC 3339.
    pub to: String,
    /// Events that the destination has taken, or would get.
    pub delivered: u64,
    /// Events that were refused for good.
    pub refused: u64,
    /// Events that were read and not delivered. Absent before the end, and if it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub undelivered: Option<u64>,
    /// Absent before the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<RangeReplayEnd>,
}

/// The end of a replay.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RangeReplayEnd {
    /// All events were delivered.
    Done,
    /// Some events were refused for good.
    Refused,
    /// Some events were not delivered in time.
    Undelivered,
    /// A signal ended it.
    Interrupted,
}

/// The last replay, or the one that runs.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RangeReplayJob {
    pub form: ReplayForm,
    /// Counts only.
    pub is_dry_run: bool,
    pub is_running: bool,
    pub progress: ReplayProgress,
    /// The reason of a failure.
    pub error: Option<String>,
}

/// Starts replays, and knows the last one. Dropping the last clone ends the one that runs.
#[derive(Clone)]
pub struct RangeReplays(Arc<Starter>);

struct Starter {
    config: PathBuf,
    running: Arc<Mutex<RunningReplay>>,
}

#[derive(Default)]
struct RunningReplay {
    job: Option<RangeReplayJob>,
    /// Set while the process runs, or has ended and nobody has asked for its exit code.
    child: Option<Child>,
}

impl RangeReplays {
    /// Replays with the configuration in the file `config`.
    pub fn new(config: &Path) -> Self {
        RangeReplays(Arc::new(Starter { config: config.to_owned(), running: Arc::default() }))
    }

    /// The last replay, or the one that runs.
    pub fn job(&self) -> Option<RangeReplayJob> {
        lock(&self.0.running).job.clone()
    }

    /// Starts a replay, or only counts its events. Must run within a tokio runtime.
    ///
    /// # Errors
    /// Returns, in words, why none can start. What is wrong with the form is in the job later.
    pub fn start(&self, form: ReplayForm, is_dry_run: bool) -> Result<(), String> {
        let mut running = lock(&self.0.running);
        if running.child.is_some() {
            return Err("Another replay runs. Wait for its end, or stop it.".to_owned());
        }
        let mut command = Command::new(PROGRAM);
        command.arg("replay").arg("--json").arg("--config").arg(&self.0.config);
        let ReplayForm { source, from, to, destination } = &form;
        for (name, value) in [("source", source), ("from", from), ("to", to), ("destination", destination)] {
            command.arg(format!("--{name}={value}"));
        }
        if is_dry_run {
            command.arg("--dry-run");
        }
        for variable in OF_THE_SERVICE {
            command.env_remove(variable);
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|error| format!("The replay cannot be started: {error}."))?;
        let lines = child.stdout.take().expect("it is piped");
        let errors = child.stderr.take().expect("it is piped");
        running.child = Some(child);
        running.job = Some(RangeReplayJob { form, is_dry_run, is_running: true, ..Default::default() });
        let shared = Arc::clone(&self.0.running);
        tokio::task::spawn_blocking(move || {
            let errors = std::thread::scope(|scope| {
                let errors = scope.spawn(|| last_of(errors));
                follow(&shared, lines);
                errors.join().unwrap_or_default()
            });
            end(&shared, &errors);
        });
        Ok(())
    }

    /// Has the running replay finish what is under way, and end.
    pub fn stop(&self) {
        lock(&self.0.running).terminate();
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        lock(&self.running).terminate();
    }
}

impl RunningReplay {
    fn terminate(&self) {
        // Its number belongs to it until somebody asks for its exit code, in `end`.
        let pid = self.child.as_ref().and_then(|child| Pid::from_raw(child.id().cast_signed()));
        if let Some(pid) = pid {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

/// Reads the progress until the process closes its output.
fn follow(shared: &Mutex<RunningReplay>, lines: impl Read) {
    for line in BufReader::new(lines).lines().map_while(Result::ok) {
        if let (Ok(progress), Some(job)) = (serde_json::from_str(&line), &mut lock(shared).job) {
            job.progress = progress;
        }
    }
}

/// The last bytes of what a process writes to standard error.
fn last_of(mut errors: impl Read) -> String {
    let (mut kept, mut buffer) = (Vec::new(), [0; 4_096]);
    while let Ok(read @ 1..) = errors.read(&mut buffer) {
        kept.extend_from_slice(&buffer[..read]);
        let excess = kept.len().saturating_sub(PAGE_REPLAY_ERRORS_BYTES_MAX);
        kept.drain(..excess);
    }
    String::from_utf8_lossy(&kept).into_owned()
}

/// Notes the end of the process, whose outputs are closed.
fn end(shared: &Mutex<RunningReplay>, errors: &str) {
    let mut running = lock(shared);
    let Some(mut child) = running.child.take() else { return };
    // It has closed its outputs, so it ends now.
    let status = child.wait();
    let Some(job) = &mut running.job else { return };
    job.is_running = false;
    if job.progress.ended.is_none() {
        // An error comes with advice below it, or with the log above it.
        let is_error = |line: &&str| line.starts_with("error: ") || line.starts_with("event-router: ");
        let mut lines = errors.lines().filter(|line| !line.trim().is_empty());
        let reason = lines.clone().find(is_error).or_else(|| lines.next_back());
        let reason =
            reason.map(|line| line.split_once(": ").filter(|_| is_error(&line)).map_or(line, |it| it.1));
        let reason = reason.map_or_else(
            || status.map_or_else(|error| error.to_string(), |status| format!("it ended with {status}")),
            |line| outside::text(line, REASON_BYTES_MAX),
        );
        job.error = Some(reason);
    }
}

fn lock(running: &Mutex<RunningReplay>) -> MutexGuard<'_, RunningReplay> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_has_only_what_is_known() {
        let check = |progress: ReplayProgress, expected: &str| {
            let line = serde_json::to_string(&progress).expect("numbers and words are JSON");
            assert_eq!(line, expected);
            assert_eq!(serde_json::from_str::<ReplayProgress>(&line).ok(), Some(progress));
        };
        let began = ReplayProgress { from: "a".into(), to: "b".into(), ..ReplayProgress::default() };
        check(began.clone(), r#"{"from":"a","to":"b","delivered":0,"refused":0}"#);
        let ended = Some(RangeReplayEnd::Refused);
        check(
            ReplayProgress { delivered: 7, refused: 1, undelivered: Some(0), ended, ..began },
            r#"{"from":"a","to":"b","delivered":7,"refused":1,"undelivered":0,"ended":"refused"}"#,
        );
    }

    #[test]
    fn the_last_bytes_of_the_errors_are_kept() {
        let text = "x".repeat(PAGE_REPLAY_ERRORS_BYTES_MAX) + "the end";
        let kept = last_of(text.as_bytes());
        assert!(kept.len() == PAGE_REPLAY_ERRORS_BYTES_MAX && kept.ends_with("xthe end"), "{kept}");
    }
}
