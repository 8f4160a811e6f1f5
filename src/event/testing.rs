//! Small batches for the tests of all stages.

use std::sync::Arc;

use uuid::Uuid;

use super::{Batch, Record, SourceInfo, Span, identify};

/// The facts of a vCenter named `vc`.
pub fn source() -> Arc<SourceInfo> {
    Arc::new(SourceInfo {
        index: 0,
        name: "vc".into(),
        url: "https://vc/sdk".into(),
        instance_uuid: Uuid::from_u128(1),
        api_version: "8.0".into(),
    })
}

/// A batch with one event for each pair of key and created_us, with identity and id set.
pub fn batch(page: u64, events: &[(i32, i64)]) -> Batch {
    let records = events.iter().map(|(key, us)| Record {
        key: Some(*key),
        created_us: Some(*us),
        data: Span::new(0, 2),
        ..Record::default()
    });
    let mut batch = Batch::new(source(), page, b"{}".to_vec(), records.collect());
    identify(&batch.source.instance_uuid, &mut batch.records, |_| b"");
    batch
}
