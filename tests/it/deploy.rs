//! The files in `deploy/`, judged by the programs that read them.

use std::process::Command;

use crate::common::peer::skip;

/// systemd's own rating counts from 0 (locked down) to 10. The units of most distributions have
/// over 9.
#[test]
fn systemd_rates_the_unit_as_locked_down() {
    const EXPOSURE_MAX: f64 = 2.0;
    let unit = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/systemd/event-router.service");
    let rated = Command::new("systemd-analyze").args(["security", "--offline=true", unit]).output();
    let Ok(rated) = rated else { return skip("systemd-analyze") };
    let text = String::from_utf8_lossy(&rated.stdout);
    let (_, level) = text.split_once("exposure level for event-router.service: ").expect("a rating");
    let level: f64 = level.split(' ').next().unwrap().parse().unwrap();
    assert!(level <= EXPOSURE_MAX, "{text}");
}
