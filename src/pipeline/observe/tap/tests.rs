//! A hub with listeners, without a router.

use serde_json::json;

use super::*;
use crate::event::testing::batch;
use crate::event::{Record, Selection, Span};
use crate::limits::TAP_SHOWN_PER_SECOND;
use crate::processor::{BatchSlice, Blame, BoxFuture, Failure, RequestLimits};

/// A page of events whose subjects are `A0`, `A1`, …
fn page(events: usize) -> Arc<Batch> {
    let keys: Vec<(i32, i64)> = (0..events as i32).map(|key| (key, 1)).collect();
    let mut page = batch(0, &keys);
    for at in 0..events {
        let start = page.arena.len();
        page.arena.extend_from_slice(format!("A{at}").as_bytes());
        let subject = Span::new(start, page.arena.len());
        page.records[at] = Record { subject, ..page.records[at] };
    }
    Arc::new(page)
}

/// Lets the listeners' tasks run until they wait.
async fn settle(tap: &Tap, expected: u64) {
    while tap.counts().examined < expected {
        tokio::task::yield_now().await;
    }
}

fn subjects(events: &[TappedEvent]) -> Vec<&str> {
    events.iter().map(|event| event.subject.as_str()).collect()
}

async fn take(tap: &mut Tap, events: usize) -> Vec<TappedEvent> {
    let mut taken = Vec::new();
    for _ in 0..events {
        taken.push(tap.next().await.expect("the listener runs"));
    }
    taken
}

#[tokio::test]
async fn a_listener_gets_what_its_filter_selects() {
    let hub = TapHub::default();
    assert!(!hub.is_watched());
    hub.read(&page(3));
    let by_pattern = TapFilter { pattern: Some(json!({"subject": ["A1", "A2"]})), ..TapFilter::default() };
    let by_type =
        TapFilter { types: vec!["A*".into(), "x".into()], source: Some("vc".into()), ..TapFilter::default() };
    let of_other = TapFilter { source: Some("other".into()), ..TapFilter::default() };
    let mut by_pattern = hub.listen(by_pattern).unwrap();
    let mut by_type = hub.listen(by_type).unwrap();
    let of_other = hub.listen(of_other).unwrap();
    assert!(hub.is_watched());
    hub.read(&page(3));
    assert_eq!(subjects(&take(&mut by_pattern, 2).await), ["A1", "A2"]);
    let all = take(&mut by_type, 3).await;
    assert_eq!(subjects(&all), ["A0", "A1", "A2"]);
    let event: serde_json::Value = serde_json::from_str(all[0].event.get()).unwrap();
    assert_eq!((&event["subject"], &event["source"]), (&json!("A0"), &json!("https://vc/sdk")));
    assert_eq!(by_pattern.counts(), TapCounts { examined: 3, matched: 2, skipped: 0, not_shown: 0 });
    assert_eq!(of_other.counts(), TapCounts::default());
    drop((by_pattern, by_type, of_other));
    assert!(!hub.is_watched());
}

#[tokio::test]
async fn a_refused_filter_leaves_no_listener() {
    let hub = TapHub::default();
    let wrong = TapFilter { pattern: Some(json!({"subject": [{"prefx": "A"}]})), ..TapFilter::default() };
    let refusal = hub.listen(wrong).err().unwrap().to_string();
    assert!(refusal.contains("$.subject[0].prefx") && !hub.is_watched(), "{refusal}");
    let many = TapFilter { types: vec!["a".into(); 65], ..TapFilter::default() };
    assert_eq!(hub.listen(many).err(), Some(TapRefusal::TooManyTypes));
    let taps: Vec<Tap> = (0..TAP_LISTENERS_MAX).map(|_| hub.listen(TapFilter::default()).unwrap()).collect();
    assert_eq!(hub.listen(TapFilter::default()).err(), Some(TapRefusal::TooMany));
    drop(taps);
    assert!(hub.listen(TapFilter::default()).is_ok());
}

#[tokio::test]
async fn a_reader_that_does_not_read_holds_no_pages() {
    let hub = TapHub::default();
    let mut tap = hub.listen(TapFilter::default()).unwrap();
    let page = page(100);
    for round in 1..=30 {
        hub.read(&page);
        settle(&tap, round * 100).await;
    }
    // The listener has let go of each page, and kept a bounded number of events.
    assert_eq!(Arc::strong_count(&page), 1);
    let counts = tap.counts();
    assert_eq!((counts.matched, counts.skipped), (3_000, 0));
    assert!(counts.not_shown >= 3_000 - u64::from(TAP_SHOWN_PER_SECOND) - 100, "{counts:?}");
    let shown = (counts.matched - counts.not_shown) as usize;
    assert_eq!(take(&mut tap, shown).await.len(), shown);
    assert_eq!(tap.listener.counters.waiting_bytes.load(Relaxed), 0);
}

#[tokio::test]
async fn a_busy_router_is_sampled() {
    let hub = TapHub::default();
    let tap = hub.listen(TapFilter { types: vec!["none".into()], ..TapFilter::default() }).unwrap();
    // The task does not run meanwhile: the queue fills, and nothing waits.
    let page = page(1_000);
    for _ in 0..10 {
        hub.read(&page);
    }
    assert_eq!(tap.counts().skipped, 1_000 * (10 - TAP_QUEUE_MAX as u64));
    settle(&tap, 1_000 * TAP_QUEUE_MAX as u64).await;
    assert_eq!(Arc::strong_count(&page), 1);
}

#[test]
fn an_allowance_comes_back_over_time() {
    let begin = Instant::now();
    let mut allowance = Allowance::new(1_000, begin);
    assert!(allowance.take(1_000, begin) && !allowance.take(1, begin));
    let later = begin + Duration::from_millis(10);
    assert!(!allowance.take(11, later) && allowance.take(10, later) && !allowance.take(1, later));
    // No more than for one second comes back.
    assert!(!allowance.take(1_001, begin + Duration::from_secs(60)));
}

struct Refusing;

impl Processor for Refusing {
    fn request_limits(&self) -> RequestLimits {
        RequestLimits { events_max: 10, bytes_max: 10, partial: true }
    }

    fn deliver<'a>(&'a self, _: &'a DeliveryRequest) -> BoxFuture<'a, DeliveryOutcome> {
        Box::pin(std::future::ready(DeliveryOutcome::Delivered))
    }

    fn preview(&self, _: &BatchSlice, i: usize, function: &str) -> Option<String> {
        Some(format!("POST {function} {i}"))
    }

    fn check(&self) -> BoxFuture<'_, Result<String, Failure>> {
        Box::pin(std::future::ready(Ok(String::new())))
    }
}

#[tokio::test]
async fn answered_requests_are_shown_with_their_outcome() {
    let hub = TapHub::default();
    let to = |to: &str| TapFilter { to: Some(to.into()), with_request: true, ..TapFilter::default() };
    let mut one = hub.listen(to("fn/a")).unwrap();
    let mut all = hub.listen(to("fn")).unwrap();
    let other = hub.listen(to("fn/b")).unwrap();
    let processor: Arc<dyn Processor> = Arc::new(Refusing);
    let slice = BatchSlice { batch: page(3), selection: [0, 2].into_iter().collect::<Selection>() };
    let request = DeliveryRequest { function: "a.ns".into(), slices: vec![slice], events: 2, attempt: 3 };
    let outcome = DeliveryOutcome::Partial(vec![None, Some(Failure::new(Blame::Event, "too odd"))]);
    let target = (&processor, &"fn/a.ns".into());
    hub.answered(target, &request, &outcome, Duration::from_millis(7));
    // Events that are read are not shown to those who watch a destination.
    hub.read(&page(3));
    for tap in [&mut one, &mut all] {
        let shown = take(tap, 2).await;
        assert_eq!(subjects(&shown), ["A0", "A2"]);
        let facts: Vec<_> = shown.iter().map(|event| event.delivery.clone().unwrap()).collect();
        assert_eq!((facts[0].attempt, facts[0].took_ms, facts[0].failure.as_deref()), (3, 7, None));
        assert_eq!(facts[1].failure.as_deref(), Some("too odd"));
        assert_eq!(facts[1].request.as_deref(), Some("POST a.ns 2"));
        assert_eq!(tap.counts().examined, 2);
    }
    assert_eq!(other.counts(), TapCounts::default());
}
