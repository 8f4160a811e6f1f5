//! Runs the program, and programs beside it.

pub mod browser;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{ChildStderr, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal};

/// Exit code and output of a run.
#[derive(Debug)]
pub struct Outcome {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Outcome {
    /// The JSON on stdout, of a run that ended with this code.
    pub fn json(&self, code: i32) -> serde_json::Value {
        assert_eq!(self.code, code, "stdout: {}\nstderr: {}", shortened(&self.stdout), self.stderr);
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {}", self.stdout))
    }
}

/// The text up to the samples, which are long.
fn shortened(text: &str) -> &str {
    &text[..text.find("\"samples\"").unwrap_or(text.len())]
}

/// Runs `loadtest` to its end.
pub fn loadtest(arguments: &[&str]) -> Outcome {
    // The help is as wide as the terminal.
    let output = Command::new(env!("CARGO_BIN_EXE_loadtest"))
        .args(arguments)
        .env("COLUMNS", "120")
        .stdin(Stdio::null())
        .output();
    let output = output.unwrap();
    Outcome {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The router that `cargo test --workspace` has built beside `loadtest`.
pub fn router() -> &'static str {
    static ROUTER: OnceLock<String> = OnceLock::new();
    ROUTER.get_or_init(|| {
        let path = PathBuf::from(env!("CARGO_BIN_EXE_loadtest")).with_file_name("event-router");
        assert!(path.is_file(), "{} is missing; run `cargo test --workspace`", path.display());
        path.to_string_lossy().into_owned()
    })
}

/// A program that is killed at the end of its test.
pub struct Child(std::process::Child);

/// A `loadtest` that works, with its temporary files in a folder of its own.
pub struct Working {
    child: std::process::Child,
    folder: tempfile::TempDir,
    stderr: BufReader<ChildStderr>,
}

impl Working {
    pub fn start(arguments: &[&str]) -> Working {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command.args(arguments).env("TMPDIR", folder.path()).stdin(Stdio::null());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        Working { child, folder, stderr }
    }

    /// Runs a workload of this text with the real router, and returns when the router at its admin
    /// address is `ready` for the test.
    pub fn run(workload: &str, ready: impl Fn(&str) -> bool) -> Working {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("w.yaml");
        std::fs::write(&file, workload).unwrap();
        let arguments = ["run", file.to_str().unwrap(), "--json", "-", "--router", router()];
        let working = Working::start(&arguments);
        wait_until("a router that works", || working.admin().is_some_and(|admin| ready(&admin)));
        working
    }

    /// Folders that it made or left behind; one holds the files of its router.
    pub fn folders(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// Of its router's admin listener.
    fn admin(&self) -> Option<String> {
        let config = std::fs::read_to_string(self.folders().first()?.join("router.yaml")).ok()?;
        let (_, rest) = config.split_once("bindAddress: '")?;
        Some(rest.split_once('\'')?.0.to_owned())
    }

    /// The router's process and the group that it is in.
    pub fn router(&self) -> (u32, u32) {
        for process in std::fs::read_dir("/proc").unwrap() {
            let stat = std::fs::read_to_string(process.unwrap().path().join("stat")).unwrap_or_default();
            // proc_pid_stat(5): the name in parentheses, then state, parent and group.
            let Some((pid, after)) = stat.split_once(" (event-router) ") else { continue };
            let fields: Vec<&str> = after.split(' ').collect();
            if fields[1].parse() == Ok(self.child.id()) {
                return (pid.parse().unwrap(), fields[2].parse().unwrap());
            }
        }
        panic!("there is no router");
    }

    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Reads its output up to a line that contains `part`.
    pub fn until_said(&mut self, part: &str) {
        let mut line = String::new();
        while !line.contains(part) {
            line.clear();
            assert_ne!(self.stderr.read_line(&mut line).unwrap(), 0, "it ended without saying `{part}`");
        }
    }

    /// Closes stderr, then waits for the end.
    pub fn without_listener(self) -> Outcome {
        let Working { mut child, folder: _folder, stderr } = self;
        drop(stderr);
        let mut stdout = String::new();
        child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        Outcome { code: child.wait().unwrap().code().unwrap_or(-1), stdout, stderr: String::new() }
    }

    /// Waits for its end.
    pub fn end(&mut self) -> Outcome {
        let (mut stdout, mut stderr) = (String::new(), String::new());
        self.child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
        self.stderr.read_to_string(&mut stderr).unwrap();
        let code = self.child.wait().unwrap().code().unwrap_or(-1);
        Outcome { code, stdout, stderr }
    }
}

/// One `GET` without any library: empty where nobody answers.
pub fn get(address: &str, path: &str) -> String {
    let mut answer = String::new();
    if let Ok(mut stream) = TcpStream::connect(address) {
        let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
        // Whoever breaks off has not answered.
        let _ = stream.write_all(request.as_bytes()).and_then(|()| stream.read_to_string(&mut answer));
    }
    answer
}

/// Events that a router has delivered, by its own count.
pub fn delivered(admin: &str) -> u64 {
    let metrics = get(admin, "/metrics");
    let line =
        metrics.lines().find(|line| line.starts_with("event_router_destination_delivered_events_total{"));
    line.map_or(0, |line| line.rsplit(' ').next().unwrap().parse().unwrap())
}

/// A server of `loadtest` that has said where it is.
pub struct Server {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// The first line that it wrote.
    pub said: String,
}

impl Server {
    pub fn start(arguments: &[&str]) -> Server {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut child = Child(command.spawn().unwrap());
        let mut stdout = BufReader::new(child.0.stdout.take().unwrap());
        let mut said = String::new();
        stdout.read_line(&mut said).unwrap();
        assert!(said.starts_with("http"), "{said}");
        Server { child, stdout, said }
    }

    /// Its URL.
    pub fn url(&self) -> &str {
        self.said.split_whitespace().next().unwrap()
    }

    /// Interrupts it, as Ctrl-C does. Returns its exit code and its output.
    pub fn stop(mut self) -> (i32, String) {
        let pid = Pid::from_child(&self.child.0);
        rustix::process::kill_process(pid, Signal::INT).unwrap();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.child.0.wait().unwrap().code().unwrap(), rest)
    }
}

/// Waits until the condition holds; panics with `what` after a minute.
pub fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1_200 {
        if is_so() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{what} does not come true within a minute");
}

impl Child {
    pub fn start(program: &str, arguments: &[&str]) -> Child {
        let mut command = Command::new(program);
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Child(command.spawn().unwrap())
    }

    pub fn is_running(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
