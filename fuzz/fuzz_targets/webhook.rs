//! Any bytes as a CloudEvent, and as a batch of them. Reading must return events or an error, and
//! not panic. An accepted event that is delivered and read again must be the same event.
#![no_main]

use std::sync::Arc;

use event_router::cloudevents::{Envelope, EnvelopeOptions};
use event_router::event::{Batch, SourceInfo};
use event_router::source::webhook::event;
use libfuzzer_sys::fuzz_target;

fn batch() -> Batch {
    let source = SourceInfo {
        index: 0,
        name: "hooks".into(),
        url: "/webhooks/hooks".into(),
        instance_uuid: Default::default(),
        api_version: String::new(),
    };
    Batch::new(Arc::new(source), 0, Vec::new(), Vec::new())
}

/// The first event of `batch` as a target gets it.
fn delivered(batch: &Batch) -> Vec<u8> {
    let envelope = Envelope::new(EnvelopeOptions::default()).expect("the defaults are valid");
    let mut body = Vec::new();
    envelope.open(batch).structured(0, &mut body);
    body
}

fuzz_target!(|body: &[u8]| {
    let _ = event::batched(body, 9, &mut batch());
    let mut read = batch();
    if event::structured(body, &mut read).is_err() {
        return;
    }
    let first = delivered(&read);
    let mut again = batch();
    event::structured(&first, &mut again).expect("what was delivered can be read");
    assert_eq!(delivered(&again), first);
});
