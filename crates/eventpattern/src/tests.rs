//! Roots, sets of many patterns, and bounds.

mod agree;
mod errors;
mod explanations;
mod operators;

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::*;

fn matches(root: Root, pattern: &Json, event: &Event<'_>) -> bool {
    let set = PatternSet::compile(root, &[(7, pattern.clone())])
        .unwrap_or_else(|errors| panic!("{pattern}: {errors:?}"));
    let mut out = vec![99];
    Arc::new(set).matcher().matches(event, &mut out);
    assert!(out.is_empty() || out == [7], "{out:?}");
    !out.is_empty()
}

/// A matcher for each pattern. A set of the same patterns must agree with them.
struct Separate(Vec<(PatternId, Matcher)>);

impl Separate {
    fn new(patterns: &[(PatternId, Json)]) -> Self {
        let matcher = |pattern: &(PatternId, Json)| {
            Arc::new(PatternSet::compile(Root::CloudEvent, std::slice::from_ref(pattern)).unwrap()).matcher()
        };
        Separate(patterns.iter().map(|pattern| (pattern.0, matcher(pattern))).collect())
    }

    /// The patterns that match `event`.
    fn matches(&mut self, event: &Event<'_>) -> Vec<PatternId> {
        let (mut all, mut out) = (Vec::new(), Vec::new());
        for (id, matcher) in &mut self.0 {
            matcher.matches(event, &mut out);
            if !out.is_empty() {
                all.push(*id);
            }
        }
        all
    }
}

const EVENT: Event<'static> = Event {
    source: "https://vc1.example/sdk",
    event_type: "com.vmware.event.router/event",
    subject: "VmPoweredOnEvent",
    id: "6c1f3c7e-0000-5000-8000-000000000001",
    time: "2026-11-22T00:06:52Z",
    datacontenttype: "application/json",
    extensions: &[
        ("partitionkey", ExtensionValue::Text("VirtualMachine:vm-65")),
        ("sequence", ExtensionValue::Text("0000000005")),
        ("severitynumber", ExtensionValue::Integer(13)),
        ("replayed", ExtensionValue::Boolean(true)),
    ],
    account: "",
    region: "",
    data: br#"{"Key":5,"UserName":"root","Vm":{"Name":"web-1","Vm":{"Type":"VirtualMachine","Value":"vm-65"}},"Net":null}"#,
};

#[test]
fn cloud_event_root() {
    let check = |pattern: Json, expected: bool| {
        assert_eq!(matches(Root::CloudEvent, &pattern, &EVENT), expected, "{pattern}")
    };
    check(json!({"subject": ["VmPoweredOnEvent"]}), true);
    check(json!({"subject": [{"prefix": "Vm"}], "type": [{"suffix": "/event"}]}), true);
    check(json!({"source": [{"wildcard": "https://*/sdk"}]}), true);
    check(json!({"subject": ["VmPoweredOnEvent"], "source": ["https://vc2.example/sdk"]}), false);
    check(json!({"specversion": ["1.0"], "datacontenttype": ["application/json"]}), true);
    check(json!({"id": [{"prefix": "6c1f"}], "time": [{"prefix": "2026-"}]}), true);
    check(json!({"id": [{"prefix": "ffff"}]}), false);
    check(json!({"partitionkey": [{"suffix": "vm-65"}]}), true);
    check(json!({"severitynumber": [13]}), true);
    check(json!({"severitynumber": [{"numeric": [">=", 13]}], "subject": ["VmPoweredOnEvent"]}), true);
    check(json!({"severitynumber": [{"numeric": [">", 13]}]}), false);
    check(json!({"severitynumber": [{"anything-but": [13]}]}), false);
    check(json!({"severitynumber": ["13"]}), false);
    check(json!({"severitynumber": [{"exists": true}], "replayed": [true]}), true);
    check(json!({"replayed": ["true", false]}), false);
    check(json!({"eventclass": [{"exists": false}]}), true);
    check(json!({"eventclass": ["x"]}), false);
    check(json!({"subject": {"x": ["y"]}}), false);
    check(json!({"subject": {"x": [{"exists": false}]}}), true);
    check(json!({"data": [{"exists": true}]}), false);
    check(json!({"subject": ["VmPoweredOnEvent"], "data": {"Vm": {"Name": [{"prefix": "web-"}]}}}), true);
    check(json!({"data.Vm.Name": ["web-1"]}), true);
    check(json!({"subject": ["VmPoweredOffEvent"], "data": {"Vm": {"Name": [{"prefix": "web-"}]}}}), false);
    check(json!({"$or": [{"subject": ["Other"]}, {"data": {"Key": [5]}}]}), true);
    check(json!({"$or": [{"subject": ["VmPoweredOnEvent"]}, {"data": {"Key": [6]}}]}), true);
    check(json!({"detail": {"subject": ["VmPoweredOnEvent"]}}), false);
}

#[test]
fn aws_event_root() {
    let check = |pattern: Json, event: &Event<'_>, expected: bool| {
        assert_eq!(matches(Root::AwsEvent, &pattern, event), expected, "{pattern}");
    };
    let known = Event { account: "123456789012", region: "eu-west-1", ..EVENT };
    check(json!({"detail": {"subject": ["VmPoweredOnEvent", "VmPoweredOffEvent"]}}), &known, true);
    check(json!({"detail-type": ["VmPoweredOnEvent"]}), &known, true);
    check(json!({"detail-type": ["VmPoweredOffEvent"]}), &known, false);
    check(
        json!({"source": ["https://vc1.example/sdk"], "detail": {"data": {"UserName": ["root"]}}}),
        &known,
        true,
    );
    check(json!({"source": ["aws.ec2"]}), &known, false);
    check(json!({"account": ["123456789012"], "region": [{"prefix": "eu-"}]}), &known, true);
    check(json!({"account": ["000000000000"]}), &known, false);
    // Constraints on attributes that only AWS knows count as met.
    check(json!({"account": ["000000000000"]}), &EVENT, true);
    check(json!({"account": ["000000000000"], "source": ["aws.ec2"]}), &EVENT, false);
    check(json!({"id": ["x"], "time": [{"prefix": "1999"}]}), &known, true);
    check(json!({"$or": [{"time": [{"prefix": "1999"}]}, {"source": ["aws.ec2"]}]}), &known, true);
    check(json!({"version": ["0"]}), &known, true);
    check(json!({"resources": ["arn:x"]}), &known, false);
    check(json!({"resources": [{"exists": false}]}), &known, true);
    check(json!({"subject": ["VmPoweredOnEvent"]}), &known, false);
}

#[test]
fn lenient_compilation_makes_invalid_patterns_match() {
    let patterns =
        [(1, json!({"source": [{"from-the-future": 1}]})), (2, json!({"source": ["other"]})), (3, json!({}))];
    let (set, errors) = PatternSet::compile_lenient(Root::AwsEvent, &patterns);
    assert_eq!(errors.iter().map(|error| error.pattern).collect::<Vec<_>>(), [1, 3]);
    let mut out = Vec::new();
    Arc::new(set).matcher().matches(&EVENT, &mut out);
    assert_eq!(out, [1, 3]);
    let errors = PatternSet::compile(Root::AwsEvent, &patterns).unwrap_err();
    assert_eq!(errors.len(), 2);
}

#[test]
fn malformed_data_matches_patterns_that_read_it() {
    let patterns = [
        (1, json!({"data": {"a": ["x"]}})),
        (2, json!({"data": {"a": [{"prefix": "x"}]}, "subject": ["Other"]})),
        (3, json!({"subject": ["VmPoweredOnEvent"]})),
        (4, json!({"data": {"a": [{"wildcard": "*x"}]}})),
    ];
    let mut matcher = Arc::new(PatternSet::compile(Root::CloudEvent, &patterns).unwrap()).matcher();
    let mut out = Vec::new();
    for data in [&b"{\"a\":"[..], b"{\"a\":\"\xff\"}"] {
        matcher.matches(&Event { data, ..EVENT }, &mut out);
        assert_eq!(out, [1, 3, 4]);
    }
    assert_eq!(matcher.undecided(), 2);
    matcher.matches(&EVENT, &mut out);
    assert_eq!(out, [3]);
    assert_eq!(matcher.undecided(), 2);
}

#[test]
fn needs_name_the_attributes_that_patterns_use() {
    let needs = |pattern: Json| PatternSet::compile(Root::CloudEvent, &[(1, pattern)]).unwrap().needs();
    assert_eq!(needs(json!({"subject": ["x"], "source": [{"prefix": "y"}]})), Needs::default());
    assert!(needs(json!({"id": ["x"]})).id);
    assert!(needs(json!({"time": ["x"]})).time);
    assert!(needs(json!({"sequence": ["x"]})).extensions);
    assert!(needs(json!({"data": {"a": ["x"]}})).data);
}

#[test]
fn many_patterns_with_one_operator_on_one_field() {
    type Operator = (&'static str, fn(u32) -> Json);
    let operators: [Operator; 8] = [
        ("anything-but", |i| json!({"anything-but": format!("x{i}")})),
        ("anything-but, the same", |_| json!({"anything-but": "x5"})),
        ("anything-but number", |i| json!({"anything-but": i})),
        ("prefix, the same", |_| json!({"prefix": "x"})),
        ("suffix", |i| json!({"suffix": format!("{i}")})),
        ("equals-ignore-case, the same", |_| json!({"equals-ignore-case": "X7"})),
        ("numeric, overlapping", |i| json!({"numeric": [">", i]})),
        ("wildcard", |i| json!({"wildcard": format!("*{i}")})),
    ];
    for (name, operator) in operators {
        let patterns: Vec<_> = (0..300).map(|i| (i, json!({"data": {"f": [operator(i)]}}))).collect();
        let mut matcher = Arc::new(PatternSet::compile(Root::CloudEvent, &patterns).unwrap()).matcher();
        let mut separate = Separate::new(&patterns);
        for value in [json!("x7"), json!("y"), json!(150), json!(null), json!(["x1", 7])] {
            let data = json!({ "f": value }).to_string();
            let event = Event { data: data.as_bytes(), ..EVENT };
            let mut out = Vec::new();
            matcher.matches(&event, &mut out);
            let expected = separate.matches(&event);
            assert_eq!(out, expected, "{name} on {data}");
        }
    }
}

#[test]
fn fifty_thousand_patterns() {
    let patterns: Vec<_> = (0..50_000)
        .map(|i| match i % 5 {
            0 => (i, json!({"subject": [format!("Subject{i}")]})),
            1 => (i, json!({"subject": [format!("Subject{}", i - 1)], "data": {"Key": [i]}})),
            2 => (i, json!({"data": {"Vm": {"Name": [format!("vm-{i}")]}}})),
            3 => (i, json!({"source": [{"suffix": format!("{i}")}]})),
            _ => (i, json!({"data": {"Vm": {"Name": [{"prefix": format!("{i}-")}]}}})),
        })
        .collect();
    let mut matcher = Arc::new(PatternSet::compile(Root::CloudEvent, &patterns).unwrap()).matcher();
    let mut out = Vec::new();
    let event = Event {
        subject: "Subject40000",
        source: "s3",
        data: br#"{"Key":40001,"Vm":{"Name":"vm-40002"}}"#,
        ..EVENT
    };
    matcher.matches(&event, &mut out);
    assert_eq!(out, [3, 40_000, 40_001, 40_002]);
    matcher.matches(&Event { data: br#"{"Vm":{"Name":"49999-x"}}"#, ..event }, &mut out);
    assert_eq!(out, [3, 40_000, 49_999]);
}

#[test]
fn remembered_classes_are_bounded() {
    let patterns: Vec<_> = (0..3).map(|i| (i, json!({"subject": [{"suffix": format!("{i}")}]}))).collect();
    let mut matcher = Arc::new(PatternSet::compile(Root::CloudEvent, &patterns).unwrap()).matcher();
    let mut out = Vec::new();
    for round in 0..2 {
        for event in 0..limits::CLASSES_MAX + 100 {
            let subject = format!("Subject{event}");
            matcher.matches(&Event { subject: &subject, ..EVENT }, &mut out);
            let last = (event % 10) as u32;
            assert_eq!(out, if last < 3 { vec![last] } else { vec![] }, "{round}: {subject}");
        }
    }
    assert!(matcher.classes() <= limits::CLASSES_MAX);
}

#[test]
fn sets_and_matchers_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    fn moves<T: Send>() {}
    crosses::<PatternSet>();
    moves::<Matcher>();
}

#[test]
fn array_steps_are_bounded() {
    let matches = |pattern: Json, data: Json| {
        let data = data.to_string();
        let mut matcher =
            Arc::new(PatternSet::compile(Root::CloudEvent, &[(1, json!({ "data": pattern }))]).unwrap())
                .matcher();
        let mut out = Vec::new();
        matcher.matches(&Event { data: data.as_bytes(), ..EVENT }, &mut out);
        (out.len(), matcher.undecided())
    };
    let many = |name: &str, value: &str, count: usize| -> Vec<Json> {
        (0..count).map(|_| json!({ name: value })).collect()
    };
    // No element has both `a` and `c`. To find that out takes 500 * 1,000 * 500 steps, so the
    // pattern counts as matching, undecided.
    let elements = [many("a", "x", 500), many("c", "x", 500)].concat();
    let nested_arrays = json!({"k": many("b", "x", 1_000), "l": elements});
    assert_eq!(
        matches(json!({"l": {"a": ["x"], "c": ["x"]}, "k": {"b": ["x"]}}), nested_arrays.clone()),
        (1, 1)
    );
    // A constraint that no field meets rules out all combinations.
    assert_eq!(
        matches(json!({"l": {"a": ["x"], "c": ["y"]}, "k": {"b": ["x"]}}), nested_arrays.clone()),
        (0, 0)
    );
    assert_eq!(matches(json!({"l": {"a": ["x"]}, "k": {"b": ["x"]}}), nested_arrays), (1, 0));
}
