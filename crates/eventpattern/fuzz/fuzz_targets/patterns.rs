//! A pattern, a line break, then the data of an event. Compiling and matching must not panic, and
//! matching twice must give the same result.
#![no_main]

use std::sync::Arc;

use eventpattern::{Event, PatternSet, Root};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (pattern, data) = input.split_at(input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len()));
    let Ok(pattern) = serde_json::from_slice::<serde_json::Value>(pattern) else { return };
    for root in [Root::CloudEvent, Root::AwsEvent, Root::Data] {
        let Ok(set) = PatternSet::compile(root, &[(1, pattern.clone())]) else { return };
        let mut matcher = Arc::new(set).matcher();
        let event = Event { subject: "VmPoweredOnEvent", data: data.strip_prefix(b"\n").unwrap_or(data), ..Event::default() };
        let (mut first, mut second) = (Vec::new(), Vec::new());
        matcher.matches(&event, &mut first);
        matcher.matches(&event, &mut second);
        assert_eq!(first, second);
    }
});
