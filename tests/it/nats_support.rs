//! A real nats-server, and a look into its streams.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use async_nats::jetstream::message::StreamMessage;
use async_nats::{Client, ConnectOptions};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::common::child::Process;
use crate::common::config::{RouterConfig, Section};
use crate::common::peer::peer;
use crate::common::router::Launch;
use crate::common::stack::Stack;
use crate::common::{free_address, wait_until};

const LIMIT: Duration = Duration::from_secs(60);

/// A server with JetStream on its own disk, which outlives a kill.
pub struct NatsServer {
    program: PathBuf,
    pub address: SocketAddr,
    folder: TempDir,
    process: Process,
}

impl NatsServer {
    /// A server with `more` in its configuration. `None` where the program is missing and may be.
    pub fn start(more: &str) -> Option<Self> {
        peer("nats-server")?;
        let (address, folder) = (free_address(), tempfile::tempdir().expect("a folder"));
        let config = format!(
            "listen: \"{address}\"\njetstream {{ store_dir: {:?}, sync_interval: always }}\n{more}\n",
            folder.path().join("data"),
        );
        std::fs::write(folder.path().join("nats.conf"), config).expect("write the server's configuration");
        Self::start_in(folder, address)
    }

    /// A server with the configuration `nats.conf` of `folder`, in which it listens on `address`.
    pub fn start_in(folder: TempDir, address: SocketAddr) -> Option<Self> {
        let program = peer("nats-server")?;
        let process = spawn(&program, &folder);
        let mut server = NatsServer { program, address, folder, process };
        server.wait_ready();
        Some(server)
    }

    /// Three servers of one cluster, which may not have a leader yet. `None` as for one.
    pub fn three() -> Option<Vec<Self>> {
        let routes: Vec<_> = (0..3).map(|_| free_address()).collect();
        let all = routes.iter().map(|route| format!("\"nats://{route}\"")).collect::<Vec<_>>().join(", ");
        let more = |(n, route)| {
            format!(
                "server_name: n{n}\ncluster {{ name: c, listen: \"{route}\", no_advertise: true, routes: [{all}] }}"
            )
        };
        routes.iter().enumerate().map(|at| Self::start(&more(at))).collect()
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    /// `kill -9`, and a new start on the same disk.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = spawn(&self.program, &self.folder);
        self.wait_ready();
    }

    /// Stops and continues its process, by `STOP` and `CONT`.
    pub fn signal(&mut self, name: &str) {
        self.process.signal(name);
    }

    fn wait_ready(&mut self) {
        let up =
            wait_until(LIMIT, || !self.process.running() || self.process.stderr.contains("Server is ready"));
        assert!(up && self.process.running(), "nats-server: {}", self.process.stderr.text());
    }

    /// All messages of a stream in order.
    pub async fn messages(&self, stream: &str) -> Vec<StreamMessage> {
        let client = async_nats::connect(self.url()).await.expect("the server runs");
        let stream = async_nats::jetstream::new(client).get_stream(stream).await.expect("the stream exists");
        let mut messages = Vec::new();
        for sequence in 1..=stream.cached_info().state.last_sequence {
            messages.push(stream.get_raw_message(sequence).await.expect("nothing removes a message"));
        }
        messages
    }

    /// The number of messages in a stream; 0 while the server does not answer.
    pub async fn count(&self, stream: &str) -> u64 {
        Self::count_by(async_nats::connect(self.url()).await.ok(), stream).await
    }

    /// The same, as a user of the server.
    pub async fn count_as(&self, stream: &str, user: &str, password: &str) -> u64 {
        let options = ConnectOptions::with_user_and_password(user.into(), password.into());
        Self::count_by(options.connect(self.url()).await.ok(), stream).await
    }

    async fn count_by(client: Option<Client>, stream: &str) -> u64 {
        let Some(client) = client else { return 0 };
        let stream = async_nats::jetstream::new(client).get_stream(stream).await;
        stream.map_or(0, |stream| stream.cached_info().state.messages)
    }
}

fn spawn(program: &PathBuf, folder: &TempDir) -> Process {
    let mut command = Command::new(program);
    Process::spawn(command.arg("-c").arg(folder.path().join("nats.conf")).stdin(Stdio::null()))
}

/// Exit code and all output of a command.
pub fn command(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Launch::new(arguments.iter().copied()).command().output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (output.status.code(), text(&output.stdout) + &text(&output.stderr))
}

/// A router that publishes to `server` what the vCenter of `stack` has.
pub fn config(stack: &Stack, server: &NatsServer) -> RouterConfig {
    config_with(stack, json!(server.url()))
}

/// The same for the servers of a cluster.
pub fn config_with(stack: &Stack, servers: Value) -> RouterConfig {
    let nats = Section::default()
        .set("name", "log")
        .set("type", "nats")
        .set("servers", servers)
        .set("timeout", "2s")
        .set("retry", json!({"backoffMin": "50ms", "backoffMax": "100ms"}))
        .set("breaker", json!({"probeInterval": "100ms"}));
    stack.config().processor(nats)
}
