//! Any bytes as the body of a stored batch with a right checksum: a batch or an error, never a panic; what was decoded is encoded and decoded again to the same.
#![no_main]

use event_router::state::codec;
use event_router::event::Selection;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let Ok(batch) = codec::decode_blob(&codec::seal(body, 1)) else { return };
    let all = Selection::first(batch.records.len());
    let Ok(encoded) = codec::encode(&batch, &all) else { return };
    let again = codec::decode_blob(encoded.blob()).expect("what was encoded can be decoded");
    assert_eq!(again.records.len(), batch.records.len());
});
