//! A line of pattern, then any bytes as an event's data: compiling and matching end and never panic, and matching twice gives the same.
#![no_main]

use std::sync::Arc;

use eventpattern::{Facts, PatternSet, Root};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (pattern, data) = input.split_at(input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len()));
    let Ok(pattern) = serde_json::from_slice::<serde_json::Value>(pattern) else { return };
    for root in [Root::CloudEvent, Root::AwsEvent] {
        let Ok(set) = PatternSet::compile(root, &[(1, pattern.clone())]) else { return };
        let mut matcher = Arc::new(set).matcher();
        let facts = Facts { subject: "VmPoweredOnEvent", data: data.strip_prefix(b"\n").unwrap_or(data), ..Facts::default() };
        let (mut first, mut second) = (Vec::new(), Vec::new());
        matcher.matches(&facts, &mut first);
        matcher.matches(&facts, &mut second);
        assert_eq!(first, second);
    }
});
