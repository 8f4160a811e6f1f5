//! Any bytes as a page. Both decoders must end without a panic, write valid JSON, and agree.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "same.rs"]
mod same;

fuzz_target!(|page: &[u8]| same::check(page));
