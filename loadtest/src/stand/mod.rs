//! The test stand of a run: synthetic vCenters and a verifying target in this process, and the
//! router in a child process.
//!
//! ```text
//! pace::drive ──► vCenters ──SOAP──► router (child process) ──► target ──► verifiers
//! (rate, troubles)    └───────────────── truth ─────────────────────────────┘
//! ```

pub mod config;
pub mod pace;
pub mod pin;
pub mod remote;
pub mod router;
pub mod target;

use std::path::Path;
use std::time::Duration;

use testbed::cert::Certificate;
use testbed::vcenter::{Options, Pace, VCenter};
use testbed::verify::{Latency, Phase, Report, Verifier, report_of, take_latency_of};

use crate::workload::{Workload, share};
use pace::DrivenServers;
use target::Target;

/// A stand that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum StandError {
    #[error(transparent)]
    Testbed(#[from] testbed::StartError),
    #[error("cannot write {path}: {cause}; give a writable folder with `--folder`")]
    Write { path: String, cause: std::io::Error },
}

/// The servers around the router.
pub struct Stand {
    pub vcenters: Vec<VCenter>,
    pub target: Target,
}

impl Stand {
    /// Starts the target and the vCenters. Apart from their backlog the vCenters are idle.
    ///
    /// # Errors
    /// A port cannot be bound.
    pub async fn start(workload: &Workload) -> Result<Stand, StandError> {
        let vcenters = Stand::vcenters(workload, 0).await?;
        let target = Target::start(workload, 0).await?;
        target.watch(&vcenters);
        Ok(Stand { vcenters, target })
    }

    /// Starts the vCenters alone, on consecutive ports from `port`; 0 means free ports.
    ///
    /// # Errors
    /// A port cannot be bound.
    pub async fn vcenters(workload: &Workload, port: u16) -> Result<Vec<VCenter>, StandError> {
        let mut vcenters = Vec::new();
        for number in 0..workload.vcenters {
            let model = workload.model(number);
            let backlog = share(workload.backlog, workload.vcenters, number);
            let number_of_port = port.saturating_add(number as u16);
            let options = Options {
                port: if port == 0 { 0 } else { number_of_port },
                seed: model.seed,
                vms: model.vms,
                hosts: model.hosts,
                mix: model.mix,
                name: format!("load test vCenter {number}"),
                backlog,
                total: workload.events.map(|events| backlog + share(events, workload.vcenters, number)),
                tls: workload.https.then_some(Certificate::Valid),
                clock_offset_us: workload.clock_skew_seconds * 1_000_000,
                ..Options::default()
            };
            vcenters.push(VCenter::start(options).await?);
        }
        Ok(vcenters)
    }

    /// The servers that a workload drives.
    pub fn driven(&self) -> DrivenServers {
        DrivenServers { vcenters: self.vcenters.clone(), target: Some(self.target.clone()) }
    }

    /// Writes the router's configuration and the certificates that it must trust.
    ///
    /// # Errors
    /// The folder cannot be written to.
    pub fn write_config(&self, workload: &Workload, folder: &Path, admin: &str) -> Result<(), StandError> {
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            let shown = path.display().to_string();
            std::fs::write(path, text).map_err(|cause| StandError::Write { path: shown, cause })
        };
        for (number, vcenter) in self.vcenters.iter().enumerate() {
            if let Some(tls) = vcenter.tls() {
                write(&config::ca_file(number), tls.ca_pem())?;
            }
        }
        if let Some(tls) = self.target.tls() {
            write(config::TARGET_CA_FILE, tls.ca_pem())?;
        }
        write(config::FILE, &config::write(workload, self, folder, admin))
    }

    /// The number of events that exist.
    pub fn produced(&self) -> u64 {
        self.vcenters.iter().map(VCenter::produced).sum()
    }

    /// Stops the creation of events.
    pub fn stop_events(&self) {
        for vcenter in &self.vcenters {
            vcenter.set_pace(Pace::Idle);
        }
    }

    /// The number of receivers. Each of them must get every event.
    pub fn receivers(&self) -> u64 {
        self.target.verifiers().len() as u64
    }

    fn verifiers(&self) -> impl Iterator<Item = &Verifier> {
        self.target.verifiers().iter().map(AsRef::as_ref)
    }

    /// The latencies since the last call, counted in this phase of the run.
    pub fn take_latency(&self, phase: Phase) -> Latency {
        take_latency_of(self.verifiers(), phase)
    }

    /// The verdict so far, over all receivers.
    pub fn report(&self) -> Report {
        report_of(self.verifiers())
    }

    /// Entities with events that exist and have not arrived at the first receiver.
    pub fn entities_waiting(&self) -> u64 {
        self.verifiers().next().map_or(0, Verifier::entities_waiting)
    }

    /// Waits until nothing is missing, or nothing has arrived for `patience`.
    pub async fn drain(&self, patience: Duration) {
        let mut quiet_since = tokio::time::Instant::now();
        let mut before = 0;
        loop {
            let looked = tokio::time::Instant::now();
            let total = self.report().total;
            let took = looked.elapsed();
            if total.missing == 0 {
                return;
            }
            if total.unique != before {
                before = total.unique;
                quiet_since = tokio::time::Instant::now();
            }
            if quiet_since.elapsed() > patience {
                return;
            }
            // A report blocks deliveries, so reports take at most a twentieth of the time.
            tokio::time::sleep((20 * took).max(Duration::from_millis(50))).await;
        }
    }
}
