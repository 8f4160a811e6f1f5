//! The severities of event types: read before the first event, kept through failures, and read only
//! if somebody uses them.

use uuid::Uuid;
use vsphere::api::{EventInfo, FaultKind};

use super::fake::Mishap;
use super::*;
use crate::event::{Severity, TypeSeverities, severity};
use crate::source::vcenter::limits::{SEVERITIES_INTERVAL, SEVERITIES_RETRY};

const EVENT_INFO: &str = "eventInfo";

fn described(key: &str, category: &str, full_format: &str) -> EventInfo {
    let (key, full_format) = (key.to_string(), full_format.to_string());
    EventInfo { key, description: String::new(), category: category.to_string(), full_format }
}

/// A vCenter of its own, since severities are kept by vCenter for the whole process.
fn fake(instance: u128) -> (Fake, Uuid) {
    let (fake, instance) = (Fake::new(), Uuid::from_u128(instance));
    fake.world().instance = instance;
    fake.world().event_info = vec![
        described("VmPoweredOnEvent", "info", "on"),
        described("EventEx", "error", "com.vmware.x|it broke"),
    ];
    fake.world().history(10);
    (fake, instance)
}

fn types(of: &[(&str, &str)]) -> TypeSeverities {
    of.iter().copied().collect()
}

#[tokio::test(start_paused = true)]
async fn they_are_known_before_the_first_event_and_read_again_every_hour() {
    let (fake, instance) = fake(0x5e1);
    let run = Run::start(fake.clone(), settings());
    run.wait(MINUTE, "an event", |run| run.count() > 0).await;
    assert_eq!(*severity::known(instance), types(&[("VmPoweredOnEvent", "info"), ("com.vmware.x", "error")]));
    assert_eq!(fake.world().calls_of(EVENT_INFO), 1);
    fake.world().event_info.push(described("ExtendedEvent", "warning", "com.example|new"));
    sleep(SEVERITIES_INTERVAL + 2 * MINUTE).await;
    assert_eq!(severity::known(instance).len(), 3);
    assert_eq!(fake.world().calls_of(EVENT_INFO), 2);
    // A new session does not read them again.
    fake.world().kill_session();
    fake.world().append();
    run.caught_up(MINUTE).await;
    assert_eq!(fake.world().calls_of(EVENT_INFO), 2);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_vcenter_that_refuses_to_describe_them_is_read_all_the_same() {
    let (fake, instance) = fake(0x5e2);
    fake.world().go_wrong(EVENT_INFO, &[Mishap::Fault(FaultKind::Other), Mishap::NoConnection]);
    let run = Run::start(fake.clone(), settings());
    run.caught_up(MINUTE).await;
    assert!(severity::known(instance).is_empty());
    sleep(3 * SEVERITIES_RETRY).await;
    assert_eq!(severity::known(instance).len(), 2);
    assert_eq!(fake.world().calls_of(EVENT_INFO), 3);
    run.stop().await;
}

#[tokio::test(start_paused = true)]
async fn they_are_not_read_if_nobody_uses_them() {
    let (fake, _) = fake(0x5e3);
    fake.world().event_info.clear();
    let run = Run::start(fake.clone(), settings());
    run.caught_up(MINUTE).await;
    sleep(2 * SEVERITIES_INTERVAL).await;
    assert_eq!(fake.world().calls_of(EVENT_INFO), 0);
    run.stop().await;
}

#[test]
fn words_of_vsphere() {
    for word in Severity::WORDS {
        assert_eq!(Severity::of(word).map(Severity::category), Some(word));
    }
    assert_eq!(Severity::of("fatal"), None);
}
