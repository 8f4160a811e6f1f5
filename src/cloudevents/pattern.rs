//! Events in the form that EventBridge patterns match against.

use eventpattern::{Event, Needs};

use super::type_of;
use crate::event::Batch;

/// Buffers for [`pattern_event`], reused from event to event so that matching does not allocate.
#[derive(Debug)]
pub struct PatternScratch<'a> {
    id: [u8; uuid::fmt::Hyphenated::LENGTH],
    extensions: Vec<(&'a str, &'a str)>,
}

impl Default for PatternScratch<'_> {
    fn default() -> Self {
        PatternScratch { id: [0; uuid::fmt::Hyphenated::LENGTH], extensions: Vec::new() }
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
    let Some(own) = batch.attributes(record) else {
        return Event {
            source: &batch.source.url,
            event_type: type_of(record.category),
            subject,
            id: if needs.id { record.id.hyphenated().encode_lower(&mut scratch.id) } else { "" },
            time,
            datacontenttype: "application/json",
            data: if needs.data { batch.bytes(record.data) } else { b"" },
            ..Event::default()
        };
    };
    scratch.extensions.clear();
    if needs.extensions {
        scratch.extensions.extend(own.extensions.iter().map(|extension| (extension.name, extension.value)));
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
