//! Names the limit of a run in which no core and no stage was saturated: a setting of the router,
//! the delivery order, or the target.
//!
//! The evidence comes from the samples, and Little's law connects it:
//!
//! ```text
//! events/s = requests in flight / seconds per request × events per request
//! ```

use testbed::limits::PUT_EVENTS_ENTRIES_MAX;
use testbed::vcenter::{EntitiesOfMix, Model};

use crate::bottleneck::mean;
use crate::measure::sample::{Requests, Sample};
use crate::workload::{Ordering, Shape, Workload};

/// A limit counts as reached from this share of it, because samples average over bursts.
const REACHED: f64 = 0.9;
/// The same for requests in flight: the router works between an answer and the next request.
const WAITING: f64 = 0.8;
/// A request counts as full from this share of its events or bytes. The last request of a page is
/// seldom full.
const FULL: f64 = 0.8;
/// If at least this share of the entities with work have a request in flight, the others only wait
/// for their next read.
const ENTITIES_SENT: f64 = 0.4;

/// Averages of the requests to one destination.
#[derive(Clone, Copy, Debug)]
struct Evidence {
    /// Requests in flight on average.
    in_flight: f64,
    request_ms: f64,
    requests_rate: f64,
    events_rate: f64,
    events_per_request: f64,
    bytes_per_request: f64,
    /// Calls per second of the busiest source.
    calls_rate: f64,
    entities_waiting: f64,
}

impl Evidence {
    fn of(workload: &Workload, samples: &[Sample]) -> Evidence {
        let destinations = destinations(workload);
        let requests = |value: fn(&Requests) -> f64| {
            mean(samples, &|sample| sample.requests.as_ref().map_or(0.0, value))
        };
        let requests_rate = requests(|requests| requests.rate) / destinations;
        let events_rate = mean(samples, &|sample| sample.delivered_rate);
        let request_seconds = requests(|requests| requests.in_flight);
        let answered =
            requests(
                |requests| {
                    if requests.seconds > 0.0 { requests.in_flight / requests.seconds } else { 0.0 }
                },
            );
        let looked_at = mean(samples, &|sample| sample.requests_under_way.unwrap_or_default());
        // If answers come late, some intervals have none. Then use the requests that were open when
        // the samples were taken.
        let in_flight = if answered > 0.0 { request_seconds } else { looked_at };
        let ratio = |count: f64, of: f64| if of > 0.0 { count / of } else { 0.0 };
        Evidence {
            in_flight: in_flight / destinations,
            request_ms: ratio(request_seconds, answered) * 1e3,
            requests_rate,
            events_rate,
            events_per_request: ratio(events_rate, requests_rate),
            bytes_per_request: ratio(requests(|requests| requests.bytes_rate) / destinations, requests_rate),
            calls_rate: mean(samples, &|sample| sample.calls_rate.unwrap_or_default()),
            entities_waiting: mean(samples, &|sample| sample.entities_waiting as f64),
        }
    }

    /// Little's law with these numbers; empty without numbers.
    fn arithmetic(&self) -> String {
        if self.request_ms <= 0.0 || self.events_per_request <= 0.0 {
            return String::new();
        }
        let Evidence { in_flight, request_ms, events_per_request, .. } = *self;
        let rate = in_flight / request_ms * 1e3 * events_per_request;
        format!(
            ": {in_flight:.2} in flight / {request_ms:.1} ms per request x {events_per_request:.1} events per request = {rate:.0} events/s"
        )
    }
}

/// The cause, with its numbers and a remedy. `None` if no setting and no order was at its limit.
pub fn find(workload: &Workload, samples: &[Sample]) -> Option<String> {
    let evidence = Evidence::of(workload, samples);
    by_rate_limit(workload, &evidence)
        .or_else(|| by_calls(workload, &evidence))
        .or_else(|| by_requests_in_flight(workload, &evidence))
        .or_else(|| by_few_entities(workload, &evidence))
}

/// The text for a run in which nothing was at its limit.
pub fn round_trips(workload: &Workload, samples: &[Sample]) -> String {
    let evidence = Evidence::of(workload, samples);
    let allowed = in_flight_max(workload);
    format!(
        "round trips: no core, stage or setting was at its limit, nor was the target; {:.1} of {allowed:.0} requests were in flight{}",
        evidence.in_flight,
        evidence.arithmetic()
    )
}

/// The processor's `rateLimit` was reached.
fn by_rate_limit(workload: &Workload, evidence: &Evidence) -> Option<String> {
    let events = ("eventsPerSecond", workload.events_per_second_max(), evidence.events_rate, "events");
    let requests =
        ("requestsPerSecond", workload.requests_per_second_max(), evidence.requests_rate, "requests");
    for (key, allowed, rate, what) in [events, requests] {
        if let Some(allowed) = allowed.filter(|allowed| rate >= REACHED * allowed) {
            return Some(format!(
                "a setting of the router: the processor's `rateLimit.{key}` allows {allowed:.0} {what} per second, and {rate:.0} were sent. A higher limit helps"
            ));
        }
    }
    None
}

/// The source's `maxCallsPerSecond` was reached.
fn by_calls(workload: &Workload, evidence: &Evidence) -> Option<String> {
    let allowed = workload.calls_per_second_max();
    (evidence.calls_rate >= REACHED * allowed).then(|| {
        format!(
            "a setting of the router: the source's `maxCallsPerSecond` allows {allowed:.0} calls per second, and {:.0} were made. A higher value helps",
            evidence.calls_rate
        )
    })
}

/// All requests that the router allows were in flight.
fn by_requests_in_flight(workload: &Workload, evidence: &Evidence) -> Option<String> {
    let allowed = in_flight_max(workload);
    if evidence.in_flight <= WAITING * allowed {
        return None;
    }
    let arithmetic = evidence.arithmetic();
    let full = full_requests(workload, evidence).map(|full| format!("; {full}")).unwrap_or_default();
    let batches = batches_would_help(workload);
    let by_source = allowed < workload.concurrency();
    Some(if by_source {
        let sources = workload.vcenters;
        format!(
            "the target's answers, one request at a time: `ordering: source` allows {allowed:.0} in flight, one for each of {sources} vCenter{}{arithmetic}{full}. \
             A faster target, {batches}`ordering: entity` or `none` would help",
            if sources == 1 { "" } else { "s" }
        )
    } else {
        format!(
            "the target's answers, with all requests in flight that the processor's `concurrency: {allowed:.0}` allows{arithmetic}{full}. \
             A faster target, {batches}or a higher `concurrency` would help"
        )
    })
}

/// Fewer entities had work than requests may be in flight, and nearly all of those had a request.
fn by_few_entities(workload: &Workload, evidence: &Evidence) -> Option<String> {
    let concurrency = workload.concurrency();
    let Evidence { in_flight, entities_waiting, request_ms, .. } = *evidence;
    let few = entities_waiting > 0.0 && entities_waiting < WAITING * concurrency;
    if workload.ordering() != Ordering::Entity || !few || in_flight < ENTITIES_SENT * entities_waiting {
        return None;
    }
    let mix = Model::new(workload.model(0)).ok()?.entities_of_mix();
    let EntitiesOfMix { count, busiest, busiest_share } = mix;
    let known = count * u64::from(workload.vcenters);
    // Events of the busiest entity come between the others, so it bounds them.
    let bound = 1e3 / request_ms / busiest_share * f64::from(workload.vcenters);
    let busiest = if request_ms > 0.0 && bound.is_finite() {
        format!(
            ". The busiest one, {busiest}, has {:.1} % of its vCenter's events, one at a time of {request_ms:.1} ms, which bounds the rate to {bound:.0} events/s",
            busiest_share * 100.0
        )
    } else {
        String::new()
    };
    Some(format!(
        "few objects busy at once: `ordering: entity` sends the events of one object one after another, and of {known} objects in the mix \
         {entities_waiting:.0} had undelivered events on average, with {in_flight:.1} of {concurrency:.0} requests in flight{}{busiest}. \
         Events spread over more objects, a shorter function time, {}or `ordering: none` would help",
        evidence.arithmetic(),
        batches_would_help(workload)
    ))
}

/// The setting that limits the size of requests, if they are full.
fn full_requests(workload: &Workload, evidence: &Evidence) -> Option<String> {
    if !matches!(workload.target.shape, Shape::Batched | Shape::Eventbridge) {
        return None;
    }
    let entries_max = if workload.target.shape == Shape::Eventbridge {
        PUT_EVENTS_ENTRIES_MAX as f64
    } else {
        f64::INFINITY
    };
    let (events, bytes) = (workload.batch_events_max(), workload.batch_bytes_max());
    if evidence.events_per_request >= FULL * entries_max.min(events) {
        return Some(if events <= entries_max {
            format!("requests are full at `batch.events: {events:.0}`, and a higher value would help")
        } else {
            format!("requests are full at the {entries_max:.0} events that PutEvents takes")
        });
    }
    (evidence.bytes_per_request >= FULL * bytes).then(|| {
        format!(
            "requests are full at `batch.bytes` ({:.0} KiB of {:.0} KiB), and a higher value would help",
            evidence.bytes_per_request / 1024.0,
            bytes / 1024.0
        )
    })
}

fn batches_would_help(workload: &Workload) -> &'static str {
    match workload.target.shape {
        // A function takes one event, and AWS sets the size of EventBridge's requests.
        Shape::Openfaas | Shape::Eventbridge | Shape::Batched => "",
        Shape::Structured | Shape::Binary => "batches (`mode: batched`), ",
    }
}

/// The number of destinations of the workload's only processor.
fn destinations(workload: &Workload) -> f64 {
    if workload.target.shape == Shape::Openfaas { f64::from(workload.target.functions) } else { 1.0 }
}

/// The number of requests that one destination may have in flight.
fn in_flight_max(workload: &Workload) -> f64 {
    match workload.ordering() {
        Ordering::Source => workload.concurrency().min(f64::from(workload.vcenters)),
        Ordering::Entity | Ordering::None => workload.concurrency(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sample of one second with `rate` requests to one destination. Each takes `seconds` and
    /// holds `events` events.
    fn second(rate: f64, seconds: f64, events: f64) -> Sample {
        Sample {
            delivered_rate: rate * events,
            requests: Some(Requests {
                rate,
                in_flight: rate * seconds,
                seconds,
                bytes_rate: rate * events * 1_000.0,
            }),
            calls_rate: Some(50.0),
            requests_under_way: Some(rate * seconds),
            ..Sample::default()
        }
    }

    fn workload(more: &str) -> Workload {
        Workload::parse("w", &format!("rate: 1000\nduration: 10s\n{more}")).unwrap()
    }

    #[test]
    fn each_cause_is_named_with_its_numbers_and_its_remedy() {
        let check = |settings: &str, sample: Sample, expected: &[&str]| {
            let found = find(&workload(settings), &[sample]);
            let text = found.unwrap_or_else(|| panic!("{settings}: no cause"));
            for part in expected {
                assert!(text.contains(part), "{settings}: `{part}` is not in: {text}");
            }
        };
        check(
            "target: {shape: structured}",
            second(39.2, 0.025, 1.0),
            &[
                "the target's answers, one request at a time: `ordering: source` allows 1 in flight, one for each of 1 vCenter:",
                "0.98 in flight / 25.0 ms per request x 1.0 events per request = 39 events/s",
                "`mode: batched`",
                "`ordering: entity` or `none`",
            ],
        );
        check(
            "vcenters: 4\ntarget: {shape: openfaas}",
            second(195.0, 0.02, 1.0),
            &["allows 4 in flight, one for each of 4 vCenters", "3.90 in flight / 20.0 ms"],
        );
        check(
            "target: {shape: structured, ordering: none}",
            second(1580.0, 0.02, 1.0),
            &[
                "all requests in flight that the processor's `concurrency: 32` allows",
                "31.60 in flight",
                "a higher `concurrency`",
            ],
        );
        check(
            "target: {shape: batched}\nrouter: {processor: {batch: {events: 10}}}",
            second(40.0, 0.024, 10.0),
            &["one request at a time", "requests are full at `batch.events: 10`"],
        );
        check(
            "target: {shape: batched}\nrouter: {processor: {batch: {bytes: 64KiB}}}",
            second(40.0, 0.024, 62.0),
            &["requests are full at `batch.bytes` (61 KiB of 64 KiB)"],
        );
        check(
            "target: {shape: eventbridge, concurrency: 8}",
            second(780.0, 0.01, 10.0),
            &["`concurrency: 8`", "full at the 10 events that PutEvents takes"],
        );
        check(
            "target: {shape: structured, ordering: none}\nrouter: {processor: {rateLimit: {eventsPerSecond: 500}}}",
            second(498.0, 0.001, 1.0),
            &[
                "a setting of the router: the processor's `rateLimit.eventsPerSecond` allows 500 events per second, and 498 were sent",
            ],
        );
        check(
            "target: {shape: batched}\nrouter: {processor: {rateLimit: {requestsPerSecond: 20}}}",
            second(20.0, 0.001, 300.0),
            &["`rateLimit.requestsPerSecond` allows 20 requests per second, and 20 were sent"],
        );
        check(
            "router: {source: {maxCallsPerSecond: 50}}",
            second(5.0, 0.001, 100.0),
            &[
                "a setting of the router: the source's `maxCallsPerSecond` allows 50 calls per second, and 50 were made",
            ],
        );
        let entities = Sample { entities_waiting: 7, ..second(238.0, 0.0204, 1.0) };
        check(
            "target: {shape: openfaas, ordering: entity}",
            entities,
            &[
                "few objects busy at once: `ordering: entity`",
                "of 1036 objects in the mix 7 had undelivered events on average, with 4.9 of 32 requests in flight",
                "4.86 in flight / 20.4 ms per request x 1.0 events per request = 238 events/s",
                "the user VSPHERE.LOCAL\\svc-monitoring, has 20.0 % of its vCenter's events",
                "Events spread over more objects, a shorter function time, or `ordering: none` would help",
            ],
        );
    }

    #[test]
    fn the_functions_of_a_gateway_are_destinations_of_their_own() {
        let two = workload("target: {shape: openfaas, functions: 2, ordering: none, concurrency: 4}");
        // Each event becomes a request to each of the two functions.
        let requests = |in_flight: f64| Sample {
            delivered_rate: 100.0,
            requests: Some(Requests { rate: 200.0, in_flight, seconds: in_flight / 200.0, bytes_rate: 0.0 }),
            ..Sample::default()
        };
        assert!(find(&two, &[requests(7.8)]).is_some_and(|text| text.contains("3.90 in flight")));
        assert_eq!(find(&two, &[requests(5.0)]), None);
    }

    #[test]
    fn causes_below_their_limit_are_not_named() {
        let none = |settings: &str, sample: Sample| {
            let found = find(&workload(settings), std::slice::from_ref(&sample));
            assert_eq!(found, None, "{settings}");
            round_trips(&workload(settings), &[sample])
        };
        let text = none("target: {shape: structured, ordering: none}", second(500.0, 0.004, 1.0));
        assert!(text.contains("2.0 of 32 requests were in flight: 2.00 in flight / 4.0 ms"), "{text}");
        // Many entities wait but few requests are in flight: the order is not the limit.
        let many = Sample { entities_waiting: 500, ..second(238.0, 0.02, 1.0) };
        none("target: {shape: openfaas, ordering: entity}", many);
        let slow_router = Sample { entities_waiting: 20, ..second(238.0, 0.002, 1.0) };
        none("target: {shape: openfaas, ordering: entity}", slow_router);
        none("target: {shape: openfaas, ordering: entity}", Sample::default());
        let below = "target: {ordering: none}\nrouter: {source: {maxCallsPerSecond: 100}, processor: {rateLimit: {eventsPerSecond: 9000}}}";
        none(below, second(100.0, 0.004, 10.0));
    }

    #[test]
    fn without_answers_the_samples_of_open_requests_count() {
        let open = Sample { requests_under_way: Some(1.0), ..Sample::default() };
        let found = find(&workload("target: {shape: structured}"), &[open]).unwrap();
        assert!(found.contains("allows 1 in flight, one for each of 1 vCenter."), "{found}");
    }
}
