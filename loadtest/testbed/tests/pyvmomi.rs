//! VMware's own Python SDK as a client. Skipped, with its name printed, where pyVmomi is not importable.
#![allow(clippy::unwrap_used)]

use std::process::Command;
use testbed::vcenter::{Options, VCenter};

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
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/pyvmomi_client.py");
    let (port, uuid) = (vcenter.port().to_string(), vcenter.instance_uuid().to_string());
    let run = tokio::task::spawn_blocking(move || {
        Command::new(python).args([script, &port, "1500", &uuid]).output().unwrap()
    });
    let output = run.await.unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && stdout.trim() == "ok", "{stdout}\n{stderr}");
    assert_eq!(vcenter.counters().collectors_peak, 32);
}
