//! Enrich: gives every record its identity, its CloudEvents id and its lane.
//!
//! The parse threads run this stage right after the decoder. It uses no clock and no network, and
//! does not allocate.

use crate::event::{Batch, Record, Span, identify, lane_of};

/// The enrich stage.
#[derive(Debug)]
pub struct Enrich;

impl Enrich {
    pub fn step(&self, batch: &mut Batch) {
        let Batch { source, arena, records, raw_page, .. } = batch;
        let bytes = |span: Span| &arena[span.range()];
        let raw = |record: &Record| {
            raw_page.get(record.raw.range()).filter(|raw| !raw.is_empty()).unwrap_or(bytes(record.data))
        };
        identify(&source.instance_uuid, records, raw);
        for record in records {
            record.lane = lane_of(bytes(record.entity), bytes(record.user));
        }
    }
}
