//! Any bytes at all: both decoders end, neither panics, what they write is JSON, and they give the same.
#![no_main]

use event_router::vim::Decoded;
use event_router::vim::decode::{decode_first, reference};
use libfuzzer_sys::fuzz_target;

#[path = "same.rs"]
mod same;

fuzz_target!(|page: &[u8]| {
    let (mut fast, mut slow) = (Decoded::default(), Decoded::default());
    let results = (decode_first(page, &mut fast), reference::decode(page, &mut slow));
    assert_eq!(results.0, results.1);
    same::assert_same(page, &fast, &slow);
});
