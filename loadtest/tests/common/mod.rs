//! Runs the program, and programs beside it.
#![allow(dead_code, reason = "each test binary uses a part")]

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal};

/// What a run of the program came to.
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

/// Without the samples, which are long.
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

    /// Ctrl-C; returns its exit code and what it wrote.
    pub fn stop(mut self) -> (i32, String) {
        let pid = Pid::from_child(&self.child.0);
        rustix::process::kill_process(pid, Signal::INT).unwrap();
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.child.0.wait().unwrap().code().unwrap(), rest)
    }
}

/// Looks again and again until it is so.
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
