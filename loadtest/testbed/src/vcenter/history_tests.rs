#![allow(clippy::single_range_in_vec_init)] // the tested values are lists of runs

use super::*;

const NOW: i64 = 1_800_000_000_000_000;

#[test]
fn a_backlog_of_ten_million_is_one_segment_and_ends_before_now() {
    let history = History::new(1, 10_000_000, 1_000, None, NOW);
    assert_eq!(history.segments.len(), 1);
    assert_eq!(history.produced(NOW), 10_000_000);
    assert_eq!(history.created_us(9_999_999), NOW - 1_000);
    assert_eq!(history.key(9_999_999), 10_000_000);
    assert_eq!(history.first_at_or_after(NOW - 5_000, 10_000_000), 9_999_995);
    assert_eq!(history.first_at_or_after(NOW, 10_000_000), 10_000_000);
}

#[test]
fn a_rate_creates_no_event_in_the_future() {
    for rate in [1.0, 3.0, 1_000.0, 400_000.0, 3_000_000.0] {
        let mut history = History::new(1, 10, 1_000, None, NOW);
        history.set_rate(rate, NOW);
        let mut last = 0;
        for step in 0..200 {
            let now = NOW + step * 12_345;
            let produced = history.produced(now);
            assert!(produced >= last, "rate {rate}");
            assert!(history.created_us(produced - 1) <= now, "rate {rate}");
            if step % 7 == 0 {
                history.append(2, now);
            }
            if step % 11 == 0 {
                history.set_rate(rate, now);
            }
            last = history.produced(now);
        }
        for index in (1..last).step_by((last / 50_000 + 1) as usize) {
            let (before, after) = (history.created_us(index - 1), history.created_us(index));
            assert!(
                before <= after,
                "rate {rate}: event {index} is {} us older than the one before",
                before - after
            );
        }
    }
}

#[test]
fn the_rate_is_kept_through_appends() {
    let mut history = History::new(1, 0, 0, None, NOW);
    history.set_rate(1_000.0, NOW);
    for millisecond in 1..=1_000 {
        history.append(1, NOW + millisecond * 1_000 - 300);
    }
    assert_eq!(history.produced(NOW + 1_000_000), 2_000);
}

#[test]
fn the_rate_is_kept_through_changes_that_come_faster_than_events() {
    let mut history = History::new(1, 0, 0, None, NOW);
    for step in 0..1_000 {
        history.set_rate(5.0 + f64::from(step % 2), NOW + i64::from(step) * 10_000);
    }
    let produced = history.produced(NOW + 10_000_000);
    assert!((54..=56).contains(&produced), "5.5 a second for ten seconds: {produced}");
}

#[test]
fn total_ends_every_pace() {
    let mut history = History::new(1, 5, 1, Some(8), NOW);
    history.set_rate(1_000.0, NOW);
    assert_eq!(history.produced(NOW + 10_000_000), 8);
    assert_eq!(history.next_event_us(NOW + 10_000_000), None);
    assert!(history.append(5, NOW + 10_000_000).is_empty());
    let mut endless = History::new(1, 0, 1, Some(30), NOW);
    endless.set_endless(NOW);
    endless.feed(0, 1_000, NOW);
    assert_eq!(endless.produced(NOW), 30);
}

#[test]
fn late_events_are_skipped_and_found_by_a_re_read() {
    let mut history = History::new(1, 5, 1, None, NOW);
    assert_eq!(history.hide_next(3, NOW + 1_000, NOW), 5..8);
    history.append(6, NOW);
    assert_eq!(history.read_forward(0, 11, 100, NOW, None), (vec![0..5, 8..11], 11));
    assert_eq!(history.read_forward(11, 11, 100, NOW + 2_000, None), (vec![], 11));
    assert_eq!(history.read_forward(4, 11, 100, NOW + 2_000, None), (vec![4..11], 11));
}

#[test]
fn unreadable_events_shorten_and_empty_pages() {
    let mut history = History::new(1, 5, 1, None, NOW);
    history.forbid_next(20, false, NOW);
    history.append(25, NOW);
    assert_eq!(history.read_forward(0, 30, 10, NOW, None), (vec![0..5], 10));
    assert_eq!(history.read_forward(10, 30, 10, NOW, None), (vec![], 20));
    assert_eq!(history.read_forward(20, 30, 10, NOW, None), (vec![25..30], 30));
    let mut sticky = History::new(1, 5, 1, None, NOW);
    sticky.forbid_next(20, true, NOW);
    sticky.append(25, NOW);
    assert_eq!(sticky.read_forward(0, 30, 10, NOW, None), (vec![0..5], 10));
    assert_eq!(sticky.read_forward(10, 30, 10, NOW, None), (vec![], 10));
}

#[test]
fn restore_withdraws_events_and_uses_their_keys_again() {
    let mut history = History::new(100, 10, 1, None, NOW);
    history.restore(4, NOW);
    history.append(2, NOW + 60_000_000);
    assert_eq!((history.key(9), history.key(10), history.key(11)), (109, 106, 107));
    assert_eq!(history.read_forward(0, 12, 100, NOW, None).0, vec![0..6, 10..12]);
    assert_eq!(history.exceptions(NOW).withdrawn, vec![6..10]);
}

#[test]
fn keys_wrap_to_negative() {
    let history = History::new(i32::MAX - 1, 5, 1, None, NOW);
    assert_eq!((history.key(1), history.key(2)), (i32::MAX, i32::MIN));
    assert_eq!(history.first_negative_key(0, 5), Some(2));
    assert_eq!(history.first_negative_key(4, 5), Some(4));
    assert_eq!(History::new(1, 5, 1, None, NOW).first_negative_key(0, 5), None);
}

#[test]
fn a_plan_splits_at_specials_segments_and_spans() {
    let mut history = History::new(1, 3, 1, None, NOW);
    let special = Special::default();
    history.append_special(special, NOW);
    history.next_key(50, NOW);
    history.append(2, NOW);
    let mut plan = Vec::new();
    history.plan(&[0..6], &mut plan);
    let shape: Vec<(u64, i32)> = plan
        .iter()
        .map(|item| match item {
            PlanItem::Run { count, key, .. } => (*count, *key),
            PlanItem::Special { key, .. } => (0, *key),
        })
        .collect();
    assert_eq!(shape, vec![(3, 1), (0, 4), (2, 50)]);
}
