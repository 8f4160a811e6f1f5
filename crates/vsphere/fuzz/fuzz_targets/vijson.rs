//! Any bytes as a VI/JSON page and as the answer to a control call. Both readers must end without a
//! panic. The data of every event must be JSON, and its span in the page must hold one JSON object.
#![no_main]

use vsphere::Decoded;
use vsphere::decode::{array, decode_vijson};
use vsphere::api::read_as_anything;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|page: &[u8]| {
    read_as_anything(page);
    let mut decoded = Decoded::default();
    let whole = array::is_whole(page);
    if decode_vijson(page, &mut decoded).is_err() {
        assert!(decoded.records.is_empty() && decoded.arena.is_empty());
        return;
    }
    assert!(whole, "what is JSON is whole");
    for record in &decoded.records {
        serde_json::from_slice::<Value>(decoded.bytes(record.data)).expect("the data is JSON");
        let sent = &page[record.raw.range()];
        assert!(sent.starts_with(b"{") && sent.ends_with(b"}"), "one object as it was sent");
    }
});
