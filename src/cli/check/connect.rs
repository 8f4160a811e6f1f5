//! `check --connect`: reaches every vCenter and target of a configuration once.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use uuid::Uuid;

use super::super::Exit;
use super::super::table::table;
use crate::admin::AdminError;
use crate::app;
use crate::cluster::make::inspect_bucket;
use crate::cluster::settings::ClusterConfig;
use crate::limits::{CHECK_LOGOUT_MAX, NATS_MAKE_WAIT};
use crate::net::listener::try_to_listen;
use crate::pipeline::destination::undecided_name;
use crate::settings::{Config, OverflowPolicy, ProcessorConfig};

/// Reaches everything in the configuration and prints the results as a table.
pub(super) fn run(config: &Config) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Runtime::new().context("cannot start the I/O runtime")?;
    let probes = runtime.block_on(interruptible(config))?;
    let Some(probes) = probes else {
        super::super::complain("event-router: interrupted");
        return Ok(Exit::Failed);
    };
    let rows: Vec<[String; 4]> = probes
        .iter()
        .map(|probe| {
            let (state, text) = match &probe.result {
                Ok(text) => ("ok", text),
                Err(text) => ("failed", text),
            };
            [
                probe.name.clone(),
                state.to_owned(),
                format!("{:.0} ms", probe.took.as_secs_f64() * 1e3),
                text.clone(),
            ]
        })
        .collect();
    say!("")?;
    super::super::print(table(["CONNECTION", "STATE", "TOOK", "ANSWER"], &rows).as_bytes())?;
    for warning in one_vcenter_twice(&probes) {
        super::super::complain(&format!("warning: {warning}"));
    }
    let failed = probes.iter().any(|probe| probe.result.is_err());
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// The result of reaching one vCenter or target.
struct Probe {
    name: String,
    took: Duration,
    result: Result<String, String>,
    instance_uuid: Option<Uuid>,
}

/// Reaches all sources and processors. `None` if a signal interrupts that: the sessions that are
/// open then are closed first, for at most [`CHECK_LOGOUT_MAX`].
async fn interruptible(config: &Config) -> anyhow::Result<Option<Vec<Probe>>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let (interrupt, interrupted) = watch::channel(false);
    let probes = connect(config, interrupted);
    tokio::pin!(probes);
    tokio::select! {
        probes = &mut probes => return Ok(Some(probes)),
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result?,
    }
    interrupt.send_replace(true);
    // A second signal ends at once.
    tokio::select! {
        _ = tokio::time::timeout(CHECK_LOGOUT_MAX, probes) => {}
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result?,
    }
    Ok(None)
}

/// Reaches all sources, all processors and the cluster, and tries to listen for the admin pages,
/// all at the same time.
async fn connect(config: &Config, interrupted: watch::Receiver<bool>) -> Vec<Probe> {
    let sources = config.sources.iter().map(|source| {
        let interrupted = interrupted.clone();
        async move {
            let start = Instant::now();
            let result = source.kind.as_type().connect(interrupted).await;
            let instance_uuid = result.as_ref().ok().and_then(|reached| reached.instance_uuid);
            let result = result.map(|reached| reached.text);
            Probe { name: format!("source {}", source.name), took: start.elapsed(), result, instance_uuid }
        }
    });
    let processors = config.processors.iter().map(|settings| {
        let interrupted = interrupted.clone();
        async move {
            let start = Instant::now();
            let result = tokio::select! {
                result = contact(settings) => result,
                () = is_set(interrupted) => Err("interrupted".to_owned()),
            };
            let name = format!("processor {}", settings.name);
            Probe { name, took: start.elapsed(), result, instance_uuid: None }
        }
    });
    let cluster = config.cluster.iter().map(|cluster| {
        let interrupted = interrupted.clone();
        async move {
            let start = Instant::now();
            let result = tokio::select! {
                result = bucket(cluster) => result,
                () = is_set(interrupted) => Err("interrupted".to_owned()),
            };
            Probe { name: "cluster".to_owned(), took: start.elapsed(), result, instance_uuid: None }
        }
    });
    let admin = config.admin.bind_address.iter().map(|address| async move {
        let start = Instant::now();
        let listened = try_to_listen(address).await;
        let result =
            listened.map_err(|cause| AdminError::Listen { address: address.clone(), cause }.to_string());
        Probe { name: "admin".to_owned(), took: start.elapsed(), result, instance_uuid: None }
    });
    let (mut probes, processors, cluster, admin) = futures_util::future::join4(
        futures_util::future::join_all(sources),
        futures_util::future::join_all(processors),
        futures_util::future::join_all(cluster),
        futures_util::future::join_all(admin),
    )
    .await;
    probes.extend(processors);
    probes.extend(cluster);
    probes.extend(admin);
    probes
}

/// Inspects the bucket in which the nodes keep their records.
async fn bucket(cluster: &ClusterConfig) -> Result<String, String> {
    let connection = cluster.connection().map_err(|error| error.to_string())?;
    match inspect_bucket(&connection, &cluster.bucket, NATS_MAKE_WAIT).await? {
        (defects, state) if defects.is_empty() => Ok(state),
        (defects, _) => Err(defects.join("; ")),
    }
}

/// Waits for the interruption. Never returns if there is none.
async fn is_set(mut interrupted: watch::Receiver<bool>) {
    if interrupted.wait_for(|set| *set).await.is_err() {
        std::future::pending().await
    }
}

/// Reaches the target of a processor without delivering an event.
async fn contact(settings: &ProcessorConfig) -> Result<String, String> {
    let processor = app::build(settings).map_err(|error| error.to_string())?;
    processor.check().await.map_err(|failure| match processor.selector() {
        None => failure.reason,
        Some(_) => format!("{}; {}", failure.reason, meanwhile(settings)),
    })
}

/// The fate of events while the functions or rules of this processor cannot be read.
fn meanwhile(settings: &ProcessorConfig) -> String {
    match settings.delivery.overflow.policy {
        OverflowPolicy::Spill => {
            format!(
                "a router that starts now keeps its events on disk as `{}`",
                undecided_name(&settings.name)
            )
        }
        OverflowPolicy::Block | OverflowPolicy::DropNewest | OverflowPolicy::DropOldest => {
            "a router that starts now does not read the sources that are routed to it".into()
        }
    }
}

/// A warning for each source whose vCenter is that of an earlier one.
fn one_vcenter_twice(probes: &[Probe]) -> Vec<String> {
    let mut first: HashMap<Uuid, &str> = HashMap::new();
    let mut warnings = Vec::new();
    for probe in probes {
        let Some(instance_uuid) = probe.instance_uuid else { continue };
        match first.get(&instance_uuid) {
            None => drop(first.insert(instance_uuid, &probe.name)),
            Some(first) => warnings.push(format!(
                "{} is the same vCenter as {first} (instanceUuid {instance_uuid}): an event that both read is delivered twice with the same id, and two clones of a vCenter give different events the same id",
                probe.name
            )),
        }
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_sources_of_one_vcenter_are_told() {
        let probe = |name: &str, id: Option<u128>| Probe {
            name: name.to_owned(),
            took: Duration::ZERO,
            result: Ok(String::new()),
            instance_uuid: id.map(Uuid::from_u128),
        };
        let probes = [
            probe("source a", Some(1)),
            probe("source b", Some(2)),
            probe("source c", Some(1)),
            probe("p", None),
        ];
        let warnings = one_vcenter_twice(&probes);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
        assert!(warnings[0].starts_with("source c is the same vCenter as source a"), "{warnings:?}");
        assert!(one_vcenter_twice(&probes[..2]).is_empty());
    }
}
