//! Events that a person gives: CloudEvents as the router delivers them, or their `data` alone.
//!
//! ```text
//! {"specversion":"1.0","type":"com.vmware.event.router/event","subject":…,"data":{…}}
//! {"detail-type":…,"detail":{…}}        an event of EventBridge, which carries a CloudEvent
//! {"Key":7,"CreatedTime":…,…}           data as functions get it, with `--type`
//! {"_typeName":"VmPoweredOnEvent",…}    data of `payload: vijson`
//! ```
//!
//! They may follow one another, one on a line or not, or be the items of a JSON array.

use std::borrow::Cow;
use std::sync::Arc;

use anyhow::{Context, anyhow, bail};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::cli::emit::page_of;
use crate::event::{Batch, Category, Record, SourceInfo, Span, class_of, type_of};
use crate::limits::TESTED_EVENTS_MAX;
use crate::pipeline::enrich::Enrich;
use crate::source::Wire;
use crate::source::webhook::event::structured;

/// An event in a batch of its own.
#[derive(Debug)]
pub struct GivenEvent {
    pub batch: Batch,
    /// vCenter's word for the severity, if the event has it as an attribute.
    pub category: Option<String>,
}

/// The reader of events.
pub struct GivenReader<'r> {
    /// The type of events that do not have it.
    pub kind: Option<&'r str>,
    /// The source of an event, by its CloudEvents `source`; `None` for data alone. The flag is true
    /// for an event that did not come from a vCenter.
    pub source: &'r dyn Fn(Option<&str>, bool) -> Arc<SourceInfo>,
}

/// The members of a CloudEvent that matter here.
#[derive(Deserialize)]
struct CloudEventMembers<'a> {
    #[serde(rename = "specversion")]
    _specversion: IgnoredAny,
    #[serde(rename = "type")]
    kind: String,
    source: String,
    subject: Option<String>,
    id: Option<String>,
    eventclass: Option<String>,
    category: Option<String>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// The members that tell one form from another.
#[derive(Deserialize)]
struct FormMembers<'a> {
    specversion: Option<IgnoredAny>,
    #[serde(rename = "detail-type")]
    detail_type: Option<IgnoredAny>,
    #[serde(borrow)]
    detail: Option<&'a RawValue>,
}

/// The members of `data` that become facts of a record.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct DataMembers<'a> {
    key: Option<i32>,
    #[serde(borrow)]
    created_time: Option<Cow<'a, str>>,
    #[serde(borrow)]
    event_type_id: Option<Cow<'a, str>>,
    arguments: Option<IgnoredAny>,
    data: Option<IgnoredAny>,
    #[serde(rename = "_typeName")]
    type_name: Option<IgnoredAny>,
}

/// The names of an event.
struct EventNames {
    category: Category,
    subject: String,
}

impl GivenReader<'_> {
    /// Reads the events in `text`, at most [`TESTED_EVENTS_MAX`].
    pub fn read(&self, text: &[u8]) -> anyhow::Result<Vec<GivenEvent>> {
        let mut events = Vec::new();
        for value in serde_json::Deserializer::from_slice(text).into_iter::<&RawValue>() {
            let value = value.context("the input is not JSON")?;
            let items: Vec<&RawValue> = match value.get().starts_with('[') {
                true => serde_json::from_str(value.get())?,
                false => vec![value],
            };
            for item in items {
                if events.len() == TESTED_EVENTS_MAX {
                    bail!("the input has more than {TESTED_EVENTS_MAX} events; give fewer");
                }
                let place = events.len() + 1;
                events.push(self.one(item).with_context(|| format!("event {place}"))?);
            }
        }
        Ok(events)
    }

    fn one(&self, item: &RawValue) -> anyhow::Result<GivenEvent> {
        let form: FormMembers<'_> = serde_json::from_str(item.get())
            .map_err(|error| anyhow!("is no event: {error}; an event is a JSON object"))?;
        match form {
            FormMembers { specversion: Some(_), .. } => self.cloud_event(item),
            FormMembers { detail_type: Some(_), detail: Some(detail), .. } => self.one(detail),
            _ => self
                .vcenter(item.get(), None, (self.source)(None, false))
                .map(|batch| GivenEvent { batch, category: None }),
        }
    }

    fn cloud_event(&self, item: &RawValue) -> anyhow::Result<GivenEvent> {
        let event: CloudEventMembers<'_> = serde_json::from_str(item.get())
            .map_err(|error| anyhow!("is no CloudEvent in structured mode: {error}"))?;
        let Some(names) = names_of(&event) else {
            let source = (self.source)(Some(&event.source), true);
            let mut batch = Batch::new(source, 0, Vec::new(), Vec::new());
            batch.produced_us = crate::clock::now_us();
            structured(item.get().as_bytes(), &mut batch)?;
            return Ok(GivenEvent { batch, category: None });
        };
        let source = (self.source)(Some(&event.source), false);
        let data = event.data.map_or("null", RawValue::get);
        let mut batch = self.vcenter(data, Some(names), source)?;
        if let Some(id) = event.id.as_deref().and_then(|id| id.parse::<Uuid>().ok())
            && let Some(record) = batch.records.first_mut()
        {
            record.id = id;
        }
        Ok(GivenEvent { batch, category: event.category })
    }

    /// The event of a vCenter with this `data`, in whatever payload.
    fn vcenter(
        &self,
        data: &str,
        names: Option<EventNames>,
        source: Arc<SourceInfo>,
    ) -> anyhow::Result<Batch> {
        if data.starts_with('"') {
            let element: String = serde_json::from_str(data)?;
            let page = format!(
                "<Envelope xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" \
                 xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\"><Body>\
                 <ReadNextEventsResponse xmlns=\"urn:vim25\">{element}</ReadNextEventsResponse></Body></Envelope>"
            );
            return whole(page_of(source, Wire::Soap, page)?);
        }
        let members: DataMembers<'_> = match data {
            "null" => DataMembers::default(),
            data => serde_json::from_str(data).map_err(|error| anyhow!("`data` is no event: {error}"))?,
        };
        if members.type_name.is_some() {
            return whole(page_of(source, Wire::ViJson, format!("[{data}]"))?);
        }
        let names = names
            .or_else(|| self.named(&members))
            .ok_or_else(|| anyhow!("has no type; name its class with `--type`, such as VmPoweredOnEvent"))?;
        Ok(pascal(data, &members, &names, source))
    }

    /// The names of an event that is data alone.
    fn named(&self, members: &DataMembers<'_>) -> Option<EventNames> {
        let type_id = members.event_type_id.as_deref();
        let subject = self.kind.or(type_id)?;
        let category = match (type_id, subject) {
            (Some(_), _) if members.data.is_some() && members.arguments.is_none() => Category::ExtendedEvent,
            (Some(_), _) => Category::EventEx,
            (None, subject) if subject.contains('.') => Category::EventEx,
            (None, _) => Category::Event,
        };
        Some(EventNames { category, subject: subject.to_owned() })
    }
}

/// The names of a CloudEvent that the router made of a vCenter's event; `None` for any other.
fn names_of(event: &CloudEventMembers<'_>) -> Option<EventNames> {
    const CATEGORIES: [Category; 3] = [Category::Event, Category::EventEx, Category::ExtendedEvent];
    if let Some(category) = CATEGORIES.into_iter().find(|category| type_of(*category) == event.kind) {
        return Some(EventNames { category, subject: event.subject.clone().unwrap_or_default() });
    }
    // `format: veba-v0.8` names the event in its type.
    let subject = event.kind.strip_prefix("com.vmware.vsphere.")?;
    let subject = subject.strip_suffix(".v0").unwrap_or(subject).to_owned();
    let class = event.eventclass.as_deref();
    let category = CATEGORIES.into_iter().find(|category| Some(class_of(*category)) == class);
    Some(EventNames { category: category.unwrap_or_default(), subject })
}

/// A page that has one event.
fn whole(batch: Batch) -> anyhow::Result<Batch> {
    match batch.records.len() {
        1 => Ok(batch),
        _ => bail!("`data` is no event of a vCenter"),
    }
}

/// The event whose data is PascalCase JSON.
fn pascal(data: &str, members: &DataMembers<'_>, names: &EventNames, source: Arc<SourceInfo>) -> Batch {
    let mut arena = Vec::new();
    let mut append = |text: &str| {
        let start = arena.len();
        arena.extend_from_slice(text.as_bytes());
        Span::new(start, arena.len())
    };
    let class = match names.category {
        Category::Event => names.subject.as_str(),
        Category::EventEx => "EventEx",
        Category::ExtendedEvent => "ExtendedEvent",
    };
    let created = members.created_time.as_deref().unwrap_or_default();
    let record = Record {
        key: members.key,
        created_us: created.parse().ok().map(jiff::Timestamp::as_microsecond),
        category: names.category,
        class: append(class),
        subject: append(&names.subject),
        created_text: append(created),
        data: append(data),
        ..Record::default()
    };
    let mut batch = Batch::new(source, 0, arena, vec![record]);
    batch.produced_us = crate::clock::now_us();
    Enrich.step(&mut batch);
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::testing::source;

    fn read(text: &str, kind: Option<&str>) -> anyhow::Result<Vec<GivenEvent>> {
        GivenReader { kind, source: &|_, _| source() }.read(text.as_bytes())
    }

    /// Category, subject, data and createdTime of each event.
    fn facts(text: &str, kind: Option<&str>) -> Vec<(Category, String, String, String)> {
        let events = read(text, kind).unwrap_or_else(|error| panic!("{text}: {error:#}"));
        let facts = events.iter().map(|GivenEvent { batch, .. }| {
            let record = &batch.records[0];
            let text = |span| batch.text(span).to_owned();
            (record.category, text(record.subject), text(record.data), text(record.created_text))
        });
        facts.collect()
    }

    fn fact(category: Category, subject: &str, data: &str) -> (Category, String, String, String) {
        (category, subject.into(), data.into(), String::new())
    }

    #[test]
    fn cloud_events_of_a_router_are_read() {
        let event = r#"{"specversion":"1.0","id":"00000000-0000-5000-8000-000000000007","source":"https://vc/sdk",
            "type":"com.vmware.event.router/eventex","subject":"com.vmware.x","data":{"Key":7},"category":"error"}"#;
        assert_eq!(facts(event, None), [fact(Category::EventEx, "com.vmware.x", r#"{"Key":7}"#)]);
        let read = read(event, None).unwrap().remove(0);
        assert_eq!(read.batch.records[0].id.to_string(), "00000000-0000-5000-8000-000000000007");
        assert_eq!((read.batch.records[0].key, read.category.as_deref()), (Some(7), Some("error")));
        // Several events, and one inside an event of EventBridge.
        let aws = format!(r#"{{"detail-type":"x","detail":{event}}}"#);
        assert_eq!(facts(&format!("[{event},{aws}]\n{event}"), None).len(), 3);
        let v08 = r#"{"specversion":"1.0","id":"7","source":"https://vc/sdk",
            "type":"com.vmware.vsphere.VmPoweredOnEvent.v0","eventclass":"event","data":{"CreatedTime":"2026-01-02T03:04:05Z"}}"#;
        let [(category, subject, _, created)] = &facts(v08, None)[..] else { panic!("one event") };
        assert_eq!(
            (*category, &**subject, &**created),
            (Category::Event, "VmPoweredOnEvent", "2026-01-02T03:04:05Z")
        );
        assert!(super::tests::read(v08, None).unwrap()[0].batch.records[0].created_us.is_some());
    }

    #[test]
    fn data_alone_needs_a_type() {
        assert_eq!(
            facts(r#"{"Key":7}"#, Some("VmPoweredOnEvent")),
            [fact(Category::Event, "VmPoweredOnEvent", r#"{"Key":7}"#)]
        );
        let extended = r#"{"EventTypeId":"a.b","Data":[]}"#;
        assert_eq!(facts(extended, None), [fact(Category::ExtendedEvent, "a.b", extended)]);
        let ex = r#"{"EventTypeId":"a.b","Arguments":null}"#;
        assert_eq!(facts(ex, None), [fact(Category::EventEx, "a.b", ex)]);
        let error = |text: &str| format!("{:#}", read(text, None).unwrap_err());
        assert!(error(r#"{"Key":7}"#).contains("event 1: has no type; name its class with `--type`"));
        assert!(error("[1]").contains("event 1: is no event"), "{}", error("[1]"));
        assert!(error("{").contains("the input is not JSON"));
    }

    #[test]
    fn other_payloads_are_read() {
        let vijson = r#"{"_typeName":"VmPoweredOnEvent","key":7,"createdTime":"2026-01-02T03:04:05Z"}"#;
        assert!(facts(vijson, None)[0].2.starts_with(r#"{"Key":7,"#));
        let xml = r#"<returnval xsi:type=\"VmPoweredOnEvent\"><key>7</key></returnval>"#;
        let event = format!(
            r#"{{"specversion":"1.0","id":"1","source":"https://vc/sdk","type":"com.vmware.event.router/event","data":"{xml}"}}"#
        );
        assert_eq!(facts(&event, None)[0].1, "VmPoweredOnEvent");
    }

    #[test]
    fn other_cloud_events_keep_their_attributes() {
        let event =
            r#"{"specversion":"1.0","id":"1","source":"/git","type":"push","team":"a","data":{"x":1}}"#;
        let given = read(event, None).unwrap().remove(0);
        let own = given.batch.attributes(&given.batch.records[0]).expect("attributes of its own");
        assert_eq!((own.source, own.kind, own.extensions.iter().count()), ("/git", "push", 1));
    }
}
