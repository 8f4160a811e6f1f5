//! `loadtest sink`: runs a verifying target as a server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use testbed::openfaas::GatewayOptions;
use testbed::verify::{Phase, Report, Verifier, report_of, take_latency_of};
use tokio::sync::mpsc;

use super::End;
use super::options::TargetFlags;
use super::progress::ProgressLine;
use super::server::{REPORT_INTERVAL, table, write_ca};
use super::stop::Stop;
use crate::stand::pace::{self, DrivenServers};
use crate::stand::remote::RemoteVcenter;
use crate::stand::target::Target;
use crate::workload::{ErrorKind, Errors, Rate, Scheduled, Shape, Trouble, Workload, fields};

/// The workload if none is named.
const PLAIN: &str = "target: {shape: batched}\n";

/// Receive and verify events until Ctrl-C, as a CloudEvents target, an OpenFaaS gateway, or
/// EventBridge's PutEvents.
///
/// Prints its URL. At the end it prints what arrived and how late; with `--vcenter` also what was
/// lost, overtaken or had a wrong id. Exit code 1 if an event had a wrong id or wrong content, was
/// never created or was forbidden, or if a delivery is not readable.
#[derive(Debug, Args)]
pub struct SinkArgs {
    /// Use the target and the outages of this workload: a file or a built-in name; by default a
    /// CloudEvents target
    workload: Option<String>,
    /// Port to listen on; 0 for a free one
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// SDK URL of a `loadtest vcenter` whose events arrive here, to verify them; repeat for each
    #[arg(long, value_name = "URL")]
    vcenter: Vec<String>,
    /// Certificates of these vCenters, from `loadtest vcenter --ca`
    #[arg(long, value_name = "FILE", requires = "vcenter")]
    vcenter_ca: Option<PathBuf>,
    /// Write the certificate that clients must trust to this file
    #[arg(long, value_name = "FILE", requires = "target_https")]
    ca: Option<PathBuf>,
    /// Share of requests that fail, 0 to 1
    #[arg(long, value_name = "SHARE", value_parser = fields::decimal(0.0, 1.0))]
    errors: Option<f64>,
    /// Kind of failure: a status, `reset`, `lostAnswer`, `hang` or `halfBody`
    #[arg(long, value_name = "KIND", default_value = "503", value_parser = ErrorKind::parse)]
    error: ErrorKind,
    /// Close the port for a while: `at=10s,for=5s`, `every=30s,for=2s` or both; repeat for each
    #[arg(long, value_name = "WHEN", value_parser = outage)]
    outage: Vec<Scheduled>,
    /// Number of OpenFaaS functions
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    functions: Option<u32>,
    /// Write the final statistics as JSON to stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    target: TargetFlags,
}

/// Parses `at=10s,every=30s,for=2s`.
fn outage(text: &str) -> Result<Scheduled, String> {
    let wrong = || "must be such as `at=10s,for=5s` or `every=30s,for=2s`".to_owned();
    let (mut at, mut every, mut downtime) = (None, None, None);
    for part in text.split(',') {
        let (name, value) = part.trim().split_once('=').ok_or_else(wrong)?;
        let field = match name {
            "at" => &mut at,
            "every" => &mut every,
            "for" => &mut downtime,
            _ => return Err(wrong()),
        };
        *field = Some(fields::duration(value).map_err(|_| wrong())?);
    }
    let trouble = Trouble::TargetOutage { downtime: downtime.ok_or_else(wrong)? };
    let too_often = every.is_some_and(|every: Duration| every < Duration::from_millis(10));
    let at = at.or(every).filter(|_| !too_often).ok_or_else(wrong)?;
    Ok(Scheduled { trouble, at, every })
}

pub(super) fn run(args: &SinkArgs) -> anyhow::Result<End> {
    let mut workload = match Workload::load_or(args.workload.as_deref(), PLAIN) {
        Ok(workload) => workload,
        Err(errors) => return super::wrong_workload(&errors),
    };
    args.target.apply(&mut workload);
    let target = &mut workload.target;
    target.functions = args.functions.unwrap_or(target.functions);
    if let Some(share) = args.errors {
        target.errors = Some(Errors { share, kind: args.error });
    }
    if target.functions > 1 && target.shape != Shape::Openfaas {
        return super::usage("`--functions` needs `--shape openfaas`");
    }
    workload.troubles.extend(args.outage.iter().cloned());
    // Only outages apply to a sink, and it runs without an end.
    workload.troubles.retain(|scheduled| matches!(scheduled.trouble, Trouble::TargetOutage { .. }));
    (workload.rate, workload.duration) = (Rate::None, None);
    super::runtime()?.block_on(serve(args, &workload))
}

async fn serve(args: &SinkArgs, workload: &Workload) -> anyhow::Result<End> {
    let target = Target::start(workload, args.port).await?;
    let mut remotes = Vec::new();
    for sdk in &args.vcenter {
        let remote = RemoteVcenter::connect(sdk, args.vcenter_ca.as_deref()).await?;
        for verifier in target.verifiers() {
            remote.watch(verifier)?;
        }
        remotes.push(remote);
    }
    if let Some(file) = &args.ca {
        write_ca(file, &target.tls().map(|tls| tls.ca_pem().to_owned()).into_iter().collect::<Vec<_>>())?;
    }
    let mut stop = Stop::new()?;
    super::show(&(address(workload, &target) + "\n"))?;
    let watch = ProgressLine::quiet("no events yet".to_owned());
    let driven = DrivenServers { vcenters: Vec::new(), target: Some(target.clone()) };
    let (happened, _inbox) = mpsc::unbounded_channel();
    let showing = async {
        loop {
            tokio::time::sleep(REPORT_INTERVAL).await;
            for remote in &remotes {
                // A vCenter that does not answer now may do so later. Until then its last truth
                // counts.
                let _ = remote.refresh().await;
            }
            watch.show(line(target.verifiers()));
        }
    };
    tokio::select! {
        () = pace::drive(workload, &driven, &happened) => {}
        () = showing => {}
        () = stop.wait() => {}
    }
    drop(watch);
    for remote in &remotes {
        if let Err(error) = remote.refresh().await {
            super::complain(&format!("{error}; missing events are counted as of the previous answer"));
        }
    }
    let report = report_of(target.verifiers().iter().map(AsRef::as_ref));
    show(&report, args.json)?;
    let total = &report.total;
    let good =
        total.wrong_ids + total.wrong_content + total.unknown + total.unexpected + report.unreadable == 0;
    Ok(if good { End::Done } else { End::Failed })
}

fn address(workload: &Workload, target: &Target) -> String {
    match (workload.target.shape, GatewayOptions::default().auth) {
        (Shape::Openfaas, Some((user, password))) => {
            format!("{}  user {user}  password {password}", target.url())
        }
        _ => target.url(),
    }
}

fn line(verifiers: &[Arc<Verifier>]) -> String {
    let latency = take_latency_of(verifiers.iter().map(AsRef::as_ref), Phase::Measured);
    let (mut unique, mut delivered) = (0, 0);
    for progress in verifiers.iter().map(|verifier| verifier.progress()) {
        unique += progress.unique;
        delivered += progress.delivered;
    }
    let ms = |micros: u64| micros as f64 / 1e3;
    format!(
        "delivered {delivered}   different {unique}   p50 {:.1} ms   p99 {:.1} ms",
        ms(latency.p50_us),
        ms(latency.p99_us)
    )
}

fn show(report: &Report, json: bool) -> anyhow::Result<()> {
    if json {
        return super::show(&(serde_json::to_string_pretty(report)? + "\n"));
    }
    let (total, latency) = (&report.total, &report.latency);
    let ms = |micros: u64| format!("{:.1} ms", micros as f64 / 1e3);
    let mut lines = vec![
        (
            "delivered",
            format!(
                "{} events, {} different, {:.1} MB",
                total.delivered,
                total.unique,
                total.bytes as f64 / 1e6
            ),
        ),
        ("missing", total.missing.to_string()),
        ("duplicated", total.duplicates.to_string()),
        ("wrong ids", total.wrong_ids.to_string()),
        (
            "content",
            format!(
                "content verified: {} of {} events, {} wrong",
                total.content_verified, total.unique, total.wrong_content
            ),
        ),
        (
            "out of order",
            format!(
                "{} in their source, {} in their object",
                total.out_of_order, total.out_of_order_in_entity
            ),
        ),
        ("never created", total.unknown.to_string()),
        ("unreadable", report.unreadable.to_string()),
    ];
    if latency.count > 0 {
        lines.push((
            "latency",
            format!("p50 {}   p99 {}   max {}", ms(latency.p50_us), ms(latency.p99_us), ms(latency.max_us)),
        ));
    }
    // Deliveries from sources that this target does not know.
    let mut strays: Vec<_> = report.stray_sources.iter().collect();
    strays.sort();
    lines
        .extend(strays.into_iter().map(|(source, count)| ("not verified", format!("{count} from {source}"))));
    super::show(&table(&lines))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outages_are_read_or_refused() {
        let found = outage("at=10s,for=5s").unwrap();
        assert_eq!((found.at, found.every), (Duration::from_secs(10), None));
        let found = outage("every=30s, for=2s").unwrap();
        assert_eq!((found.at, found.every), (Duration::from_secs(30), Some(Duration::from_secs(30))));
        for wrong in ["", "for=5s", "at=5s", "at=5,for=1s", "when=1s,for=1s", "every=1ms,for=1s"] {
            assert!(outage(wrong).is_err(), "{wrong}");
        }
    }
}
