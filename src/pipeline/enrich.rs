//! Enrich: every record gets its identity, its CloudEvents id and its lane. No clock, no network, no allocation.

use std::hash::Hasher;

use rustc_hash::FxHasher;

use crate::event::{Batch, Record, Span, identify};

/// The enrich stage.
#[derive(Debug)]
pub struct Enrich;

impl Enrich {
    pub fn step(&self, batch: &mut Batch) {
        let Batch { source, arena, records, xml, .. } = batch;
        let bytes = |span: Span| &arena[span.range()];
        let raw = |record: &Record| {
            xml.get(record.raw.range()).filter(|raw| !raw.is_empty()).unwrap_or(bytes(record.data))
        };
        identify(&source.instance_uuid, records, raw);
        for record in records {
            record.lane = lane(bytes(record.entity), bytes(record.user));
        }
    }
}

/// Hash of the entity, else of the user; the first byte keeps an entity and a user of the same name apart.
fn lane(entity: &[u8], user: &[u8]) -> u64 {
    let mut hasher = FxHasher::default();
    if entity.is_empty() {
        hasher.write_u8(1);
        hasher.write(user);
    } else {
        hasher.write_u8(0);
        hasher.write(entity);
    }
    hasher.finish()
}
