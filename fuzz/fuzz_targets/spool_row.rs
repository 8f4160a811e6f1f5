//! Any bytes as the body of a stored batch with a correct checksum. Decoding must return a batch or
//! an error, and not panic. Encoding a decoded batch and decoding it again must give the same
//! batch.
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
