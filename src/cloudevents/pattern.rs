//! Events in the form that EventBridge patterns match against.

use eventpattern::{Event, ExtensionValue, Needs};
use serde_json::Value;

use super::type_of;
use crate::event::{Batch, Extension, ExtensionKind, severity};

/// The attributes that follow from the severity of a vCenter event. Patterns can always use them,
/// also if no processor sends them.
const SEVERITY_ATTRIBUTES: [&str; 3] = ["severitytext", "severitynumber", "category"];

/// The advice for a pattern on the severity while the router does not read severities.
pub const SEVERITIES_UNREAD: &str = "the pattern asks for the severity, which is unknown: the router reads the severities of a vCenter only if a route or the extension `severity` of a processor uses them";

/// Returns true if a pattern refers to the severity of an event.
pub fn asks_for_severity(pattern: &Value) -> bool {
    let Some(members) = pattern.as_object() else { return false };
    members.iter().any(|(name, inner)| match &**name {
        "$or" => inner.as_array().is_some_and(|branches| branches.iter().any(asks_for_severity)),
        name => SEVERITY_ATTRIBUTES.contains(&name),
    })
}

/// Buffers for [`pattern_event`], reused from event to event so that matching does not allocate.
#[derive(Debug)]
pub struct PatternScratch<'a> {
    id: [u8; uuid::fmt::Hyphenated::LENGTH],
    extensions: Vec<(&'a str, ExtensionValue<'a>)>,
    /// True if a pattern asks for the severity of a vCenter event.
    severity: bool,
}

impl PatternScratch<'_> {
    /// Buffers for patterns of which one asks for the severity if `severity` is true, see
    /// [`asks_for_severity`].
    pub fn new(severity: bool) -> Self {
        let id = [0; uuid::fmt::Hyphenated::LENGTH];
        PatternScratch { id, extensions: Vec::new(), severity }
    }
}

impl Default for PatternScratch<'_> {
    fn default() -> Self {
        PatternScratch::new(false)
    }
}

/// Event `i` of `batch` for matching. Attributes that no pattern needs are left empty. `time` is
/// the event's own: vCenter's createdTime, or the attribute that it arrived with.
pub fn pattern_event<'s, 'a: 's>(
    batch: &'a Batch,
    i: usize,
    needs: Needs,
    scratch: &'s mut PatternScratch<'a>,
) -> Event<'s> {
    let record = &batch.records[i];
    let subject = batch.text(record.subject);
    let time = if needs.time { batch.text(record.created_text) } else { "" };
    scratch.extensions.clear();
    let Some(own) = batch.attributes(record) else {
        if scratch.severity
            && let Some(severity) = severity::known(batch.source.instance_uuid).of(batch, record)
        {
            scratch.extensions.extend([
                ("severitytext", ExtensionValue::Text(severity.text())),
                ("severitynumber", ExtensionValue::Integer(severity.number().into())),
                ("category", ExtensionValue::Text(severity.category())),
            ]);
        }
        return Event {
            source: &batch.source.url,
            event_type: type_of(record.category),
            subject,
            id: if needs.id { record.id.hyphenated().encode_lower(&mut scratch.id) } else { "" },
            time,
            datacontenttype: "application/json",
            extensions: &scratch.extensions,
            data: if needs.data { batch.bytes(record.data) } else { b"" },
            ..Event::default()
        };
    };
    if needs.extensions {
        scratch.extensions.extend(own.extensions.iter().map(|own| (own.name, value_of(own))));
    }
    let json = match batch.bytes(record.data) {
        data @ [_, ..] if own.has_json() => data,
        // Patterns match JSON only.
        _ => b"null",
    };
    Event {
        source: own.source,
        event_type: own.kind,
        subject,
        id: own.id,
        time,
        datacontenttype: if own.datacontenttype.is_empty() {
            "application/json"
        } else {
            own.datacontenttype
        },
        extensions: &scratch.extensions,
        data: if needs.data { json } else { b"" },
        ..Event::default()
    }
}

/// The value of an extension, with the type that it has in JSON.
fn value_of(extension: Extension<'_>) -> ExtensionValue<'_> {
    let Extension { kind, value, .. } = extension;
    match kind {
        ExtensionKind::String => ExtensionValue::Text(value),
        ExtensionKind::Boolean => ExtensionValue::Boolean(value == "true"),
        ExtensionKind::Integer => value.parse().map_or(ExtensionValue::Text(value), ExtensionValue::Integer),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn patterns_on_the_severity_are_recognized() {
        let check = |pattern: Value, expected| assert_eq!(asks_for_severity(&pattern), expected, "{pattern}");
        check(json!({"severitynumber": [{"numeric": [">", 9]}]}), true);
        check(json!({"subject": ["A"], "category": ["error"]}), true);
        check(json!({"$or": [{"subject": ["A"]}, {"$or": [{"severitytext": ["WARN"]}]}]}), true);
        check(json!({"data": {"category": ["x"]}}), false);
        check(json!({"subject": ["category"]}), false);
    }
}
