//! Tests of the peers themselves. Tests of the router that use a peer rely on these properties.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::common::child::Process;
use crate::common::peer::peer;
use crate::common::vcsim::{PASSWORD, USER, Vcsim};
use crate::common::wait_until;

const READ_LIMIT: Duration = Duration::from_secs(60);

/// VMware's own client (pyVmomi), which reads one collector of a vcsim.
struct Reader(Process);

impl Reader {
    fn start(vcsim: &Vcsim, event_type: &str) -> Option<Self> {
        let address = vcsim.address();
        let mut command = Command::new(peer("python")?);
        command
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/read_events.py"))
            .args([&address.ip().to_string(), &address.port().to_string(), vcsim.instance_uuid(), event_type])
            .env("VC_USER", USER)
            .env("VC_PASSWORD", PASSWORD)
            .stdin(Stdio::piped());
        Some(Self(Process::spawn(&mut command)))
    }

    /// Waits until the reader has come to the end of the history `ends` times. Returns all events
    /// that it has read.
    fn read(&mut self, ends: usize) -> Vec<String> {
        let lines = self.0.stdout.clone();
        let has_ended = || lines.all().iter().filter(|&line| line == "end").count() >= ends;
        wait_until(READ_LIMIT, || has_ended() || !self.0.running());
        assert!(has_ended(), "the reader stopped: {}\n{}", lines.text(), self.0.stderr.text());
        lines.all().into_iter().filter(|line| line != "end").collect()
    }

    /// Has the reader read on from the end.
    fn go_on(&mut self) {
        let stdin = self.0.child.stdin.as_mut().expect("stdin is piped");
        writeln!(stdin).expect("write to the reader");
    }
}

fn count(lines: &[String], class: &str) -> usize {
    lines.iter().filter(|line| line.ends_with(&format!(" {class}"))).count()
}

#[test]
fn vcsim_serves_power_events_to_vmwares_own_client() {
    let Some(mut vcsim) = Vcsim::start(&["-vms", "4"]) else { return };
    // The machines start powered on: the first round turns all four off, the second on again.
    vcsim.power(4);
    let Some(mut reader) = Reader::start(&vcsim, "VmEvent") else { return };
    let before = reader.read(1);
    assert_eq!(
        (count(&before, "VmPoweredOffEvent"), count(&before, "VmStoppingEvent")),
        (4, 4),
        "{before:?}"
    );

    let newest = vcsim.power(4);
    reader.go_on();
    let after = reader.read(2);
    let fresh = &after[before.len()..];
    assert_eq!((count(fresh, "VmPoweredOnEvent"), count(fresh, "VmStartingEvent")), (4, 4), "{fresh:?}");
    assert_eq!(fresh.len(), 8, "the collector continues behind its last event: {fresh:?}");

    let keys: Vec<i32> = after.iter().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect();
    assert!(keys.is_sorted_by(|a, b| a < b), "oldest first, each once: {keys:?}");
    assert_eq!(keys.last(), Some(&newest));
}

#[test]
fn vcsim_loses_sessions_and_collectors_on_demand() {
    let Some(mut vcsim) = Vcsim::start(&[]) else { return };
    let Some(mut reader) = Reader::start(&vcsim, "EventEx") else { return };
    assert_eq!(reader.read(1), Vec::<String>::new());
    vcsim.post("EventEx/com.example.one", 2);
    reader.go_on();
    assert_eq!(reader.read(2).len(), 2);

    assert_eq!(vcsim.destroy_collectors(), 1);
    assert_eq!(vcsim.command("collectors"), "0");
    reader.go_on();
    assert!(reader.0.wait(READ_LIMIT).is_some_and(|status| !status.success()));
    assert!(reader.0.stderr.contains("ManagedObjectNotFound"), "{}", reader.0.stderr.text());

    let Some(mut reader) = Reader::start(&vcsim, "EventEx") else { return };
    reader.read(1);
    assert!(vcsim.kill_sessions() >= 1);
    reader.go_on();
    assert!(reader.0.wait(READ_LIMIT).is_some_and(|status| !status.success()));
    assert!(reader.0.stderr.contains("NotAuthenticated"), "{}", reader.0.stderr.text());
}

#[test]
fn vcsim_comes_back_as_the_same_vcenter() {
    let Some(mut vcsim) = Vcsim::start(&[]) else { return };
    let (url, before) = (vcsim.url().to_owned(), vcsim.post("VmPoweredOnEvent", 3));
    vcsim.restart();
    assert_eq!(vcsim.url(), url);
    assert!(vcsim.latest_key() > before, "keys are never handed out again");
    // The reader itself compares the instanceUuid.
    let Some(mut reader) = Reader::start(&vcsim, "VmPoweredOnEvent") else { return };
    assert_eq!(reader.read(1), Vec::<String>::new(), "the simulator forgets its history");
    vcsim.post("VmPoweredOnEvent", 1);
    reader.go_on();
    assert_eq!(reader.read(2).len(), 1);
}
