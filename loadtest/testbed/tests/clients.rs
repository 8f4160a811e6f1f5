//! Clients that others wrote: VMware's own Python SDK over SOAP, its registry of types over VI/JSON, and vim_rs. Each is skipped, with its name printed, where
//! it is not there.
#![allow(clippy::unwrap_used)]

use std::process::Command;
use testbed::vcenter::{Mix, Options, VCenter};

/// A Python that can import pyVmomi: `PYVMOMI_PYTHON`, a venv beside the target directory, or the system's.
fn python() -> Option<String> {
    let target = std::env::current_exe().unwrap();
    let beside = target.ancestors().find(|path| path.join("venv/bin/python3").exists());
    if let Ok(python) = std::env::var("PYVMOMI_PYTHON") {
        // Named, so it must work: no skipping.
        return Some(python);
    }
    let beside = beside.map(|path| path.join("venv/bin/python3").display().to_string());
    let candidates = [beside, Some("python3".to_owned())];
    candidates.into_iter().flatten().find(|python| {
        Command::new(python)
            .args(["-c", "import pyVmomi, pyVim.connect"])
            .output()
            .is_ok_and(|output| output.status.success())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pyvmomi_drives_login_collectors_filters_waiting_and_faults() {
    let Some(python) = python() else {
        println!("skipped: pyvmomi");
        return;
    };
    let vcenter = VCenter::start(Options { backlog: 1_500, ..Options::default() }).await.unwrap();
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pyvmomi_client.py"));
    command.args([vcenter.port().to_string(), "1500".into(), vcenter.instance_uuid().to_string()]);
    expect_ok(command).await;
    assert_eq!(vcenter.counters().collectors_peak, 32);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pyvmomi_walks_the_inventory_searches_it_filters_events_and_pages_both_ways() {
    let Some(python) = python() else {
        println!("skipped: pyvmomi");
        return;
    };
    let (backlog, vms, hosts) = (2_500, 40, 6);
    let vcenter = VCenter::start(Options { backlog, vms, hosts, ..Options::default() }).await.unwrap();
    let mut command = Command::new(python);
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pyvmomi_inventory.py"));
    command.args([vcenter.port().to_string(), backlog.to_string(), vms.to_string(), hosts.to_string()]);
    expect_ok(command).await;
    assert_eq!(vcenter.counters().collectors_open, 0);
}

/// Runs a client to its end, which must be `ok`.
async fn expect_ok(mut command: Command) {
    let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.lines().last() == Some("ok"), "{stdout}\n{stderr}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_that_comes_over_vijson_is_what_vmwares_registry_of_types_says() {
    let Some(python) = python() else {
        println!("skipped: pyvmomi");
        return;
    };
    for mix in [Mix::Steady, Mix::EventExHeavy, Mix::LargeTasks] {
        let few_classes = mix != Mix::Steady;
        let vcenter = VCenter::start(Options { backlog: 1_500, mix, ..Options::default() }).await.unwrap();
        let mut command = Command::new(&python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vijson_client.py"));
        command.args([vcenter.port().to_string(), "1500".into(), vcenter.instance_uuid().to_string()]);
        command.arg(if few_classes { "1" } else { "10" });
        expect_ok(command).await;
    }
}

/// vim_rs takes minutes and gigabytes to compile, so it is built by hand: see `vim_rs/Cargo.toml`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vim_rs_drives_login_collectors_waiting_and_faults_over_vijson() {
    let Some(client) = std::env::var_os("VIM_RS_CLIENT") else {
        println!("skipped: vim_rs");
        return;
    };
    let options = Options { backlog: 1_500, ..Options::default() };
    let vcenter = VCenter::start(options.clone()).await.unwrap();
    let mut command = Command::new(client);
    command.args([&vcenter.port().to_string(), "1500", &options.user, &options.password]);
    expect_ok(command).await;
    assert_eq!(vcenter.counters().calls_of("Logout"), 1);
}
