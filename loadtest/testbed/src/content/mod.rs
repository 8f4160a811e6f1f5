//! Compares delivered events with the events that the synthetic vCenter made, field by field.
//!
//! ```text
//! templates.txt ──► XML and VI/JSON of the vCenter ──► router ─► delivered event
//!       └── types.txt (govmomi's types) ──► expected attributes and data ────┴──► first difference
//! ```
//!
//! The expectation is made from the templates and from a table of govmomi's types, without any code
//! of the router. An error of the router's decoder therefore cannot hide itself.
//!
//! Each check has two ways. The quick way compares bytes with the form that the appliance documents
//! and costs 1 to 3 µs. If it finds a difference, the slow way parses JSON and decides: the order
//! of fields, escapes and white space are no fault.

mod check;
mod expected;
mod json_template;
#[cfg(test)]
mod tests;
mod types;

use std::sync::Arc;

use hyper::header::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use self::check::EventCheck;
use self::expected::{Expected, TimeForm, Values, pascal, vijson};
use self::json_template::JsonTemplate;
use crate::truth::{Truth, event_id};
use crate::vcenter::clock::format_micros;
use crate::vcenter::model::{Model, chain_id};
use crate::vcenter::xml;
use crate::vcenter::{MixError, VCenter};

/// Longest text kept of an expected or found value.
const SHOWN_BYTES_MAX: usize = 160;

/// The form of `data` that the router is configured to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Payload {
    #[default]
    Pascal,
    ViJson,
    Xml,
}

/// The instant that the attribute `time` holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EventTime {
    /// The instant at which the router read the event, between its creation and its receipt.
    #[default]
    Router,
    /// vCenter's createdTime.
    Created,
}

/// The form of events that the router was configured for; the default is the router's own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    pub payload: Payload,
    pub time: EventTime,
    /// Attributes besides the usual ones are allowed. Their values are not checked.
    pub extensions: bool,
}

/// A delivery whose content is not the event's.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WrongContent {
    pub index: u64,
    pub key: i32,
    /// The first field that differs: an attribute, or a path such as `data.Vm.Name`.
    pub path: String,
    pub expected: String,
    pub found: String,
}

/// An event that is not from the model: posted, or of an unknown class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecialContent {
    pub class: String,
    pub event_type_id: Option<String>,
    /// The elements after createdTime.
    pub elements: String,
}

/// The event as the vCenter made it.
#[derive(Clone, Debug)]
pub(crate) struct MadeEvent {
    pub index: u64,
    pub key: i32,
    pub created_us: i64,
    pub special: Option<SpecialContent>,
    /// The most that vCenter's clock was ever ahead of this machine's clock. The offset at this
    /// event is unknown.
    pub clock_offset_us: i64,
    pub instance_uuid: Uuid,
    /// URL of the vCenter.
    pub url: String,
    /// Instant of receipt, in microseconds since 1970.
    pub received_us: i64,
}

/// A delivery, as it arrived.
#[derive(Clone, Copy)]
pub(crate) enum Delivery<'a> {
    /// JSON that begins with a structured event; more events may follow.
    Structured(&'a [u8]),
    Parsed(&'a Value),
    Binary {
        headers: &'a HeaderMap,
        data: &'a [u8],
    },
}

/// An entry of PutEvents around a structured event.
#[derive(Clone, Copy, Debug)]
pub struct EntryFields<'a> {
    pub source: &'a str,
    pub detail_type: &'a str,
    /// `Time` in microseconds since 1970; `None` if it is absent or no time.
    pub time_us: Option<i64>,
}

/// The content that all events of one template share.
struct TemplateContent {
    class: String,
    kind: &'static str,
    subject: String,
    want: Expected,
    /// The data as bytes, for the payload whose form the appliance documents.
    json: Option<JsonTemplate>,
}

/// The expected content of all events of a model, in one form.
pub(crate) struct Contents {
    model: Arc<Model>,
    form: Form,
    templates: Vec<TemplateContent>,
}

impl Contents {
    pub fn new(model: Arc<Model>, form: Form) -> Contents {
        let templates = model
            .templates()
            .iter()
            .map(|template| {
                TemplateContent::new(form, &template.class, template.event_type_id.as_deref(), &template.body)
            })
            .collect();
        Contents { model, form, templates }
    }

    /// The first difference between an event and its delivery.
    pub fn check(
        &self,
        made: &MadeEvent,
        delivery: Delivery<'_>,
        entry: Option<EntryFields<'_>>,
    ) -> Option<WrongContent> {
        let pick = self.model.pick(made.index);
        let special = made.special.as_ref().map(|special| {
            TemplateContent::new(
                self.form,
                &special.class,
                special.event_type_id.as_deref(),
                &special.elements,
            )
        });
        let template = special.as_ref().unwrap_or(&self.templates[pick.template]);
        let values = self.values(made);
        let check = EventCheck { contents: self, made, template, values: &values };
        if check.is_documented_form(delivery, entry) {
            return None;
        }
        let found = check.first_difference(delivery, entry)?;
        Some(WrongContent {
            index: made.index,
            key: made.key,
            path: found.path,
            expected: shown(&found.expected),
            found: shown(&found.found),
        })
    }

    /// The values of this event that fill the places in its template.
    fn values(&self, made: &MadeEvent) -> Values {
        let pick = self.model.pick(made.index);
        let is_special = made.special.is_some();
        Values {
            vm: pick.vm,
            host: pick.host,
            index: made.index,
            key: made.key,
            chain_id: if is_special { made.key } else { chain_id(made.key, made.index) },
            created_us: made.created_us,
            times: if self.form.payload == Payload::Pascal { TimeForm::Go } else { TimeForm::Instant },
        }
    }

    /// An event of the model as a structured CloudEvent in the documented form.
    fn example(&self, made: &MadeEvent) -> Option<Vec<u8>> {
        let pick = self.model.pick(made.index);
        let template = &self.templates[pick.template];
        let values = self.values(made);
        let id = event_id(&made.instance_uuid, made.key, made.created_us);
        let time = format_micros(made.created_us - made.clock_offset_us);
        let mut out = format!(
            "{{\"id\":\"{id}\",\"source\":\"{}\",\"specversion\":\"1.0\",\"type\":\"{}\",\"subject\":\"{}\",\"time\":\"{time}\",\"data\":",
            made.url, template.kind, template.subject
        )
        .into_bytes();
        template.json.as_ref()?.write(&values, &mut out);
        out.extend_from_slice(b",\"datacontenttype\":\"application/json\"}");
        Some(out)
    }
}

/// Makes the deliveries that a faultless router would send for a vCenter's events, to test and
/// measure receivers.
pub struct Examples {
    vcenter: VCenter,
    contents: Contents,
    instance_uuid: Uuid,
    clock_offset_us: i64,
}

impl Examples {
    /// # Errors
    /// The vCenter's mix names an unknown class.
    pub fn of(vcenter: &VCenter) -> Result<Examples, MixError> {
        let truth = vcenter.truth();
        let contents = Contents::new(Arc::new(Model::new(truth.model)?), Form::default());
        let Truth { instance_uuid, clock_offset_us, .. } = truth;
        Ok(Examples { vcenter: vcenter.clone(), contents, instance_uuid, clock_offset_us })
    }

    /// Event `index` as a structured CloudEvent. `None` if it does not exist, or is not from the
    /// model.
    pub fn event(&self, index: u64) -> Option<Vec<u8>> {
        let (key, created_us) = self.vcenter.created(index)?;
        if self.vcenter.special(index).is_some() {
            return None;
        }
        self.contents.example(&MadeEvent {
            index,
            key,
            created_us,
            special: None,
            clock_offset_us: self.clock_offset_us,
            instance_uuid: self.instance_uuid,
            url: self.vcenter.url(),
            received_us: created_us,
        })
    }
}

impl TemplateContent {
    fn new(form: Form, class: &str, event_type_id: Option<&str>, elements: &str) -> TemplateContent {
        let node = xml::parse_fragment(elements).unwrap_or_default();
        let want = match form.payload {
            Payload::Pascal | Payload::Xml => pascal(class, &node),
            Payload::ViJson => vijson_of(class, elements),
        };
        let kind = match class {
            "EventEx" => "com.vmware.event.router/eventex",
            "ExtendedEvent" => "com.vmware.event.router/extendedevent",
            _ => "com.vmware.event.router/event",
        };
        // Events with an `eventTypeId` of their own have it as subject; all others have their
        // class.
        let type_id = event_type_id.map(str::to_owned);
        let type_id = type_id.or_else(|| {
            let named = matches!(class, "EventEx" | "ExtendedEvent");
            named.then(|| node.text_of("eventTypeId").unwrap_or_default().to_owned())
        });
        let subject = type_id.unwrap_or_else(|| class.to_owned());
        let json = (form.payload == Payload::Pascal).then(|| JsonTemplate::of(&want));
        TemplateContent { class: class.to_owned(), kind, subject, want, json }
    }
}

/// The expected VI/JSON data: the fields that the vCenter sends, and the four that differ from
/// event to event.
fn vijson_of(class: &str, elements: &str) -> Expected {
    let text = format!("{{\"x\":0{}", crate::vcenter::vijson::event_fields(class, elements));
    let sent: Value = serde_json::from_str(&text).unwrap_or_default();
    let Expected::Object(mut fields) = vijson(&sent) else { return Expected::Null };
    fields.retain(|(name, _)| name != "x");
    for (name, want) in [
        ("_typeName", Expected::Text(class.to_owned())),
        ("key", Expected::Key),
        ("chainId", Expected::ChainId),
        ("createdTime", Expected::CreatedTime),
    ] {
        fields.push((name.to_owned(), want));
    }
    Expected::Object(fields)
}

/// A text shortened for display.
fn shown(text: &str) -> String {
    match text.char_indices().find(|(at, _)| *at >= SHOWN_BYTES_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
