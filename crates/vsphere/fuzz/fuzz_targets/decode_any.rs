//! Any bytes at all: both decoders end, neither panics, what they write is JSON, and they give the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "same.rs"]
mod same;

fuzz_target!(|page: &[u8]| same::check(page));
