//! The router's settings in a workload that loadtest needs in order to name the limit of a run.

use testbed::content::{EventTime, Form, Payload};

use super::tree::{self, YamlData, YamlNode};
use super::{Ordering, RouterSettings, Workload};

/// The router's defaults (its `docs/configuration.md`).
const CONCURRENCY: f64 = 32.0;
const CALLS_PER_SECOND: f64 = 10_000.0;
const BATCH_EVENTS: f64 = 1_000.0;
const BATCH_BYTES: f64 = (1 << 20) as f64;

impl Workload {
    /// The number of requests that one destination may have in flight, for any ordering.
    pub fn concurrency(&self) -> f64 {
        let set = self.router.processor_text(&["concurrency"]).and_then(|text| number(&text));
        set.or(self.target.concurrency.map(f64::from)).unwrap_or(CONCURRENCY)
    }

    /// The router's ordering. Its own settings precede the target's.
    pub fn ordering(&self) -> Ordering {
        let set = self.router.processor_text(&["ordering"]);
        set.and_then(|word| Ordering::parse(&word).ok()).unwrap_or(self.target.ordering)
    }

    /// The form in which the router writes events.
    pub fn form(&self) -> Form {
        Form {
            payload: match self.router.processor_text(&["payload"]).as_deref() {
                Some("vijson") => Payload::ViJson,
                Some("xml") => Payload::Xml,
                _ => Payload::Pascal,
            },
            time: match self.router.processor_text(&["time"]).as_deref() {
                Some("created") => EventTime::Created,
                _ => EventTime::Router,
            },
            extensions: self.router.processor.iter().any(|(key, _)| key == "extensions"),
        }
    }

    /// `rateLimit.eventsPerSecond` of each destination.
    pub fn events_per_second_max(&self) -> Option<f64> {
        number(&self.router.processor_text(&["rateLimit", "eventsPerSecond"])?)
    }

    /// `rateLimit.requestsPerSecond` of each destination.
    pub fn requests_per_second_max(&self) -> Option<f64> {
        number(&self.router.processor_text(&["rateLimit", "requestsPerSecond"])?)
    }

    /// `maxCallsPerSecond` of each source.
    pub fn calls_per_second_max(&self) -> f64 {
        let set = text_of(&self.router.source, &["maxCallsPerSecond"]).and_then(|text| number(&text));
        set.unwrap_or(CALLS_PER_SECOND)
    }

    /// `batch.events`: events per request.
    pub fn batch_events_max(&self) -> f64 {
        let set = self.router.processor_text(&["batch", "events"]).and_then(|text| number(&text));
        set.unwrap_or(BATCH_EVENTS)
    }

    /// `batch.bytes`: bytes of events per request.
    pub fn batch_bytes_max(&self) -> f64 {
        let set = self.router.processor_text(&["batch", "bytes"]).and_then(|text| size(&text));
        set.unwrap_or(BATCH_BYTES)
    }
}

impl RouterSettings {
    /// The text of a processor's field by its path, if the workload sets it.
    pub fn processor_text(&self, path: &[&str]) -> Option<String> {
        text_of(&self.processor, path)
    }
}

fn text_of(settings: &[(String, String)], path: &[&str]) -> Option<String> {
    let (first, rest) = path.split_first()?;
    let (_, flow) = settings.iter().find(|(key, _)| key == first)?;
    let mut node: &YamlNode = &tree::read(flow).ok()?;
    for key in rest {
        let YamlData::Map(entries) = &node.data else { return None };
        node = &entries.iter().find(|entry| entry.key == *key)?.value;
    }
    match &node.data {
        YamlData::Scalar { text, .. } => Some(text.clone()),
        _ => None,
    }
}

fn number(text: &str) -> Option<f64> {
    text.replace('_', "").parse().ok().filter(|number: &f64| number.is_finite() && *number > 0.0)
}

/// Parses a size such as `64KiB`, with the units of the router's configuration.
fn size(text: &str) -> Option<f64> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (count, unit) = text.split_at(unit_at);
    let factor = match unit {
        "" | "B" => 1.0,
        "kB" => 1e3,
        "MB" => 1e6,
        "GB" => 1e9,
        "KiB" => 1024.0,
        "MiB" => 1024.0 * 1024.0,
        "GiB" => 1024.0 * 1024.0 * 1024.0,
        _ => return None,
    };
    Some(number(count.trim())? * factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_router_are_found_where_the_workload_has_them() {
        let text = "rate: 1\nduration: 1s\ntarget: {concurrency: 4, ordering: entity}\nrouter:\n  source: {maxCallsPerSecond: 5}\n  \
                    processor: {batch: {events: 10, bytes: 64KiB}, rateLimit: {eventsPerSecond: 500}}\n";
        let set = Workload::parse("w", text).unwrap();
        assert_eq!((set.concurrency(), set.calls_per_second_max()), (4.0, 5.0));
        assert_eq!((set.batch_events_max(), set.batch_bytes_max()), (10.0, 65_536.0));
        assert_eq!((set.events_per_second_max(), set.requests_per_second_max()), (Some(500.0), None));
        let own =
            format!("{text}    ").replace("processor: {", "processor: {concurrency: 7, ordering: none, ");
        let own = Workload::parse("w", &own).unwrap();
        assert_eq!((own.concurrency(), own.ordering()), (7.0, Ordering::None));
        let form = "rate: 1\nduration: 1s\nrouter: {processor: {payload: xml, time: created, extensions: {sequence: true}}}";
        let form = Workload::parse("w", form).unwrap().form();
        assert_eq!(form, Form { payload: Payload::Xml, time: EventTime::Created, extensions: true });
        let plain = Workload::parse("w", "rate: 1\nduration: 1s").unwrap();
        assert_eq!(plain.form(), Form::default());
        assert_eq!((plain.concurrency(), plain.calls_per_second_max()), (32.0, 10_000.0));
        assert_eq!((plain.batch_events_max(), plain.batch_bytes_max()), (1_000.0, 1_048_576.0));
        assert_eq!((plain.ordering(), plain.events_per_second_max()), (Ordering::Source, None));
    }
}
