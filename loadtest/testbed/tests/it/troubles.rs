//! The effect of each trouble on a client.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use crate::common::Client;
use testbed::cert::Certificate;
use testbed::vcenter::{Options, Pace, Trouble, VCenter};

async fn with_backlog(backlog: u64) -> (VCenter, Client, String) {
    let vcenter = VCenter::start(Options { backlog, ..Options::default() }).await.unwrap();
    let client = Client::logged_in(&vcenter).await;
    let collector = client.collector("").await;
    (vcenter, client, collector)
}

fn keys(range: std::ops::RangeInclusive<i32>) -> Vec<i32> {
    range.collect()
}

#[tokio::test]
async fn lost_answers_still_move_the_cursor() {
    for trouble in [Trouble::CutBody, Trouble::LoseAnswer] {
        let (vcenter, client, collector) = with_backlog(30).await;
        vcenter.trouble("ReadNextEvents", 1, trouble.clone());
        assert!(client.read_next(&collector, 10).await.is_err(), "{trouble:?}");
        assert_eq!(client.keys(&collector, 10).await, keys(11..=20), "{trouble:?}");
    }
}

#[tokio::test]
async fn refused_calls_leave_the_cursor() {
    for (trouble, status) in
        [(Trouble::Status(503), 503), (Trouble::Html, 200), (Trouble::MethodNotFound, 500)]
    {
        let (vcenter, client, collector) = with_backlog(30).await;
        vcenter.trouble("ReadNextEvents", 2, trouble.clone());
        for _ in 0..2 {
            let answer = client.read_next(&collector, 10).await.unwrap();
            assert_eq!(answer.status, status, "{trouble:?}");
            if trouble == Trouble::Html {
                assert!(answer.text().contains("<!DOCTYPE html>") && answer.head.contains("text/html"));
            }
            if trouble == Trouble::MethodNotFound {
                assert_eq!(answer.fault(), "MethodNotFound");
            }
        }
        assert_eq!(client.keys(&collector, 10).await, keys(1..=10), "{trouble:?}");
    }
}

#[tokio::test]
async fn resets_and_faults_reach_the_client_as_configured() {
    let (vcenter, client, collector) = with_backlog(5).await;
    vcenter.trouble("*", 1, Trouble::Reset);
    let error = client.read_next(&collector, 10).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    vcenter.trouble("ReadNextEvents", 1, Trouble::Fault("NoPermission".into()));
    assert_eq!(client.read_next(&collector, 10).await.unwrap().fault(), "NoPermission");
    vcenter.trouble("ReadNextEvents", u32::MAX, Trouble::Status(503));
    vcenter.clear_troubles();
    assert_eq!(client.keys(&collector, 10).await, keys(1..=5));
}

#[tokio::test]
async fn delays_drips_and_hangs_take_their_time() {
    let (vcenter, client, collector) = with_backlog(30).await;
    vcenter.trouble("ReadNextEvents", 1, Trouble::Delay(Duration::from_millis(60)));
    let before = Instant::now();
    assert_eq!(client.keys(&collector, 10).await, keys(1..=10));
    assert!(before.elapsed() >= Duration::from_millis(60));
    vcenter.trouble("ReadNextEvents", 1, Trouble::Drip(4, Duration::from_millis(20)));
    let before = Instant::now();
    assert_eq!(client.keys(&collector, 10).await, keys(11..=20));
    assert!(before.elapsed() >= Duration::from_millis(60));
    vcenter.trouble("ReadNextEvents", 1, Trouble::Hang);
    let waited = tokio::time::timeout(Duration::from_millis(100), client.read_next(&collector, 10)).await;
    assert!(waited.is_err());
    assert_eq!(client.keys(&collector, 10).await, keys(21..=30));
}

#[tokio::test]
async fn a_page_can_be_compressed_or_not_utf_8() {
    let (vcenter, mut client, collector) = with_backlog(20).await;
    vcenter.set_gzip(true);
    assert_eq!(client.keys(&collector, 5).await, keys(1..=5), "a client that accepts no gzip gets none");
    client.extra = "Accept-Encoding: gzip\r\n".into();
    let answer = client.read_next(&collector, 5).await.unwrap();
    assert!(answer.head.to_lowercase().contains("content-encoding: gzip"));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut flate2::read::GzDecoder::new(&answer.body[..]), &mut text).unwrap();
    assert!(text.contains("<key>6</key>"));
    vcenter.set_gzip(false);
    vcenter.trouble("ReadNextEvents", 1, Trouble::NotUtf8);
    let answer = client.read_next(&collector, 5).await.unwrap();
    assert!(std::str::from_utf8(&answer.body).is_err());
}

#[tokio::test]
async fn sessions_and_collectors_can_be_taken_away() {
    let (vcenter, client, collector) = with_backlog(5).await;
    vcenter.destroy_collectors();
    assert_eq!(client.read_next(&collector, 1).await.unwrap().fault(), "ManagedObjectNotFound");
    client.collector("").await;
    vcenter.kill_sessions();
    assert_eq!(client.read_next(&collector, 1).await.unwrap().fault(), "NotAuthenticated");
    vcenter.set_password("new");
    let mut other = Client::new(&vcenter);
    assert_eq!(other.login("VMware1!").await.fault(), "InvalidLogin");
    assert_eq!(other.login("new").await.status, 200);
}

#[tokio::test]
async fn idle_sessions_end() {
    let options = Options { session_idle: Duration::ZERO, ..Options::default() };
    let vcenter = VCenter::start(options).await.unwrap();
    let mut client = Client::new(&vcenter);
    assert_eq!(client.login("VMware1!").await.status, 200);
    assert_eq!(client.events("QueryEvents", "<filter/>").await.fault(), "NotAuthenticated");
}

#[tokio::test]
async fn a_restart_keeps_history_and_port_and_drops_sessions() {
    let (vcenter, client, collector) = with_backlog(5).await;
    vcenter.stop().await;
    assert_eq!(client.read_next(&collector, 1).await.err().unwrap().kind(), ErrorKind::ConnectionRefused);
    vcenter.restart().await.unwrap();
    assert_eq!(client.read_next(&collector, 1).await.unwrap().fault(), "NotAuthenticated");
    let client = Client::logged_in(&vcenter).await;
    let collector = client.collector("").await;
    assert_eq!(client.keys(&collector, 10).await, keys(1..=5));
}

#[tokio::test]
async fn only_a_second_read_finds_late_events() {
    let (vcenter, client, collector) = with_backlog(5).await;
    assert_eq!(vcenter.hide_next(3, None), 5..8);
    vcenter.append(5);
    assert_eq!(client.keys(&collector, 100).await, vec![1, 2, 3, 4, 5, 9, 10]);
    assert_eq!(vcenter.truth().exceptions.hidden, vec![5..8]);
    vcenter.reveal();
    assert_eq!(client.keys(&collector, 100).await, Vec::<i32>::new());
    let again = client.collector("").await;
    assert_eq!(client.keys(&again, 100).await, keys(1..=10));
    assert_eq!((vcenter.truth().exceptions.hidden, vcenter.truth().exceptions.late), (vec![], vec![5..8]));
}

#[tokio::test]
async fn forbidden_events_empty_pages_and_a_sticky_gap_holds_the_cursor() {
    let (vcenter, client, collector) = with_backlog(5).await;
    vcenter.forbid_next(20, false);
    vcenter.append(25);
    assert_eq!(client.keys(&collector, 10).await, keys(1..=5));
    assert_eq!(client.keys(&collector, 10).await, Vec::<i32>::new());
    assert_eq!(client.keys(&collector, 10).await, keys(26..=30));
    vcenter.forbid_next(20, true);
    vcenter.append(25);
    for _ in 0..3 {
        assert_eq!(client.keys(&collector, 10).await, Vec::<i32>::new());
    }
    assert_eq!(client.keys(&collector, 100).await, keys(51..=55));
    let query = client.events("QueryEvents", "<filter/>").await;
    assert_eq!(query.keys().len(), 15);
    // A query has no cursor to be held up: it is short only where there is no more.
    let query = client.events("QueryEvents", "<filter><maxCount>12</maxCount></filter>").await;
    assert_eq!(query.keys().len(), 12);
    assert_eq!(client.fetch("EventManager", "EventManager", "latestEvent").await.keys(), vec![55]);
}

#[tokio::test]
async fn duplicates_come_before_new_events() {
    let (vcenter, client, collector) = with_backlog(6).await;
    assert_eq!(client.keys(&collector, 3).await, vec![1, 2, 3]);
    vcenter.duplicate_next(2);
    assert_eq!(client.keys(&collector, 5).await, vec![2, 3, 4, 5, 6]);
    assert_eq!(client.keys(&collector, 5).await, Vec::<i32>::new());
}

#[tokio::test]
async fn collectors_fall_silent_when_keys_wrap() {
    let options = Options { backlog: 3, first_key: i32::MAX - 3, ..Options::default() };
    let vcenter = VCenter::start(options).await.unwrap();
    let client = Client::logged_in(&vcenter).await;
    let collector = client.collector("").await;
    vcenter.append(4);
    assert_eq!(client.keys(&collector, 10).await, keys(i32::MAX - 3..=i32::MAX));
    assert_eq!(client.keys(&collector, 10).await, Vec::<i32>::new());
    let latest = client.fetch("EventHistoryCollector", &collector, "latestPage").await.keys();
    assert_eq!(latest[0], i32::MAX);
    assert_eq!(client.fetch("EventManager", "EventManager", "latestEvent").await.keys(), vec![i32::MIN + 2]);
    let fresh = client.collector("").await;
    assert_eq!(client.keys(&fresh, 10).await[3..], [i32::MAX, i32::MIN, i32::MIN + 1, i32::MIN + 2]);
    assert_eq!(client.events("QueryEvents", "<filter/>").await.keys().len(), 7);
}

#[tokio::test]
async fn a_restored_vcenter_uses_keys_again_with_other_ids() {
    let (vcenter, client, _) = with_backlog(10).await;
    let before = vcenter.fact(8).unwrap();
    vcenter.restore(4, Duration::from_secs(120));
    assert_eq!(client.events("QueryEvents", "<filter/>").await.fault(), "NotAuthenticated");
    vcenter.append(3);
    let client = Client::logged_in(&vcenter).await;
    let collector = client.collector("").await;
    assert_eq!(client.keys(&collector, 100).await, keys(1..=9));
    let after = vcenter.fact(11).unwrap();
    assert_eq!((after.key, before.key), (8, 9));
    let truth = vcenter.truth();
    for index in [0, 8, 10, 11, 12] {
        let fact = vcenter.fact(index).unwrap();
        assert_eq!(truth.index_of(fact.key, fact.created_us), Some(index));
    }
    assert_ne!(vcenter.fact(7).unwrap().id, after.id);
}

#[tokio::test]
async fn odd_events_are_served_as_they_are() {
    let (vcenter, client, collector) = with_backlog(1).await;
    let unknown = vcenter.append_unknown_class().unwrap();
    vcenter.append_huge(10_000_000);
    let poison = vcenter.append_malformed().unwrap();
    let page = client.read_next(&collector, 2).await.unwrap().text();
    assert!(page.contains("xsi:type=\"VmTeleportedEvent\"><key>2</key>"));
    assert!(client.read_next(&collector, 1).await.unwrap().body.len() > 10_000_000);
    assert!(
        client.read_next(&collector, 1).await.unwrap().text().contains("<vm><name>app-000001</vm></name>")
    );
    let exceptions = vcenter.truth().exceptions;
    assert_eq!((exceptions.special[0], exceptions.malformed), (unknown, vec![poison]));
    assert_eq!(vcenter.fact(unknown).unwrap().class, "VmTeleportedEvent");
}

#[tokio::test]
async fn clock_skew_applies_to_every_reported_time() {
    let options = Options { clock_offset_us: -3_600_000_000, ..Options::default() };
    let vcenter = VCenter::start(options).await.unwrap();
    let client = Client::logged_in(&vcenter).await;
    let local = jiff::Timestamp::now().as_microsecond();
    let now = client.call("ServiceInstance", "ServiceInstance", "CurrentTime", "").await.unwrap();
    let now = now.element("returnval").parse::<jiff::Timestamp>().unwrap().as_microsecond();
    assert!((local - now - 3_600_000_000).abs() < 60_000_000);
    vcenter.append(1);
    vcenter.step_clock(-60_000_000);
    vcenter.append(1);
    let (first, second) = (vcenter.fact(0).unwrap().created_us, vcenter.fact(1).unwrap().created_us);
    assert!((first - now).abs() < 60_000_000 && second >= first);
}

#[tokio::test]
async fn times_can_have_three_digits() {
    let (vcenter, client, collector) = with_backlog(1).await;
    vcenter.set_millisecond_times(true);
    let page = client.read_next(&collector, 1).await.unwrap();
    assert_eq!(page.element("createdTime").len(), "2026-11-22T00:06:52.398Z".len());
}

#[tokio::test]
async fn reading_an_endless_vcenter_creates_events() {
    let options = Options { pace: Pace::Endless, total: Some(2_500), ..Options::default() };
    let vcenter = VCenter::start(options).await.unwrap();
    let client = Client::logged_in(&vcenter).await;
    let collector = client.collector("").await;
    for expected in [1_000, 1_000, 500, 0] {
        assert_eq!(client.keys(&collector, 1_000).await.len(), expected);
    }
    assert_eq!(vcenter.produced(), 2_500);
}

#[tokio::test]
async fn a_port_in_use_is_an_error_that_names_it() {
    let vcenter = VCenter::start(Options::default()).await.unwrap();
    let options = Options { port: vcenter.port(), ..Options::default() };
    let error = VCenter::start(options).await.err().unwrap().to_string();
    assert!(error.starts_with(&format!("cannot listen on 127.0.0.1:{}", vcenter.port())), "{error}");
}

#[tokio::test]
async fn https_shows_the_requested_certificate() {
    for (certificate, accepted) in
        [(Certificate::Valid, true), (Certificate::Expired, false), (Certificate::WrongName, false)]
    {
        let options = Options { tls: Some(certificate), ..Options::default() };
        let vcenter = VCenter::start(options).await.unwrap();
        assert!(vcenter.url().starts_with("https://127.0.0.1:"));
        let tls = vcenter.tls().unwrap();
        assert_eq!(tls.thumbprint().len(), 32 * 3 - 1);
        let mut roots = rustls::RootCertStore::empty();
        for der in rustls_pem(tls.ca_pem()) {
            roots.add(der).unwrap();
        }
        let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
        let stream = tokio::net::TcpStream::connect(("127.0.0.1", vcenter.port())).await.unwrap();
        let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
        assert_eq!(connector.connect(name, stream).await.is_ok(), accepted, "{certificate:?}");
    }
}

fn rustls_pem(pem: &str) -> Vec<rustls::pki_types::CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject;
    rustls::pki_types::CertificateDer::pem_slice_iter(pem.as_bytes()).map(Result::unwrap).collect()
}
