//! Divides entries into PutEvents calls, in order, by their number and by AWS's formula for sizes.
//!
//! Source: EventBridge user guide, "Calculating PutEvents event entry size", and the API reference
//! of PutEvents.

use std::ops::Range;

use crate::limits::PUT_EVENTS_ENTRIES_MAX;

/// The formula's allowance for the time of an entry.
const TIME_BYTES: usize = 14;

/// Size of an entry: the time, and the UTF-8 bytes of source, detail-type and detail. The name of
/// the bus does not count.
pub fn entry_bytes(source: &str, detail_type: &str, detail: &str) -> usize {
    TIME_BYTES + source.len() + detail_type.len() + detail.len()
}

/// Divides entries of these sizes into calls, each of which is a range. An entry over `bytes_max`
/// is in no call.
pub fn calls(sizes: &[usize], bytes_max: usize) -> Vec<Range<usize>> {
    let mut calls = Vec::new();
    let (mut start, mut bytes) = (0, 0);
    for (at, size) in sizes.iter().enumerate() {
        let full = at - start == PUT_EVENTS_ENTRIES_MAX || bytes + size > bytes_max;
        if full && at > start {
            calls.push(start..at);
            (start, bytes) = (at, 0);
        }
        if *size > bytes_max {
            start = at + 1;
        } else {
            bytes += size;
        }
    }
    if start < sizes.len() {
        calls.push(start..sizes.len());
    }
    calls
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_entry_is_measured_in_bytes_of_utf_8() {
        assert_eq!(entry_bytes("s", "t", "{}"), 18);
        assert_eq!(entry_bytes("ü", "", "€"), 19);
    }

    #[test]
    fn calls_are_full_by_count_or_by_bytes() {
        assert_eq!(calls(&[], 10), [0..0; 0]);
        assert_eq!(calls(&[1; 25], 100), [0..10, 10..20, 20..25]);
        assert_eq!(calls(&[4, 4, 4, 10, 1], 10), [0..2, 2..3, 3..4, 4..5]);
        assert_eq!(calls(&[11, 1, 11, 11, 2, 3, 11], 10), [1..2, 4..6]);
        assert_eq!(calls(&[11], 10), [0..0; 0]);
    }

    proptest! {
        #[test]
        fn every_entry_that_fits_is_in_one_call_in_order(sizes in prop::collection::vec(0usize..14, 0..60)) {
            let calls = calls(&sizes, 10);
            let sent: Vec<usize> = calls.iter().cloned().flatten().collect();
            let fitting: Vec<usize> = (0..sizes.len()).filter(|at| sizes[*at] <= 10).collect();
            prop_assert_eq!(sent, fitting);
            for call in &calls {
                prop_assert!(!call.is_empty() && call.len() <= PUT_EVENTS_ENTRIES_MAX);
                prop_assert!(sizes[call.clone()].iter().sum::<usize>() <= 10);
            }
            // Two neighbouring calls would not fit into one, unless an oversized entry lies
            // between.
            for pair in calls.windows(2).filter(|pair| pair[0].end == pair[1].start) {
                let next = sizes[pair[0].clone()].iter().sum::<usize>() + sizes[pair[1].start];
                prop_assert!(next > 10 || pair[0].len() == PUT_EVENTS_ENTRIES_MAX);
            }
        }
    }
}
