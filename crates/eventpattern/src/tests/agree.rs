//! The two evaluators against each other, and patterns together against patterns alone.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{Alone, EVENT};
use crate::flatten::Fields;
use crate::matcher::{Data, Event};
use crate::set::AlternativeId;
use crate::shard::Shard;
use crate::{Facts, PatternId, PatternSet, Root};

// Values that are near each other, so that patterns and events meet.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "[abAB]{0,3}",
        1 => "[kKsSißﬁ\u{212A}İé\"\\\\<*.\u{1}\u{7f}😀]{0,3}",
    ]
}

fn number() -> impl Strategy<Value = Json> {
    prop_oneof![
        (-4i64..5).prop_map(|n| json!(n)),
        (-8i64..9).prop_map(|n| json!(n as f64 / 2.0)),
        prop::sample::select(vec![
            json!(1i64 << 53),
            json!((1i64 << 53) + 1),
            json!(i64::MAX),
            json!(i64::MIN),
            json!(1e300),
            json!(-1e-300),
            json!(0.1),
            json!(-0.0)
        ]),
    ]
}

fn scalar() -> impl Strategy<Value = Json> {
    prop_oneof![4 => text().prop_map(Json::String), 3 => number(), 1 => any::<bool>().prop_map(Json::Bool), 1 => Just(Json::Null)]
}

/// What an element of a pattern's array may be; all operators that both evaluators have, and (`all`) the others.
fn element(all: bool) -> BoxedStrategy<Json> {
    let shared = prop_oneof![
        scalar(),
        text().prop_map(|text| json!({"prefix": text})),
        text().prop_map(|text| json!({"suffix": text})),
        text().prop_map(|text| json!({"equals-ignore-case": text})),
        prop::collection::vec(text(), 1..4).prop_map(|texts| json!({"anything-but": texts})),
        prop::collection::vec(number(), 1..4).prop_map(|numbers| json!({"anything-but": numbers})),
        (prop::sample::select(vec!["<", "<=", ">", ">=", "="]), number())
            .prop_map(|(comparison, number)| json!({"numeric": [comparison, number]})),
        (-4i64..5, 1i64..4).prop_map(|(low, width)| json!({"numeric": [">=", low, "<", low + width]})),
    ];
    if !all {
        return shared.boxed();
    }
    prop_oneof![
        4 => shared,
        1 => any::<bool>().prop_map(|exists| json!({"exists": exists})),
        1 => "[ab]{0,2}\\*[ab]{0,2}".prop_map(|glob| json!({"wildcard": glob})),
        1 => "[abAB]{1,2}".prop_map(|text| json!({"prefix": {"equals-ignore-case": text}})),
        1 => "[abAB]{1,2}".prop_map(|text| json!({"suffix": {"equals-ignore-case": text}})),
        1 => "[abAB]{1,2}".prop_map(|text| json!({"anything-but": {"prefix": text}})),
        1 => (text(), number()).prop_map(|(text, number)| json!({"anything-but": [text, number]})),
    ]
    .boxed()
}

fn names() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a".to_string(), "b".into(), "c".into()])
}

/// A pattern over `data`: up to three paths, one or two names deep.
fn data_pattern(all: bool) -> impl Strategy<Value = Json> {
    let values = || prop::collection::vec(element(all), 1..4).prop_map(Json::Array);
    let inner = prop_oneof![3 => values(), 1 => prop::collection::btree_map(names(), values(), 1..3).prop_map(|map| json!(map))];
    prop::collection::btree_map(names(), inner, 1..4).prop_map(|map| json!(map))
}

fn data() -> impl Strategy<Value = Json> {
    let value = scalar().prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            prop::collection::btree_map(names(), inner, 0..4).prop_map(|map| json!(map)),
        ]
    });
    prop::collection::btree_map(names(), value, 0..4).prop_map(|map| json!(map))
}

/// One shard of those of `patterns` that quamina takes finds in `data` whatever the direct evaluator finds.
fn misses_nothing(patterns: Vec<Json>, data: &Json) -> Result<(), TestCaseError> {
    let patterns: Vec<_> = patterns
        .into_iter()
        .enumerate()
        .map(|(id, pattern)| (id as PatternId, json!({"data": pattern})))
        .collect();
    let set = PatternSet::compile(Root::CloudEvent, &patterns).unwrap();
    let ids: Vec<_> = (0..set.alternatives.len() as AlternativeId)
        .filter(|&id| Shard::takes(&set.alternatives[id as usize].data))
        .collect();
    let (shard, taken) = Shard::build(&ids, &set.alternatives);
    prop_assert_eq!(taken, ids.len());
    prop_assert_eq!(shard.alternatives(), &ids[..]);
    let text = data.to_string();
    let mut fields = Fields::default();
    fields.read(&text, &set.paths).unwrap();
    let mut found = Vec::new();
    prop_assert!(shard.matches(&text, &fields, &mut Vec::new(), &mut found));
    let facts = Facts { data: text.as_bytes(), ..EVENT };
    let mut direct = Data::default();
    let mut event = Event::new(&facts);
    for id in ids {
        let holds = direct.holds(&set.alternatives[id as usize], &mut event, &set);
        prop_assert!(!holds || found.contains(&id), "{} of {:?}", id, patterns);
    }
    Ok(())
}

/// Which of `patterns` match an event with this data.
fn matching(patterns: &[Json], data: &Json) -> Vec<PatternId> {
    let patterns: Vec<_> = patterns
        .iter()
        .enumerate()
        .map(|(id, pattern)| (id as PatternId, json!({"data": pattern})))
        .collect();
    let mut matcher = Arc::new(PatternSet::compile(Root::CloudEvent, &patterns).unwrap()).matcher();
    let (data, mut out) = (data.to_string(), Vec::new());
    matcher.matches(&Facts { data: data.as_bytes(), ..EVENT }, &mut out);
    out
}

#[test]
fn what_quamina_takes_for_something_else_is_not_found() {
    // Quamina's ranges compare bytes, and `false` lies below `0`; its prefixes see the quote that closes a string.
    for (pattern, data) in [
        (json!({"a": [{"numeric": ["<", 0]}]}), json!({"a": false})),
        (json!({"a": [{"prefix": "\""}]}), json!({"a": ""})),
        (json!({"a": [{"suffix": "\""}]}), json!({"a": ""})),
    ] {
        assert!(matching(&[pattern], &data).is_empty());
    }
    // Exact values behind what shares states with them.
    for (first, second, value) in [
        (json!({"prefix": "a"}), json!("ab"), "aa"),
        (json!({"anything-but": ["a"]}), json!("b"), "1"),
        (json!({"anything-but": ["a"]}), json!(5), ""),
        (json!({"anything-but": [1]}), json!(0), ""),
    ] {
        let patterns = [json!({"c": [first]}), json!({"c": [second]})];
        assert_eq!(matching(&patterns, &json!({"c": value})), [0], "{patterns:?}");
    }
}

proptest! {

    /// On what quamina takes it finds what the direct evaluator finds.
    #[test]
    fn quamina_misses_nothing_that_the_direct_evaluator_finds(patterns in prop::collection::vec(data_pattern(false), 1..6), data in data()) {
        misses_nothing(patterns, &data)?;
    }

    /// However a pattern is found among others, it matches what it matches alone.
    #[test]
    fn patterns_together_are_patterns_alone(
        patterns in prop::collection::vec((data_pattern(true), prop::option::of(prop::collection::vec("[AB]|Vm[AB]", 1..3)), prop::option::of("[st]{0,1}")), 1..40),
        events in prop::collection::vec((data(), "[AB]|Vm[AB]", "[st]"), 1..6),
    ) {
        let patterns: Vec<_> = patterns.into_iter().enumerate().map(|(id, (data, subjects, source))| {
            let mut pattern = json!({"data": data});
            if let Some(subjects) = subjects { pattern["subject"] = json!(subjects) }
            if let Some(source) = source { pattern["source"] = json!([{"prefix": source}]) }
            (id as PatternId, pattern)
        }).collect();
        let mut together = Arc::new(PatternSet::compile(Root::CloudEvent, &patterns).unwrap()).matcher();
        let mut alone = Alone::new(&patterns);
        let mut out = Vec::new();
        for (data, subject, source) in &events {
            let data = data.to_string();
            let facts = Facts { data: data.as_bytes(), subject, source, ..EVENT };
            together.matches(&facts, &mut out);
            let expected = alone.matches(&facts);
            prop_assert_eq!(&out, &expected, "{} of {}", data, subject);
        }
    }

    /// No text makes the compiler panic or the matcher disagree with itself.
    #[test]
    fn any_json_is_a_pattern_or_an_error(pattern in data(), event in ".{0,40}") {
        if let Ok(set) = PatternSet::compile(Root::CloudEvent, &[(1, json!({"data": pattern}))]) {
            let mut matcher = Arc::new(set).matcher();
            let (mut first, mut second) = (Vec::new(), Vec::new());
            let facts = Facts { data: event.as_bytes(), ..EVENT };
            matcher.matches(&facts, &mut first);
            matcher.matches(&facts, &mut second);
            prop_assert_eq!(first, second);
        }
    }
}
