//! Random patterns and events: the matcher against the evaluator alone, and sets of many patterns
//! against sets of one.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::{EVENT, Separate};
use crate::evaluate::{CurrentEvent, Evaluator};
use crate::set::Alternative;
use crate::{Event, Explanation, PatternId, PatternSet, Root, explain};

// Few different values, so that patterns and events often agree.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        8 => "[aA]{0,2}",
        2 => "[abAB]{0,3}",
        1 => "[kKsSißﬁ\u{212A}İé\"\\\\<*.\u{1}\u{7f}😀]{0,3}",
        1 => prop::sample::select(vec!["2001:db8::1".to_string(), "2001:0DB8:0::1".into()]),
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
    prop_oneof![6 => text().prop_map(Json::String), 3 => number(), 1 => any::<bool>().prop_map(Json::Bool), 1 => Just(Json::Null)]
}

/// An element of a pattern's array.
fn element() -> impl Strategy<Value = Json> {
    let word = || "[abAB]{1,2}";
    prop_oneof![
        8 => scalar(),
        1 => text().prop_map(|text| json!({"prefix": text})),
        1 => text().prop_map(|text| json!({"suffix": text})),
        1 => text().prop_map(|text| json!({"equals-ignore-case": text})),
        1 => word().prop_map(|text| json!({"prefix": {"equals-ignore-case": text}})),
        1 => word().prop_map(|text| json!({"suffix": {"equals-ignore-case": text}})),
        1 => "[ab]{0,2}\\*[ab]{0,2}".prop_map(|glob| json!({"wildcard": glob})),
        3 => prop::collection::vec(text(), 1..4).prop_map(|texts| json!({"anything-but": texts})),
        1 => prop::collection::vec(number(), 1..4).prop_map(|numbers| json!({"anything-but": numbers})),
        1 => (text(), number()).prop_map(|(text, number)| json!({"anything-but": [text, number]})),
        1 => word().prop_map(|text| json!({"anything-but": {"prefix": text}})),
        1 => (prop::sample::select(vec!["<", "<=", ">", ">=", "="]), number())
            .prop_map(|(comparison, number)| json!({"numeric": [comparison, number]})),
        1 => (-4i64..5, 1i64..4).prop_map(|(low, width)| json!({"numeric": [">=", low, "<", low + width]})),
        1 => any::<bool>().prop_map(|exists| json!({"exists": exists})),
        1 => Just(json!({"cidr": "2001:db8::/32"})),
    ]
}

fn names() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a".to_string(), "b".into(), "c".into()])
}

/// A pattern over `data`: up to three paths, one or two names deep.
fn data_pattern() -> impl Strategy<Value = Json> {
    let values = || prop::collection::vec(element(), 1..4).prop_map(Json::Array);
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

/// A pattern over `data`, sometimes with a constraint on subject or source.
fn pattern() -> impl Strategy<Value = Json> {
    let subjects = prop::option::of(prop::collection::vec("[AB]|Vm[AB]", 1..3));
    (data_pattern(), subjects, prop::option::of("[st]{0,1}")).prop_map(|(data, subjects, source)| {
        let mut pattern = json!({"data": data});
        if let Some(subjects) = subjects {
            pattern["subject"] = json!(subjects);
        }
        if let Some(source) = source {
            pattern["source"] = json!([{"prefix": source}]);
        }
        pattern
    })
}

/// The patterns that match by the evaluator alone, without classes and indexes.
fn evaluate_all(set: &PatternSet, event: &Event<'_>) -> Vec<PatternId> {
    let mut evaluator = Evaluator::default();
    let mut current = CurrentEvent::new(event);
    let mut holds = |alternative: &&Alternative| {
        alternative.class_holds(event)
            && alternative.event_holds(event)
            && evaluator.data_holds(alternative, &mut current, set)
    };
    let mut matched: Vec<_> =
        set.alternatives.iter().filter(|one| holds(one)).map(|alternative| alternative.pattern).collect();
    matched.dedup();
    matched
}

/// The patterns that match by their explanations.
fn explained(patterns: &[(PatternId, Json)], event: &Event<'_>) -> Vec<PatternId> {
    let refused = |pattern: &Json| {
        matches!(explain(Root::CloudEvent, pattern, event).unwrap(), Explanation::Refused(_))
    };
    patterns.iter().filter(|(_, pattern)| !refused(pattern)).map(|(id, _)| *id).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// The indexes neither miss nor add a pattern, and no pattern affects another one.
    #[test]
    fn matcher_agrees_with_evaluator_and_with_separate_sets(
        patterns in prop::collection::vec(pattern(), 1..40),
        events in prop::collection::vec((data(), "[AB]|Vm[AB]", "[st]"), 1..6),
    ) {
        let patterns: Vec<_> = (0..).zip(patterns).collect();
        let set = Arc::new(PatternSet::compile(Root::CloudEvent, &patterns).unwrap());
        let mut matcher = set.matcher();
        let mut separate = Separate::new(&patterns);
        let mut matched = Vec::new();
        for (data, subject, source) in &events {
            let data = data.to_string();
            let event = Event { data: data.as_bytes(), subject, source, ..EVENT };
            matcher.matches(&event, &mut matched);
            prop_assert_eq!(&matched, &evaluate_all(&set, &event), "{} of {}", data, subject);
            prop_assert_eq!(&matched, &separate.matches(&event), "{} of {}", data, subject);
            prop_assert_eq!(&matched, &explained(&patterns, &event), "{} of {}", data, subject);
        }
    }

    /// An explanation tells of a mismatch exactly if the matcher finds one, also for alternatives
    /// and for other roots.
    #[test]
    fn explanations_agree_with_the_matcher(
        branches in prop::collection::vec(pattern(), 2..5),
        data in data(),
        subject in "[AB]|Vm[AB]",
        root in prop::sample::select(vec![Root::CloudEvent, Root::AwsEvent, Root::Data]),
    ) {
        let data = data.to_string();
        let event = Event { data: data.as_bytes(), subject: &subject, ..EVENT };
        let pattern = json!({ "$or": branches });
        let mut matcher = Arc::new(PatternSet::compile(root, &[(0, pattern.clone())]).unwrap()).matcher();
        let mut matched = Vec::new();
        matcher.matches(&event, &mut matched);
        match explain(root, &pattern, &event).unwrap() {
            Explanation::Matches => prop_assert_eq!((matched.len(), matcher.undecided()), (1, 0)),
            Explanation::Undecided => prop_assert_eq!(matched.len(), 1),
            Explanation::Refused(reasons) => {
                prop_assert!(matched.is_empty(), "{:?}", reasons);
                prop_assert!((1..=branches.len()).contains(&reasons.len()), "{:?}", reasons);
            }
        }
    }

    /// No pattern or data makes the compiler or the matcher panic, and a result is repeatable.
    #[test]
    fn any_json_is_a_pattern_or_an_error(pattern in data(), data in ".{0,40}") {
        if let Ok(set) = PatternSet::compile(Root::Data, &[(1, pattern)]) {
            let mut matcher = Arc::new(set).matcher();
            let (mut first, mut second) = (Vec::new(), Vec::new());
            let event = Event { data: data.as_bytes(), ..EVENT };
            matcher.matches(&event, &mut first);
            matcher.matches(&event, &mut second);
            prop_assert_eq!(first, second);
        }
    }
}
