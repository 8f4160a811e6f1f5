//! The envelope of an event that arrived with its own attributes. They are delivered as they came.
//!
//! Of the configured extensions, only those apply that do not come from vCenter: `partitionkey`
//! (the subject) and the fixed ones. A fixed extension replaces the event's own of the same name.
//!
//! In structured mode, data that is not JSON becomes a JSON string if it is UTF-8, else
//! `data_base64` (CloudEvents 1.0.2, JSON event format §3.1).

use base64::prelude::{BASE64_STANDARD, Engine};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};

use super::envelope::Rendering;
use super::text::{header_value, push_escaped, push_member};
use crate::event::{Attributes, Extension, ExtensionKind, Record};

/// The attributes of a dead letter that goes to another processor.
const FAILED_EXTENSIONS: [&str; 3] = ["knativeerrordest", "knativeerrorcode", "knativeerrordata"];

impl Rendering<'_> {
    /// Appends the event as a structured CloudEvent.
    pub(super) fn structured_own(&self, record: &Record, own: &Attributes<'_>, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"id\":\"");
        push_escaped(out, own.id.as_bytes());
        out.push(b'"');
        push_member(out, "source", own.source.as_bytes());
        push_member(out, "specversion", b"1.0");
        push_member(out, "type", own.kind.as_bytes());
        if !record.subject.is_empty() {
            push_member(out, "subject", self.batch.bytes(record.subject));
        }
        push_member(out, "time", self.time(record));
        push_data(out, self.batch.bytes(record.data), own);
        if !own.datacontenttype.is_empty() {
            push_member(out, "datacontenttype", own.datacontenttype.as_bytes());
        }
        if let Some(entity) = self.partition_key(record).filter(|_| !self.brings(own, "partitionkey")) {
            push_member(out, "partitionkey", entity);
        }
        self.push_failed(out);
        for Extension { name, kind, value } in own.extensions.iter().filter(|own| !self.replaces(own.name)) {
            match kind {
                ExtensionKind::String => push_member(out, name, value.as_bytes()),
                ExtensionKind::Boolean | ExtensionKind::Integer => {
                    out.extend_from_slice(format!(",\"{name}\":{value}").as_bytes());
                }
            }
        }
        for (name, value) in &self.options.extensions.fixed {
            push_member(out, name, value.as_bytes());
        }
        out.push(b'}');
    }

    /// The headers of the event in binary mode. Its body is the data as it came.
    pub(super) fn headers_own(&self, record: &Record, own: &Attributes<'_>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let mut insert = |name: &str, value: &[u8]| {
            // The source refuses events with extension names that are not valid in a header.
            if let Ok(name) = HeaderName::from_bytes(format!("ce-{name}").as_bytes()) {
                headers.insert(name, header_value(value));
            }
        };
        insert("id", own.id.as_bytes());
        insert("source", own.source.as_bytes());
        insert("specversion", b"1.0");
        insert("type", own.kind.as_bytes());
        if !record.subject.is_empty() {
            insert("subject", self.batch.bytes(record.subject));
        }
        insert("time", self.time(record));
        if let Some(entity) = self.partition_key(record) {
            insert("partitionkey", entity);
        }
        for Extension { name, value, .. } in own.extensions.iter().filter(|own| !self.replaces(own.name)) {
            insert(name, value.as_bytes());
        }
        for (name, value) in &self.options.extensions.fixed {
            insert(name, value.as_bytes());
        }
        self.insert_failed(&mut headers);
        let media = match own.datacontenttype {
            "" if record.data.is_empty() => return headers,
            "" => "application/json",
            media => media,
        };
        let media = HeaderValue::from_str(media);
        headers.insert(CONTENT_TYPE, media.unwrap_or(HeaderValue::from_static("application/octet-stream")));
        headers
    }

    /// Returns true if the router sets an extension of this name itself: it is configured, or it
    /// tells why the event is a dead letter.
    fn replaces(&self, name: &str) -> bool {
        self.is_fixed(name) || (self.batch.failed.is_some() && FAILED_EXTENSIONS.contains(&name))
    }

    fn is_fixed(&self, name: &str) -> bool {
        self.options.extensions.fixed.iter().any(|(fixed, _)| fixed == name)
    }

    /// Returns true if the event or the configuration has an extension of this name.
    fn brings(&self, own: &Attributes<'_>, name: &str) -> bool {
        self.is_fixed(name) || own.extensions.iter().any(|extension| extension.name == name)
    }
}

fn push_data(out: &mut Vec<u8>, data: &[u8], own: &Attributes<'_>) {
    if data.is_empty() {
        return;
    }
    if own.has_json() {
        out.extend_from_slice(b",\"data\":");
        out.extend_from_slice(data);
    } else if let Ok(text) = std::str::from_utf8(data) {
        push_member(out, "data", text.as_bytes());
    } else {
        push_member(out, "data_base64", BASE64_STANDARD.encode(data).as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cloudevents::binding::http::to_event;
    use cloudevents::event::{Data, ExtensionValue};
    use cloudevents::{AttributesReader, Event};

    use crate::cloudevents::settings::Extensions;
    use crate::cloudevents::{Envelope, EnvelopeOptions};
    use crate::event::testing::source;
    use crate::event::{Attributes, Batch, Extension, ExtensionKind, Failed, PushedEvent, Selection};

    const ATTRIBUTES: Attributes<'static> = Attributes {
        id: "a \"1\"",
        source: "/harbor/projects/ü",
        kind: "harbor.push",
        time: "2026-11-22T00:06:48.5+01:00",
        ..Attributes::EMPTY
    };
    const EXTENSIONS: [Extension<'static>; 3] = [
        Extension { name: "severitytext", kind: ExtensionKind::String, value: "WARN" },
        Extension { name: "severitynumber", kind: ExtensionKind::Integer, value: "13" },
        Extension { name: "replayed", kind: ExtensionKind::Boolean, value: "true" },
    ];

    fn batch(datacontenttype: &'static str, data: &[u8]) -> Batch {
        let mut batch = Batch::new(source(), 0, Vec::new(), Vec::new());
        let attributes = Attributes { datacontenttype, ..ATTRIBUTES };
        let event = PushedEvent { attributes, extensions: &EXTENSIONS, subject: "library/nginx", data };
        batch.push(&event);
        batch
    }

    fn envelope(fixed: &[(&str, &str)]) -> Envelope {
        let fixed = fixed.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        let extensions = Extensions { partitionkey: true, sequence: true, fixed, ..Extensions::default() };
        Envelope::new(EnvelopeOptions { extensions, ..EnvelopeOptions::default() }).expect("valid")
    }

    fn check_attributes(event: &Event) {
        assert_eq!((event.id(), event.source().as_str()), ("a \"1\"", "/harbor/projects/ü"));
        assert_eq!((event.ty(), event.subject()), ("harbor.push", Some("library/nginx")));
        // The SDK turns every time into UTC.
        let time = event.time().expect("it has a time");
        assert_eq!(time.to_rfc3339(), "2026-11-21T23:06:48.500+00:00");
        assert_eq!(event.extension("partitionkey"), Some(&ExtensionValue::from("library/nginx")));
        assert_eq!(event.extension("sequence"), None, "that is vCenter's");
    }

    /// Renders the event in both content modes and reads it back with the CloudEvents SDK.
    fn check(datacontenttype: &'static str, data: &[u8], expected: Option<Data>) {
        let (batch, envelope) = (batch(datacontenttype, data), envelope(&[("site", "b1")]));
        let rendering = envelope.open(&batch);
        let mut structured = Vec::new();
        rendering.structured(0, &mut structured);
        assert!(structured.len() <= rendering.size_hint(0) + data.len());
        let event: Event = serde_json::from_slice(&structured).expect("a CloudEvent");
        check_attributes(&event);
        let text = String::from_utf8_lossy(&structured);
        assert!(text.contains("\"time\":\"2026-11-22T00:06:48.5+01:00\""), "as it came: {text}");
        assert_eq!(event.data().cloned(), expected, "{datacontenttype}");
        assert_eq!(event.extension("severitynumber"), Some(&ExtensionValue::Integer(13)));
        assert_eq!(event.extension("replayed"), Some(&ExtensionValue::Boolean(true)));
        assert_eq!(event.extension("site"), Some(&ExtensionValue::from("b1")));
        let headers = rendering.headers(0);
        let media = if datacontenttype.is_empty() { "application/json" } else { datacontenttype };
        assert_eq!(headers["content-type"], media);
        assert_eq!(rendering.data(0), data);
        assert_eq!(headers["ce-severitytext"], "WARN");
        let decoded = headers["ce-source"].to_str().expect("ASCII").replace("%C3%BC", "ü");
        assert_eq!(decoded, "/harbor/projects/ü");
        if media == "application/json" {
            assert_eq!(to_event(&headers, data.to_vec()).expect("a CloudEvent").ty(), "harbor.push");
        }
    }

    #[test]
    fn an_event_of_another_kind_is_delivered_as_it_came() {
        let json = serde_json::json!({"a": [1, "ü"]});
        check("", br#"{"a":[1,"\u00fc"]}"#, Some(Data::Json(json.clone())));
        check("application/json", br#"{"a":[1,"\u00fc"]}"#, Some(Data::Json(json)));
        check("text/plain", b"it's \"quoted\"", Some(Data::String("it's \"quoted\"".into())));
        check("application/octet-stream", &[0, 255, 7], Some(Data::Binary(vec![0, 255, 7])));
        check("application/json", b"", None);
    }

    #[test]
    fn a_fixed_extension_wins_over_the_events_own() {
        let (batch, envelope) = (batch("", b"1"), envelope(&[("severitytext", "INFO")]));
        let rendering = envelope.open(&batch);
        let mut structured = Vec::new();
        rendering.structured(0, &mut structured);
        let text = String::from_utf8(structured).expect("UTF-8");
        assert_eq!(text.matches("severitytext").count(), 1, "{text}");
        assert!(text.contains("\"severitytext\":\"INFO\""), "{text}");
        assert_eq!(rendering.headers(0)["ce-severitytext"], "INFO");
    }

    /// The event was a dead letter elsewhere before it came here.
    #[test]
    fn a_dead_letter_names_its_last_failure_alone() {
        let names = super::FAILED_EXTENSIONS;
        let old = names.map(|name| Extension { name, kind: ExtensionKind::String, value: "old" });
        let mut batch = Batch::new(source(), 0, Vec::new(), Vec::new());
        batch.push(&PushedEvent {
            attributes: ATTRIBUTES,
            extensions: &old,
            data: b"1",
            ..PushedEvent::default()
        });
        let failed = Failed { dest: "http://new/".into(), code: 422, data: String::new() };
        batch.failed = Some(Arc::new(failed));
        let (envelope, mut structured) = (envelope(&[]), Vec::new());
        let rendering = envelope.open(&batch);
        rendering.structured(0, &mut structured);
        let text = String::from_utf8(structured).expect("UTF-8");
        assert!(text.contains("\"knativeerrordest\":\"http://new/\"") && !text.contains("old"), "{text}");
        assert!(rendering.headers(0).values().all(|value| value != "old"));
    }

    #[test]
    fn an_event_without_data_has_no_content_type() {
        let batch = batch("", b"");
        assert!(!envelope(&[]).open(&batch).headers(0).contains_key("content-type"));
    }

    #[test]
    fn events_of_both_kinds_stand_in_one_batch() {
        let mut mixed = crate::event::testing::batch(0, &[(1, 1)]);
        mixed.push(&PushedEvent { attributes: ATTRIBUTES, data: b"{}", ..PushedEvent::default() });
        let envelope = envelope(&[]);
        let rendering = envelope.open(&mixed);
        let sources: Vec<_> = Selection::first(2).iter().map(|i| rendering.source(i)).collect();
        assert_eq!(sources, ["https://vc/sdk", ATTRIBUTES.source]);
        assert_eq!(rendering.detail_type(1), "harbor.push", "it has no subject");
    }
}
