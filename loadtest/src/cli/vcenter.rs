//! `loadtest vcenter`: runs synthetic vCenters as servers.

use std::path::PathBuf;

use clap::Args;
use testbed::vcenter::{Counters, Options, VCenter};
use tokio::sync::mpsc;

use super::End;
use super::options::{LoadFlags, VcenterFlags};
use super::progress::ProgressLine;
use super::server::{REPORT_INTERVAL, table, write_ca};
use super::stop::Stop;
use crate::stand::Stand;
use crate::stand::pace::{self, DrivenServers};
use crate::workload::Workload;

/// The workload if none is named.
const PLAIN: &str = "rate: 100\n";

/// Serve synthetic vCenters until Ctrl-C, with SOAP and VI/JSON, events at a rate, and the troubles
/// of a workload.
///
/// Prints their SDK URLs, user and password, and at the end the calls that were made. `loadtest
/// sink --vcenter URL` verifies the events.
#[derive(Debug, Args)]
pub struct VcenterArgs {
    /// Use the rate, backlog, events and troubles of this workload: a file or a built-in name; by
    /// default 100 events/s
    workload: Option<String>,
    /// Port of the first vCenter, the others follow; 0 for free ones
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    port: u16,
    /// Write the certificates that clients must trust to this file
    #[arg(long, value_name = "FILE", requires = "https")]
    ca: Option<PathBuf>,
    /// Write the final statistics as JSON to stdout
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    load: LoadFlags,
    #[command(flatten)]
    vcenters: VcenterFlags,
}

pub(super) fn run(args: &VcenterArgs) -> anyhow::Result<End> {
    let mut workload = match Workload::load_or(args.workload.as_deref(), PLAIN) {
        Ok(workload) => workload,
        Err(errors) => return super::wrong_workload(&errors),
    };
    args.load.apply(&mut workload);
    args.vcenters.apply(&mut workload);
    super::runtime()?.block_on(serve(args, &workload))
}

async fn serve(args: &VcenterArgs, workload: &Workload) -> anyhow::Result<End> {
    let vcenters = Stand::vcenters(workload, args.port).await?;
    if let Some(file) = &args.ca {
        let certificates: Vec<String> =
            vcenters.iter().filter_map(|vcenter| Some(vcenter.tls()?.ca_pem().to_owned())).collect();
        write_ca(file, &certificates)?;
    }
    let mut stop = Stop::new()?;
    let login = Options::default();
    for vcenter in &vcenters {
        super::show(&format!("{}  user {}  password {}\n", vcenter.url(), login.user, login.password))?;
    }
    let watch = ProgressLine::quiet(format!("{} vCenters", vcenters.len()));
    let driven = DrivenServers { vcenters: vcenters.clone(), target: None };
    // Nobody here needs the troubles: the clients notice them.
    let (happened, _inbox) = mpsc::unbounded_channel();
    let working = async {
        pace::drive(workload, &driven, &happened).await;
        std::future::pending::<()>().await;
    };
    let showing = async {
        loop {
            tokio::time::sleep(REPORT_INTERVAL).await;
            watch.show(line(&vcenters));
        }
    };
    tokio::select! {
        () = working => {}
        () = showing => {}
        () = stop.wait() => {}
    }
    drop(watch);
    statistics(&vcenters, args.json)?;
    Ok(End::Done)
}

fn counted(vcenters: &[VCenter]) -> (u64, Counters) {
    let mut all = Counters::default();
    for counters in vcenters.iter().map(VCenter::counters) {
        for (method, calls) in counters.calls {
            *all.calls.entry(method).or_default() += calls;
        }
        all.logins += counters.logins;
        all.failed_logins += counters.failed_logins;
        all.sessions_open += counters.sessions_open;
        all.collectors_open += counters.collectors_open;
        all.collectors_peak = all.collectors_peak.max(counters.collectors_peak);
        all.events_served += counters.events_served;
        all.pages_served += counters.pages_served;
        all.empty_pages += counters.empty_pages;
    }
    (vcenters.iter().map(VCenter::produced).sum(), all)
}

fn line(vcenters: &[VCenter]) -> String {
    let (created, all) = counted(vcenters);
    format!(
        "created {created}   served {} in {} pages   sessions {}",
        all.events_served, all.pages_served, all.sessions_open
    )
}

fn statistics(vcenters: &[VCenter], json: bool) -> anyhow::Result<()> {
    let (created, all) = counted(vcenters);
    if json {
        let value = serde_json::json!({ "created": created, "counters": all });
        return super::show(&(serde_json::to_string_pretty(&value)? + "\n"));
    }
    let mut calls: Vec<(&String, &u64)> = all.calls.iter().collect();
    calls.sort_by(|a, b| b.1.cmp(a.1));
    let calls: Vec<String> = calls.iter().map(|(method, calls)| format!("{method} {calls}")).collect();
    let per_page = all.events_served as f64 / all.pages_served.saturating_sub(all.empty_pages).max(1) as f64;
    super::show(&table(&[
        ("created", format!("{created} events")),
        ("served", format!("{} events, including those read again", all.events_served)),
        (
            "pages",
            format!(
                "{}, of which {} empty; {per_page:.0} events in the others",
                all.pages_served, all.empty_pages
            ),
        ),
        ("logins", format!("{}, and {} refused", all.logins, all.failed_logins)),
        (
            "open",
            format!(
                "{} sessions, {} collectors; {} in one session at most",
                all.sessions_open, all.collectors_open, all.collectors_peak
            ),
        ),
        ("calls", calls.join(", ")),
    ]))
}
