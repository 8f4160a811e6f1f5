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

use super::config::{RouterConfig, Section};
use super::disk::Disk;
use super::router::Router;
use super::{free_address, wait_until};

/// All parts of a delivery. The runtime serves the vCenter and the targets; the router is a process
/// of its own.
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
    /// The settings of its processor beside the URL.
    pub settings: Section,
}

impl Stack {
    /// A vCenter, and one target for each of `settings`, which are those of a processor or only its
    /// content mode.
    pub fn new<S: Into<Section>>(options: Options, settings: impl IntoIterator<Item = S>) -> Self {
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
                targets.push(Target { sink, verifier, settings: settings.into() });
            }
            (vcenter, targets)
        });
        let folder = tempfile::tempdir().expect("a folder");
        Stack { vcenter, targets, admin: free_address(), folder, runtime }
    }

    /// The vCenter as the source `vc`, the targets as the processors `target-0` and on.
    pub fn config(&self) -> RouterConfig {
        let Options { user, password, .. } = Options::default();
        let source = Section::vcenter("vc", &self.vcenter.url(), &user, &password);
        let targets = self.targets.iter().enumerate().map(|(at, target)| {
            Section::cloudevents(&format!("target-{at}"), &target.sink.url()).with(&target.settings)
        });
        let config = RouterConfig::new(&self.data(), self.admin).source(source);
        targets.fold(config, RouterConfig::processor)
    }

    /// Starts the router on [`Stack::config`] and waits until it is ready.
    pub fn router(&self) -> Router {
        self.start(&self.config())
    }

    /// Starts the router and waits until it is ready.
    pub fn start(&self, config: &RouterConfig) -> Router {
        Router::start(self.folder.path(), self.admin, &config.text())
    }

    /// Starts the router without waiting: for a start that must fail.
    pub fn spawn(&self, config: &RouterConfig) -> Router {
        Router::spawn(self.folder.path(), self.admin, &config.text())
    }

    /// The disk below the data directory, for [`Stack::start_on`].
    pub fn disk(&self) -> Option<Disk> {
        Disk::of(&self.data())
    }

    /// As [`Stack::start`], on a disk that can be watched and broken.
    pub fn start_on(&self, disk: &Disk, logged: bool, config: &RouterConfig) -> Router {
        let env = disk.env(logged);
        let mut router = Router::spawn_with(self.folder.path(), self.admin, &config.text(), env);
        router.wait_ready();
        router
    }

    /// The file that the router is started on.
    pub fn config_file(&self) -> PathBuf {
        self.folder.path().join("config.yaml")
    }

    /// Writes a configuration without starting a router: for the other commands.
    pub fn write(&self, config: &RouterConfig) -> PathBuf {
        let file = self.config_file();
        std::fs::write(&file, config.text()).expect("write the router's configuration");
        file
    }

    /// The router's data directory.
    pub fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
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
