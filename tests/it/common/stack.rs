//! The router between a synthetic vCenter and targets that verify, all on loopback.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use testbed::sink::{Sink, SinkOptions};
use testbed::vcenter::{Options, VCenter};
use testbed::verify::{Report, Tally, Verifier};
use tokio::runtime::Runtime;

use super::disk::Disk;
use super::router::Router;
use super::{free_address, wait_until};

/// Everything that a delivery takes. The runtime serves the vCenter and the targets; the router is a process of its own.
pub struct Stack {
    pub vcenter: VCenter,
    pub targets: Vec<Target>,
    pub admin: SocketAddr,
    /// Holds the configuration and the router's data directory.
    pub folder: TempDir,
    pub runtime: Runtime,
}

/// A target with its own verifier.
pub struct Target {
    pub sink: Sink,
    pub verifier: Arc<Verifier>,
    /// Lines of the processor's configuration after `url`.
    pub settings: String,
}

impl Stack {
    /// A vCenter, and one target for each of `settings` (lines of a processor, `mode: batched`).
    pub fn new(options: Options, settings: &[&str]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        let (vcenter, targets) = runtime.block_on(async {
            let vcenter = VCenter::start(options).await.expect("a vCenter on loopback");
            let mut targets = Vec::new();
            for settings in settings {
                let verifier = Arc::new(Verifier::strict());
                verifier.watch(&vcenter);
                let options = SinkOptions { keep: true, ..SinkOptions::default() };
                let sink = Sink::start(options, Arc::clone(&verifier)).await.expect("a target on loopback");
                targets.push(Target { sink, verifier, settings: settings.to_string() });
            }
            (vcenter, targets)
        });
        let folder = tempfile::tempdir().expect("a folder");
        Stack { vcenter, targets, admin: free_address(), folder, runtime }
    }

    /// The configuration, with `more` top-level lines and `source` lines of the source.
    pub fn config(&self, source: &str, more: &str) -> String {
        let options = Options::default();
        let mut text = format!(
            "apiVersion: event-router/v1\ndataDir: {}\nadmin:\n  bindAddress: {}\n{more}\nsources:\n  - name: vc\n    type: vcenter\n    address: {}\n    \
             username: {}\n    password: {:?}\n    startAt: beginning\n{}processors:\n",
            self.data().display(),
            self.admin,
            self.vcenter.url(),
            options.user,
            options.password,
            indented(source),
        );
        for (at, target) in self.targets.iter().enumerate() {
            let url = target.sink.url();
            text.push_str(&format!(
                "  - name: target-{at}\n    type: cloudevents\n    url: {url}\n{}",
                indented(&target.settings)
            ));
        }
        text
    }

    /// Starts the router and waits until it is ready.
    pub fn router(&self, source: &str, more: &str) -> Router {
        Router::start(self.folder.path(), self.admin, &self.config(source, more))
    }

    /// The disk below the data directory, for [`Stack::router_on`].
    pub fn disk(&self) -> Option<Disk> {
        Disk::of(&self.data())
    }

    /// As [`Stack::router`], on a disk that can be watched and broken.
    pub fn router_on(&self, disk: &Disk, logged: bool, source: &str, more: &str) -> Router {
        let mut router =
            Router::spawn_with(self.folder.path(), self.admin, &self.config(source, more), disk.env(logged));
        router.wait_ready();
        router
    }

    /// The router's data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

fn indented(lines: &str) -> String {
    lines.lines().map(|line| format!("    {line}\n")).collect()
}

impl Target {
    pub fn tally(&self) -> Tally {
        self.verifier.progress()
    }

    pub fn report(&self) -> Report {
        self.verifier.report()
    }

    /// Waits until `events` different events have come.
    pub fn wait_for(&self, events: u64, limit: Duration) {
        let came = wait_until(limit, || self.tally().unique >= events);
        assert!(came, "{} of {events} events came: {:?}", self.tally().unique, self.report());
    }
}
