//! Events of push sources: CloudEvents that arrive complete, with attributes of their own.

use uuid::Uuid;

use super::{Attributes, Batch, Extension, Record, Span, lane_of};

/// The instance of every push source, where a vCenter has its instanceUuid. By it the state of
/// another kind of source under the same name is recognized.
pub const PUSHED_INSTANCE: Uuid = Uuid::from_u128(0x9f0c_58a1_6b7e_5d0e_8f1b_3c1c_0a55_e7d2);

/// A CloudEvent on its way into a batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct PushedEvent<'a> {
    pub attributes: Attributes<'a>,
    pub extensions: &'a [Extension<'a>],
    /// Empty if the event has none.
    pub subject: &'a str,
    /// One JSON value if [`Attributes::has_json`], else any bytes; empty if the event has none.
    pub data: &'a [u8],
}

impl Batch {
    /// Appends `event`. Its identity is set when it is read back from the inbox.
    pub fn push(&mut self, event: &PushedEvent<'_>) {
        let mut append = |bytes: &[u8]| {
            let start = self.arena.len();
            self.arena.extend_from_slice(bytes);
            Span::new(start, self.arena.len())
        };
        let mut block = Vec::new();
        event.attributes.write(event.extensions.iter().copied(), &mut block);
        let (attributes, subject, data) =
            (append(&block), append(event.subject.as_bytes()), append(event.data));
        let time: Option<jiff::Timestamp> = event.attributes.time.parse().ok();
        let created_text = match time {
            Some(_) => append(event.attributes.time.as_bytes()),
            None => Span::EMPTY,
        };
        self.records.push(Record {
            created_us: time.map(jiff::Timestamp::as_microsecond),
            created_text,
            subject,
            entity: subject,
            data,
            attributes,
            id: name_of(event.attributes.source, event.attributes.id),
            lane: lane_of(event.subject.as_bytes(), b""),
            ..Record::default()
        });
    }

    /// Appends the events of `other`, which has no raw page.
    pub fn absorb(&mut self, other: &Batch) {
        let start = self.arena.len();
        self.arena.extend_from_slice(&other.arena);
        for record in &other.records {
            let mut record = *record;
            for span in record.spans_mut() {
                *span = Span::new(start + span.range().start, start + span.range().end);
            }
            self.records.push(record);
        }
    }
}

/// A UUID that follows from source and id, which together are unique (CloudEvents 1.0.2, `id`).
fn name_of(source: &str, id: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{source}\n{id}").as_bytes())
}
