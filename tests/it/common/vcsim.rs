//! vcsim, VMware's vCenter simulator, as a child process. `tests/peers/vcsim` documents its
//! commands and its quirks.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{ChildStdin, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use uuid::Uuid;

use super::child::Process;
use super::peer::peer;
use super::wait_until;

pub const USER: &str = "user";
/// Has the characters that break careless templates and parsers.
pub const PASSWORD: &str = r#"p$ss#"'\:%{}"#;

/// Start-up is well under a second; the limit is for a loaded machine.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Time for one command; posting thousands of events takes some seconds.
const COMMAND_LIMIT: Duration = Duration::from_secs(120);

/// A simulated vCenter on loopback. It stays the same one over restarts: port, instanceUuid and the
/// sequence of event keys are kept.
pub struct Vcsim {
    program: PathBuf,
    arguments: Vec<String>,
    instance_uuid: String,
    /// Its datastores; a killed simulator leaves them behind.
    folder: TempDir,
    /// The SDK URL, as `http://127.0.0.1:PORT/sdk`.
    url: String,
    /// The newest event key that an answer named.
    newest_key: i32,
    running: Option<(Process, ChildStdin)>,
    answered: usize,
}

impl Vcsim {
    /// Starts one with more arguments (`-tls`, `-vms 100`). Returns `None` when vcsim is missing
    /// and not required.
    pub fn start(arguments: &[&str]) -> Option<Self> {
        let mut vcsim = Self {
            program: peer("vcsim")?,
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            instance_uuid: Uuid::new_v4().to_string(),
            folder: TempDir::new().expect("make a folder for vcsim"),
            url: String::new(),
            newest_key: 0,
            running: None,
            answered: 0,
        };
        vcsim.launch(0, 0);
        Some(vcsim)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn address(&self) -> SocketAddr {
        let authority = self.url.split('/').nth(2).expect("an SDK URL has an authority");
        authority.parse().expect("vcsim listens on an IP address and port")
    }

    pub fn instance_uuid(&self) -> &str {
        &self.instance_uuid
    }

    /// The text after `ok` in the answer. Panics on `error`, and without an answer.
    pub fn command(&mut self, command: &str) -> String {
        match self.try_command(command) {
            Ok(answer) => answer,
            Err(message) => panic!("vcsim: `{command}`: {message}"),
        }
    }

    /// The text after `ok` in the answer, or the text after `error`.
    pub fn try_command(&mut self, command: &str) -> Result<String, String> {
        let (_, stdin) = self.running.as_mut().expect("vcsim was killed");
        writeln!(stdin, "{command}").map_err(|error| format!("write the command: {error}"))?;
        let line = self.next_line(COMMAND_LIMIT)?;
        let (verdict, rest) = line.split_once(' ').unwrap_or((&line, ""));
        match verdict {
            "ok" => Ok(rest.to_owned()),
            "error" => Err(rest.to_owned()),
            _ => Err(format!("unexpected answer: {line}")),
        }
    }

    /// Toggles the power of this many machines in turn: at least two events each. Returns the
    /// newest event's key.
    pub fn power(&mut self, machines: usize) -> i32 {
        let answer = self.command(&format!("power {machines}"));
        self.keep_key(&answer)
    }

    /// Posts events of a class, or of `EventEx/TYPE.ID`. Returns the newest event's key.
    pub fn post(&mut self, class: &str, count: usize) -> i32 {
        let answer = self.command(&format!("post {class} {count}"));
        self.keep_key(&answer)
    }

    pub fn latest_key(&mut self) -> i32 {
        let answer = self.command("latest");
        self.keep_key(&answer)
    }

    /// Terminates every session but its own; returns how many.
    pub fn kill_sessions(&mut self) -> usize {
        self.command("kill-sessions").parse().expect("a count of sessions")
    }

    /// Destroys every event collector; returns how many.
    pub fn destroy_collectors(&mut self) -> usize {
        self.command("destroy-collectors").parse().expect("a count of collectors")
    }

    /// `kill -9`. Events that nobody has read yet are gone, which a real vCenter would still have.
    pub fn kill(&mut self) {
        if self.running.is_some() {
            self.newest_key = self.latest_key();
        }
        self.running = None;
    }

    /// Kills it if it runs and starts it again at the same port, with the same instanceUuid and
    /// continued event keys.
    pub fn restart(&mut self) {
        self.kill();
        self.launch(self.address().port(), self.newest_key + 1);
    }

    fn launch(&mut self, port: u16, first_key: i32) {
        let mut process = Process::spawn(
            Command::new(&self.program)
                .args(["-user", USER, "-password", PASSWORD, "-instance-uuid", &self.instance_uuid])
                .args(["-port", &port.to_string(), "-first-key", &first_key.to_string()])
                .args(&self.arguments)
                .env("TMPDIR", self.folder.path())
                .stdin(Stdio::piped()),
        );
        let stdin = process.child.stdin.take().expect("stdin is piped");
        self.running = Some((process, stdin));
        self.answered = 0;
        let line =
            self.next_line(START_LIMIT).unwrap_or_else(|message| panic!("vcsim did not start: {message}"));
        let url = line.strip_prefix("listening ").unwrap_or_else(|| panic!("vcsim's first line is {line:?}"));
        url.clone_into(&mut self.url);
    }

    /// The next line that it prints; an error when it ended or said nothing within the limit.
    fn next_line(&mut self, limit: Duration) -> Result<String, String> {
        let (process, _) = self.running.as_mut().expect("vcsim was killed");
        let wanted = self.answered;
        let stdout = process.stdout.clone();
        wait_until(limit, || stdout.all().len() > wanted || !process.running());
        let line = stdout.all().get(wanted).cloned();
        self.answered += usize::from(line.is_some());
        line.ok_or_else(|| format!("no answer; its standard error: {}", process.stderr.text()))
    }

    fn keep_key(&mut self, answer: &str) -> i32 {
        let key = answer.split(' ').next().and_then(|key| key.parse().ok());
        self.newest_key = key.unwrap_or_else(|| panic!("vcsim named no key: {answer:?}"));
        self.newest_key
    }
}
