//! The target and its verifier: complete delivery passes, and every fault is found.

use std::sync::Arc;
use std::time::Duration;

use crate::common::request;
use testbed::sink::{Behavior, Reply, Sink, SinkOptions};
use testbed::vcenter::{Fact, Mix, Options, VCenter};
use testbed::verify::{Latency, Phase, Report, Verifier, take_latency_of};

/// The CloudEvent of an event, in the order of the documented envelope.
fn cloud_event(vcenter: &VCenter, fact: &Fact) -> String {
    let created = jiff::Timestamp::from_microsecond(fact.created_us).unwrap();
    format!(
        "{{\"id\":\"{}\",\"source\":\"{}\",\"specversion\":\"1.0\",\"type\":\"com.vmware.event.router/event\",\
         \"subject\":\"{}\",\"time\":\"2026-11-22T00:00:00Z\",\"data\":{{\"Key\":{},\"ChainId\":1,\"CreatedTime\":\"{}\"}},\
         \"datacontenttype\":\"application/json\"}}",
        fact.id,
        vcenter.url(),
        fact.class,
        fact.key,
        created
    )
}

async fn post(sink: &Sink, content_type: &str, extra: &str, body: &str) -> std::io::Result<u16> {
    let text = format!(
        "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: {content_type}\r\n{extra}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    request(sink.port(), &text).await.map(|answer| answer.status)
}

async fn deliver(sink: &Sink, vcenter: &VCenter, indexes: &[u64]) -> std::io::Result<u16> {
    let events: Vec<String> =
        indexes.iter().map(|index| cloud_event(vcenter, &vcenter.fact(*index).unwrap())).collect();
    post(sink, "application/cloudevents-batch+json", "", &format!("[{}]", events.join(","))).await
}

async fn start(strict: bool, options: Options) -> (VCenter, Sink) {
    let vcenter = VCenter::start(options).await.unwrap();
    let verifier = if strict { Verifier::strict() } else { Verifier::new() };
    let sink =
        Sink::start(SinkOptions { keep: true, ..SinkOptions::default() }, Arc::new(verifier)).await.unwrap();
    sink.verifier().watch(&vcenter);
    (vcenter, sink)
}

fn backlog(backlog: u64) -> Options {
    Options { backlog, ..Options::default() }
}

#[tokio::test]
async fn all_content_modes_are_read_and_complete_delivery_passes() {
    for strict in [false, true] {
        let (vcenter, sink) = start(strict, backlog(100)).await;
        let indexes: Vec<u64> = (0..98).collect();
        assert_eq!(deliver(&sink, &vcenter, &indexes).await.unwrap(), 202);
        let report = sink.verifier().report();
        assert_eq!((report.total.missing, report.total.missing_keys.len()), (2, 0));
        assert_eq!(report.sources[0].tally.missing_keys, vec![99, 100]);
        let structured = cloud_event(&vcenter, &vcenter.fact(98).unwrap());
        post(&sink, "application/cloudevents+json", "", &structured).await.unwrap();
        let fact = vcenter.fact(99).unwrap();
        let created = jiff::Timestamp::from_microsecond(fact.created_us).unwrap();
        let data = format!("{{\"Key\": {}, \"CreatedTime\": \"{created}\"}}", fact.key);
        let headers =
            format!("ce-id: {}\r\nce-source: {}\r\nce-specversion: 1.0\r\n", fact.id, vcenter.url());
        post(&sink, "application/json", &headers, &data).await.unwrap();
        let report = sink.verifier().report();
        assert!(report.is_complete(), "{report:?}");
        let total = &report.total;
        assert_eq!((total.delivered, total.unique, total.expected), (100, 100, 100));
        assert_eq!((total.duplicates, total.out_of_order, total.out_of_order_in_entity), (0, 0, 0));
        let json = serde_json::to_string(&report).unwrap();
        assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
    }
}

#[tokio::test]
async fn every_fault_of_a_delivery_is_found() {
    let (vcenter, sink) = start(false, backlog(50)).await;
    deliver(&sink, &vcenter, &[0, 1, 2, 1]).await.unwrap();
    assert_eq!(sink.verifier().report().total.duplicates, 1);
    deliver(&sink, &vcenter, &[5, 3]).await.unwrap();
    let report = sink.verifier().report();
    assert_eq!((report.total.out_of_order, &report.sources[0].tally.out_of_order_keys), (1, &vec![4]));

    let mut wrong = vcenter.fact(6).unwrap();
    wrong.id = uuid::Uuid::new_v4();
    post(&sink, "application/cloudevents+json", "", &cloud_event(&vcenter, &wrong)).await.unwrap();
    wrong.id = vcenter.fact(6).unwrap().id;
    wrong.key = 4_711;
    post(&sink, "application/cloudevents+json", "", &cloud_event(&vcenter, &wrong)).await.unwrap();
    let stranger = VCenter::start(backlog(1)).await.unwrap();
    deliver(&sink, &stranger, &[0]).await.unwrap();
    let no_key = cloud_event(&vcenter, &wrong).replace("\"Key\":", "\"Kay\":");
    post(&sink, "application/cloudevents+json", "", &no_key).await.unwrap();
    post(&sink, "application/cloudevents-batch+json", "", "this is no JSON").await.unwrap();
    let report = sink.verifier().report();
    assert_eq!((report.total.wrong_ids, report.total.unknown, report.unreadable), (1, 1, 2));
    assert_eq!(report.stray_sources.get(&stranger.url()), Some(&1));
    assert!(!report.is_complete());
}

#[tokio::test]
async fn order_within_an_entity_is_checked_apart() {
    let (vcenter, sink) = start(false, Options { vms: 10, ..backlog(2_000) }).await;
    let entity = |index: u64| vcenter.fact(index).unwrap().entity;
    let lane = (0..2_000).find(|index| matches!(entity(*index), testbed::vcenter::Entity::Vm(_))).unwrap();
    let partner = (lane + 1..2_000).find(|index| entity(*index) == entity(lane)).unwrap();
    let other = (lane + 1..2_000).find(|index| entity(*index) != entity(lane)).unwrap();
    deliver(&sink, &vcenter, &[other, lane]).await.unwrap();
    let total = sink.verifier().report().total;
    assert_eq!((total.out_of_order, total.out_of_order_in_entity), (1, 0));
    let (vcenter, sink) = start(false, Options { vms: 10, ..backlog(2_000) }).await;
    deliver(&sink, &vcenter, &[partner, lane]).await.unwrap();
    let total = sink.verifier().report().total;
    assert_eq!((total.out_of_order, total.out_of_order_in_entity), (1, 1));
}

#[tokio::test]
async fn hidden_and_forbidden_events_are_not_missing() {
    let (vcenter, sink) = start(false, backlog(10)).await;
    vcenter.hide_next(2, None);
    vcenter.append(4);
    vcenter.forbid_next(3, false);
    vcenter.append(4);
    vcenter.append_malformed();
    let poison = vcenter.produced() - 1;
    let visible: Vec<u64> = (0..10).chain(12..14).chain(17..18).collect();
    deliver(&sink, &vcenter, &visible).await.unwrap();
    assert!(sink.verifier().report().is_complete());
    vcenter.reveal();
    assert_eq!(sink.verifier().report().total.missing, 2);
    deliver(&sink, &vcenter, &[10, 11]).await.unwrap();
    let report = sink.verifier().report();
    assert!(report.is_complete());
    assert_eq!((report.total.late, report.total.out_of_order, report.total.unexpected), (2, 0, 0));
    deliver(&sink, &vcenter, &[14, poison]).await.unwrap();
    assert_eq!(sink.verifier().report().total.unexpected, 2);
}

#[tokio::test]
async fn events_of_a_restored_vcenter_are_distinguished() {
    let (vcenter, sink) = start(false, backlog(10)).await;
    deliver(&sink, &vcenter, &(0..8).collect::<Vec<_>>()).await.unwrap();
    vcenter.restore(4, Duration::from_secs(300));
    vcenter.append(3);
    deliver(&sink, &vcenter, &[10, 11, 12]).await.unwrap();
    let report = sink.verifier().report();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!((report.total.unique, report.total.duplicates), (11, 0));
}

#[tokio::test]
async fn latency_covers_live_events_by_the_clock_of_vcenter() {
    let options = Options { backlog: 5, clock_offset_us: 7_200_000_000, ..Options::default() };
    let (vcenter, sink) = start(false, options).await;
    let live = vcenter.append(3);
    deliver(&sink, &vcenter, &(0..live.end).collect::<Vec<_>>()).await.unwrap();
    let latency = sink.verifier().take_latency();
    assert_eq!(latency.count, 3);
    assert!(latency.max_us < 60_000_000, "{latency:?}");
    assert_eq!(sink.verifier().take_latency().count, 0);
}

/// The figures of a plain list of latencies, by the definition of a percentile.
fn latency_of(mut list: Vec<i64>) -> Latency {
    list.sort_unstable();
    let at = |share: f64| list[((list.len() as f64 * share).ceil() as usize).max(1) - 1] as u64;
    Latency {
        count: list.len() as u64,
        p50_us: at(0.5),
        p90_us: at(0.9),
        p99_us: at(0.99),
        p999_us: at(0.999),
        max_us: at(1.0),
        mean_us: list.iter().sum::<i64>() as f64 / list.len() as f64,
    }
}

/// The histogram keeps three digits.
fn assert_equal(found: &Latency, expected: &Latency) {
    assert_eq!(found.count, expected.count);
    for (found, expected) in [
        (found.p50_us, expected.p50_us),
        (found.p90_us, expected.p90_us),
        (found.p99_us, expected.p99_us),
        (found.p999_us, expected.p999_us),
        (found.max_us, expected.max_us),
        (found.mean_us as u64, expected.mean_us as u64),
    ] {
        assert!(found.abs_diff(expected) <= expected / 1_000 + 1, "{found} {expected}");
    }
}

#[tokio::test]
async fn every_latency_is_counted_in_some_interval() {
    let (backlog_events, live_events) = (40, 4_000);
    for warm_up_looks in [0, 1, 3] {
        let options = Options { backlog: backlog_events, ..Options::default() };
        let vcenter = VCenter::start(options).await.unwrap();
        vcenter.append(live_events);
        let verifier = Verifier::new();
        verifier.watch(&vcenter);
        let (mut warm_up, mut measured, mut interval_counts) = (Vec::new(), Vec::new(), 0);
        let events: Vec<u64> = (0..backlog_events + live_events).collect();
        let looks = events.chunks(500);
        for (look, events) in looks.enumerate() {
            for index in events {
                let fact = vcenter.fact(*index).unwrap();
                // Spread over five decades, each event slower or faster than the one before, with
                // slow ones at the start.
                let latency_us = 10_000_000 / (1 + *index as i64 % 997) + *index as i64;
                let body = cloud_event(&vcenter, &fact);
                // A second delivery is later and does not count.
                for repeated in [0, 60_000_000] {
                    verifier.body(body.as_bytes(), fact.created_us + latency_us + repeated);
                }
                if *index >= backlog_events {
                    if look < warm_up_looks { &mut warm_up } else { &mut measured }.push(latency_us);
                }
            }
            let phase = if look < warm_up_looks { Phase::WarmUp } else { Phase::Measured };
            // The last interval is not taken: the report counts it all the same.
            if events.len() == 500 {
                interval_counts += take_latency_of([&verifier], phase).count;
            }
        }
        let report = verifier.report();
        let (total, counted) = (&report.total, report.latency.count + report.warm_up.count);
        assert_eq!(total.duplicates, backlog_events + live_events);
        assert_eq!(total.from_backlog, backlog_events);
        assert_eq!(counted + total.from_backlog, total.unique, "every event is counted once");
        assert_eq!(interval_counts, counted - live_events % 500 - backlog_events, "and in one interval");
        assert_equal(&report.latency, &latency_of(measured));
        if warm_up_looks > 0 {
            assert_equal(&report.warm_up, &latency_of(warm_up));
        } else {
            assert_eq!(report.warm_up, Latency::default());
        }
    }
}

#[tokio::test]
async fn behaviours_answer_as_configured_and_count_only_taken_events() {
    let (vcenter, sink) = start(false, backlog(20)).await;
    sink.next(1, Behavior { retry_after: Some("7".into()), ..Behavior::status(429) });
    assert_eq!(deliver(&sink, &vcenter, &[0]).await.unwrap(), 429);
    sink.next(1, Behavior::reply(Reply::Reset));
    assert!(deliver(&sink, &vcenter, &[0]).await.is_err());
    assert_eq!(sink.verifier().progress().delivered, 0);
    sink.next(1, Behavior::reply(Reply::LoseAnswer));
    assert!(deliver(&sink, &vcenter, &[0]).await.is_err());
    sink.next(1, Behavior::reply(Reply::HalfBody));
    assert!(deliver(&sink, &vcenter, &[1]).await.is_err());
    assert_eq!(sink.verifier().progress().unique, 2);
    sink.next(1, Behavior::reply(Reply::Hang));
    let hung = tokio::time::timeout(Duration::from_millis(100), deliver(&sink, &vcenter, &[2])).await;
    assert!(hung.is_err());
    sink.fail(0.5, Behavior::status(500));
    let statuses =
        [deliver(&sink, &vcenter, &[2]).await.unwrap(), deliver(&sink, &vcenter, &[3]).await.unwrap()];
    assert_eq!(statuses, [202, 500]);
    sink.fail(0.0, Behavior::default());
    sink.outage().await;
    assert!(deliver(&sink, &vcenter, &[3]).await.is_err());
    sink.resume().await.unwrap();
    assert_eq!(deliver(&sink, &vcenter, &[3]).await.unwrap(), 202);
    assert_eq!((sink.requests(), sink.taken()), (8, 4));
    assert_eq!(sink.received().iter().filter(|request| request.taken).count(), 4);
}

#[tokio::test]
async fn http_2_with_prior_knowledge_is_served() {
    let (vcenter, sink) = start(false, backlog(3)).await;
    let stream = tokio::net::TcpStream::connect(("127.0.0.1", sink.port())).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake(
        hyper_util::rt::TokioExecutor::new(),
        hyper_util::rt::TokioIo::new(stream),
    )
    .await
    .unwrap();
    tokio::spawn(connection);
    let body = cloud_event(&vcenter, &vcenter.fact(0).unwrap());
    let request = hyper::Request::post(sink.url())
        .header("content-type", "application/cloudevents+json")
        .body(http_body_util::Full::new(bytes::Bytes::from(body)))
        .unwrap();
    assert_eq!(sender.send_request(request).await.unwrap().status(), 202);
    assert_eq!(sink.verifier().progress().unique, 1);
}

#[tokio::test]
async fn foreign_events_do_not_count_in_the_order_of_entities() {
    let mix = Mix::Custom(vec![("VmPoweredOnEvent".into(), 1)]);
    let (vcenter, sink) = start(false, Options { vms: 1, mix, ..backlog(4) }).await;
    let special = vcenter.append_unknown_class().unwrap();
    deliver(&sink, &vcenter, &[special, 0]).await.unwrap();
    let total = sink.verifier().report().total;
    assert_eq!((total.out_of_order, total.out_of_order_in_entity), (1, 0));
    deliver(&sink, &vcenter, &[3, 2]).await.unwrap();
    let report = sink.verifier().report();
    assert_eq!(report.total.out_of_order_in_entity, 1);
    let overtaken = &report.sources[0].tally.overtaken_in_entity[0];
    assert_eq!((overtaken.index, overtaken.key, overtaken.by), (2, 3, 3));
}
