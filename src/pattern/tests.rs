//! The operators by AWS's examples, classes and indices, and the two evaluators against each other.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::flatten::Fields;
use super::matcher::Data;
use super::set::AlternativeId;
use super::shard::Shard;
use super::*;

fn matches(root: Root, pattern: &Json, facts: &Facts<'_>) -> bool {
    let set = PatternSet::compile(root, &[(7, pattern.clone())])
        .unwrap_or_else(|errors| panic!("{pattern}: {errors:?}"));
    let mut out = vec![99];
    Arc::new(set).matcher().matches(facts, &mut out);
    assert!(out.is_empty() || out == [7], "{out:?}");
    !out.is_empty()
}

/// Whether `pattern`, rooted at `data`, matches `data`.
#[track_caller]
fn check(pattern: Json, data: Json, expected: bool) {
    let text = data.to_string();
    let facts = Facts { data: text.as_bytes(), ..Facts::default() };
    assert_eq!(
        matches(Root::CloudEvent, &json!({ "data": pattern.clone() }), &facts),
        expected,
        "{pattern} on {data}"
    );
}

#[test]
fn exact_values() {
    check(json!({"state": ["running"]}), json!({"state": "running"}), true);
    check(json!({"state": ["initializing", "running"]}), json!({"state": "running"}), true);
    check(json!({"state": ["running"]}), json!({"state": "Running"}), false);
    check(json!({"state": ["running"]}), json!({}), false);
    check(json!({"c-count": [5]}), json!({"c-count": 5}), true);
    check(json!({"c-count": [5]}), json!({"c-count": 5.0}), true);
    check(json!({"c-count": [5]}), json!({"c-count": "5"}), false);
    check(json!({"c-count": ["5"]}), json!({"c-count": 5}), false);
    check(json!({"big": [9007199254740993i64]}), json!({"big": 9007199254740992i64}), false);
    check(json!({"on": [true]}), json!({"on": true}), true);
    check(json!({"on": [true]}), json!({"on": "true"}), false);
    check(json!({"on": [false]}), json!({"on": true}), false);
    // "Matching events on null values and empty strings"
    check(json!({"eventVersion": [""]}), json!({"eventVersion": "", "responseElements": null}), true);
    check(json!({"responseElements": [null]}), json!({"eventVersion": "", "responseElements": null}), true);
    check(json!({"eventVersion": [null]}), json!({"eventVersion": ""}), false);
    check(json!({"responseElements": [""]}), json!({"responseElements": null}), false);
    check(json!({"a": [{"exactly": "x"}]}), json!({"a": "x"}), true);
    // An IPv6 address in any spelling; other strings as they are.
    check(json!({"ip": ["2001:db8::1"]}), json!({"ip": "2001:0DB8:0:0:0:0:0:1"}), true);
    check(json!({"ip": ["10.0.0.1"]}), json!({"ip": "10.0.0.1"}), true);
}

#[test]
fn fields_are_joined_by_and() {
    let pattern = json!({"a": ["x"], "b": {"c": [1], "d": ["y"]}});
    check(pattern.clone(), json!({"a": "x", "b": {"c": 1, "d": "y"}, "e": 2}), true);
    check(pattern.clone(), json!({"a": "x", "b": {"c": 1, "d": "z"}}), false);
    check(pattern, json!({"a": "x", "b": {"c": 1}}), false);
}

#[test]
fn prefix_and_suffix() {
    check(json!({"time": [{"prefix": "2017-10-02"}]}), json!({"time": "2017-10-02T18:43:48Z"}), true);
    check(json!({"time": [{"prefix": "2017-10-02"}]}), json!({"time": "2017-10-03T18:43:48Z"}), false);
    check(
        json!({"service": [{"prefix": {"equals-ignore-case": "EventB"}}]}),
        json!({"service": "EVENTBRIDGE"}),
        true,
    );
    check(
        json!({"service": [{"prefix": {"equals-ignore-case": "EventB"}}]}),
        json!({"service": "lambda"}),
        false,
    );
    check(json!({"FileName": [{"suffix": ".png"}]}), json!({"FileName": "dog.png"}), true);
    check(json!({"FileName": [{"suffix": ".png"}]}), json!({"FileName": "dog.PNG"}), false);
    check(
        json!({"FileName": [{"suffix": {"equals-ignore-case": ".png"}}]}),
        json!({"FileName": "dog.PNG"}),
        true,
    );
    check(
        json!({"service": [{"suffix": {"equals-ignore-case": "tBridge"}}]}),
        json!({"service": "eventBRIDGE"}),
        true,
    );
    check(json!({"n": [{"prefix": "1"}]}), json!({"n": 12}), false);
    check(json!({"n": [{"suffix": "2"}]}), json!({"n": 12}), false);
    check(json!({"s": [{"prefix": ""}]}), json!({"s": "any"}), true);
    check(json!({"s": [{"suffix": ""}]}), json!({"s": null}), false);
}

#[test]
fn equals_ignore_case() {
    let pattern = json!({"detail-type": [{"equals-ignore-case": "ec2 instance state-change notification"}]});
    check(pattern.clone(), json!({"detail-type": "EC2 Instance State-change Notification"}), true);
    check(pattern, json!({"detail-type": "EC2 Instance"}), false);
    check(json!({"name": [{"equals-ignore-case": "MÜLLER"}]}), json!({"name": "müller"}), true);
}

#[test]
fn wildcards() {
    check(json!({"FileName": [{"wildcard": "dir/*.png"}]}), json!({"FileName": "dir/a/b.png"}), true);
    check(json!({"FileName": [{"wildcard": "dir/*.png"}]}), json!({"FileName": "dir/b.jpg"}), false);
    let arn = json!({"EventBusArn": [{"wildcard": "arn:aws:events:us-east-1:*:event-bus/*"}]});
    check(arn.clone(), json!({"EventBusArn": "arn:aws:events:us-east-1:123:event-bus/default"}), true);
    check(arn, json!({"EventBusArn": "arn:aws:events:eu-west-1:123:event-bus/default"}), false);
    check(json!({"s": [{"wildcard": "a\\*b"}]}), json!({"s": "a*b"}), true);
    check(json!({"s": [{"wildcard": "*"}]}), json!({"s": 5}), false);
    check(json!({"s": [{"shellstyle": "Vm*Event"}]}), json!({"s": "VmPoweredOnEvent"}), true);
    check(json!({"s": [{"shellstyle": "a\\*"}]}), json!({"s": "a\\b"}), true);
}

#[test]
fn anything_but() {
    check(json!({"state": [{"anything-but": "initializing"}]}), json!({"state": "running"}), true);
    check(json!({"state": [{"anything-but": "initializing"}]}), json!({"state": "initializing"}), false);
    check(json!({"state": [{"anything-but": "initializing"}]}), json!({}), false);
    check(json!({"x-limit": [{"anything-but": 123}]}), json!({"x-limit": 123.0}), false);
    check(json!({"x-limit": [{"anything-but": 123}]}), json!({"x-limit": 124}), true);
    check(json!({"x-limit": [{"anything-but": 123}]}), json!({"x-limit": "123"}), true);
    check(
        json!({"state": [{"anything-but": ["stopped", "overloaded"]}]}),
        json!({"state": "overloaded"}),
        false,
    );
    check(json!({"state": [{"anything-but": ["stopped", "overloaded"]}]}), json!({"state": null}), true);
    check(json!({"x-limit": [{"anything-but": [100, 200, 300]}]}), json!({"x-limit": 200}), false);
    check(json!({"x": [{"anything-but": [100, "stopped"]}]}), json!({"x": "stopped"}), false);
    check(json!({"x": [{"anything-but": [100, "stopped"]}]}), json!({"x": 100}), false);
    check(json!({"x": [{"anything-but": [100, "stopped"]}]}), json!({"x": 101}), true);
    check(json!({"state": [{"anything-but": {"prefix": "init"}}]}), json!({"state": "initializing"}), false);
    check(
        json!({"state": [{"anything-but": {"prefix": ["init", "error"]}}]}),
        json!({"state": "error 5"}),
        false,
    );
    check(
        json!({"state": [{"anything-but": {"prefix": ["init", "error"]}}]}),
        json!({"state": "running"}),
        true,
    );
    check(json!({"state": [{"anything-but": {"prefix": "init"}}]}), json!({"state": 5}), true);
    check(json!({"FileName": [{"anything-but": {"suffix": ".txt"}}]}), json!({"FileName": "a.txt"}), false);
    check(
        json!({"FileName": [{"anything-but": {"suffix": [".txt", ".rtf"]}}]}),
        json!({"FileName": "a.png"}),
        true,
    );
    check(
        json!({"state": [{"anything-but": {"equals-ignore-case": "initializing"}}]}),
        json!({"state": "INITIALIZING"}),
        false,
    );
    check(
        json!({"state": [{"anything-but": {"equals-ignore-case": ["initializing", "stopped"]}}]}),
        json!({"state": "Stopped"}),
        false,
    );
    check(
        json!({"FilePath": [{"anything-but": {"wildcard": "*/lib/*"}}]}),
        json!({"FilePath": "/usr/lib/x"}),
        false,
    );
    check(
        json!({"FilePath": [{"anything-but": {"wildcard": ["*/lib/*", "*/bin/*"]}}]}),
        json!({"FilePath": "/etc/x"}),
        true,
    );
    // Any element of an array may differ.
    check(json!({"s": [{"anything-but": "a"}]}), json!({"s": ["a", "b"]}), true);
    check(json!({"s": [{"anything-but": "a"}]}), json!({"s": ["a", "a"]}), false);
}

#[test]
fn numeric() {
    let pattern = json!({"c-count": [{"numeric": [">", 0, "<=", 5]}], "d-count": [{"numeric": ["<", 10]}], "x-limit": [{"numeric": ["=", 3.018e2]}]});
    check(pattern.clone(), json!({"c-count": 5, "d-count": 3, "x-limit": 301.8}), true);
    check(pattern.clone(), json!({"c-count": 0, "d-count": 3, "x-limit": 301.8}), false);
    check(pattern.clone(), json!({"c-count": 1, "d-count": 10, "x-limit": 301.8}), false);
    check(pattern, json!({"c-count": 1, "d-count": 9, "x-limit": 301}), false);
    check(json!({"n": [{"numeric": [">=", -1.5]}]}), json!({"n": -1.5}), true);
    check(json!({"n": [{"numeric": [">", -1.5]}]}), json!({"n": -1.5}), false);
    check(json!({"n": [{"numeric": ["<", 5]}]}), json!({"n": "4"}), false);
    check(json!({"n": [{"numeric": [">", 9007199254740992i64]}]}), json!({"n": 9007199254740993i64}), true);
}

#[test]
fn cidr() {
    check(json!({"ip": [{"cidr": "10.0.0.0/24"}]}), json!({"ip": "10.0.0.33"}), true);
    check(json!({"ip": [{"cidr": "10.0.0.0/24"}]}), json!({"ip": "10.0.1.33"}), false);
    check(json!({"ip": [{"cidr": "10.0.0.0/24"}]}), json!({"ip": 10}), false);
}

#[test]
fn exists_looks_at_leaves() {
    check(json!({"c-count": [{"exists": true}]}), json!({"c-count": 5}), true);
    check(json!({"c-count": [{"exists": true}]}), json!({"c-count": null}), true);
    check(json!({"c-count": [{"exists": true}]}), json!({"state": 5}), false);
    check(json!({"c-count": [{"exists": false}]}), json!({"state": 5}), true);
    check(json!({"c-count": [{"exists": false}]}), json!({"c-count": 5}), false);
    // Not a leaf: does not exist.
    check(json!({"c-count": [{"exists": false}]}), json!({"c-count": {"c1": 100}}), true);
    check(json!({"c-count": [{"exists": true}]}), json!({"c-count": {"c1": 100}}), false);
    check(json!({"list": [{"exists": true}]}), json!({"list": []}), false);
    check(json!({"list": [{"exists": true}]}), json!({"list": [0]}), true);
    check(json!({"a": [{"exists": false}, "x"]}), json!({"a": "x"}), true);
    check(json!({"a": [{"exists": false}, "x"]}), json!({}), true);
    check(json!({"a": [{"exists": false}, "x"]}), json!({"a": "y"}), false);
    check(json!({"a": {"b": [{"exists": false}]}, "c": ["x"]}), json!({"c": "x"}), true);
}

#[test]
fn or() {
    let pattern = json!({"source": ["aws.cloudwatch"], "$or": [
        {"metricName": ["CPUUtilization", "ReadLatency"]},
        {"metricType": ["MetricType"], "namespace": ["AWS/EC2", "AWS/ES"], "$or": [{"metricId": [1234]}, {"spaceId": [1000]}]},
        {"scope": ["Service"]},
    ]});
    check(pattern.clone(), json!({"source": "aws.cloudwatch", "metricName": "ReadLatency"}), true);
    check(pattern.clone(), json!({"source": "aws.cloudwatch", "scope": "Service"}), true);
    check(
        pattern.clone(),
        json!({"source": "aws.cloudwatch", "metricType": "MetricType", "namespace": "AWS/ES", "spaceId": 1000}),
        true,
    );
    check(
        pattern.clone(),
        json!({"source": "aws.cloudwatch", "metricType": "MetricType", "namespace": "AWS/ES"}),
        false,
    );
    check(pattern.clone(), json!({"source": "aws.cloudwatch"}), false);
    check(pattern, json!({"source": "other", "scope": "Service"}), false);
    let parallel = json!({"$or": [{"a": ["x"]}, {"b": ["y"]}], "detail": {"$or": [{"c": ["z"]}, {"d": [{"numeric": ["<", 10]}]}]}});
    check(parallel.clone(), json!({"b": "y", "detail": {"d": 9}}), true);
    check(parallel, json!({"b": "y", "detail": {"d": 10}}), false);
    check(
        json!({"$or": [{"a": {"b": ["x"]}}, {"a": {"c": [{"exists": false}]}}]}),
        json!({"a": {"c": 1}}),
        false,
    );
}

#[test]
fn arrays_match_by_any_element_of_one_object() {
    check(json!({"resources": ["b", "c"]}), json!({"resources": ["a", "b"]}), true);
    check(json!({"resources": ["c"]}), json!({"resources": ["a", "b"]}), false);
    check(json!({"resources": ["a"]}), json!({"resources": [["x"], ["a"]]}), true);
    let employees = json!({"employees": [
        {"firstName": "John", "lastName": "Doe"}, {"firstName": "Anna", "lastName": "Smith"}, {"firstName": "Peter", "lastName": "Jones"}]});
    check(json!({"employees": {"firstName": ["Anna"]}}), employees.clone(), true);
    check(json!({"employees": {"firstName": ["Anna"], "lastName": ["Smith"]}}), employees.clone(), true);
    check(json!({"employees": {"firstName": ["Anna"], "lastName": ["Jones"]}}), employees.clone(), false);
    check(
        json!({"employees": {"firstName": ["Anna"], "title": [{"exists": false}]}}),
        employees.clone(),
        true,
    );
    check(json!({"employees": {"firstName": ["Anna"], "lastName": [{"exists": false}]}}), employees, false);
    // Three constraints, of which the outer two disagree.
    let spread = json!({"l": [{"a": 1}, {"c": 3}], "m": {"b": 2}});
    check(json!({"l": {"a": [1], "c": [3]}, "m": {"b": [2]}}), spread, false);
    let nested = json!({"l": [{"a": 1, "m": [{"b": 1}, {"b": 2}]}, {"a": 2, "m": [{"b": 3}]}]});
    check(json!({"l": {"a": [1], "m": {"b": [2]}}}), nested.clone(), true);
    check(json!({"l": {"a": [2], "m": {"b": [2]}}}), nested, false);
}

#[test]
fn names_with_dots_are_nested_names() {
    check(json!({"state.status": ["running"]}), json!({"state": {"status": "running"}}), true);
    check(json!({"state": {"status": ["running"]}}), json!({"state.status": "running"}), true);
}

#[test]
fn unicode_and_escapes() {
    let check_raw = |pattern: Json, data: &str, expected: bool| {
        let facts = Facts { data: data.as_bytes(), ..Facts::default() };
        assert_eq!(
            matches(Root::CloudEvent, &json!({ "data": pattern.clone() }), &facts),
            expected,
            "{pattern} on {data}"
        );
    };
    check_raw(json!({"m": ["<a & b>"]}), r#"{"m":"\u003ca \u0026 b\u003e"}"#, true);
    check_raw(json!({"m": [{"prefix": "😀"}]}), r#"{"m":"\ud83d\ude00!"}"#, true);
    check_raw(json!({"m": [{"suffix": "\"\\\n"}]}), r#"{"m":"x\"\\\n"}"#, true);
    check_raw(json!({"名前": [{"wildcard": "*本*"}]}), r#"{"名前":"日本語"}"#, true);
    check_raw(json!({"<k>": ["v"]}), r#"{"\u003ck\u003e":"v"}"#, true);
}

const EVENT: Facts<'static> = Facts {
    source: "https://vc1.example/sdk",
    kind: "com.vmware.event.router/event",
    subject: "VmPoweredOnEvent",
    id: "6c1f3c7e-0000-5000-8000-000000000001",
    time: "2026-11-22T00:06:52Z",
    datacontenttype: "application/json",
    extensions: &[("partitionkey", "VirtualMachine:vm-65"), ("sequence", "0000000005")],
    account: "",
    region: "",
    data: br#"{"Key":5,"UserName":"root","Vm":{"Name":"web-1","Vm":{"Type":"VirtualMachine","Value":"vm-65"}},"Net":null}"#,
};

#[test]
fn the_root_is_the_cloudevent() {
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
fn the_root_is_the_aws_event() {
    let check = |pattern: Json, facts: &Facts<'_>, expected: bool| {
        assert_eq!(matches(Root::AwsEvent, &pattern, facts), expected, "{pattern}");
    };
    let known = Facts { account: "123456789012", region: "eu-west-1", ..EVENT };
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
    // What only AWS knows is not held against the event.
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
fn a_pattern_that_cannot_be_read_matches_where_aws_decides() {
    let patterns =
        [(1, json!({"source": [{"from-the-future": 1}]})), (2, json!({"source": ["other"]})), (3, json!({}))];
    let (set, errors) = PatternSet::compile_what_can_be(Root::AwsEvent, &patterns);
    assert_eq!(errors.iter().map(|error| error.pattern).collect::<Vec<_>>(), [1, 3]);
    let mut out = Vec::new();
    Arc::new(set).matcher().matches(&EVENT, &mut out);
    assert_eq!(out, [1, 3]);
    let errors = PatternSet::compile(Root::AwsEvent, &patterns).unwrap_err();
    assert_eq!(errors.len(), 2);
}

#[test]
fn unreadable_data_matches_what_asks_for_it() {
    let patterns = [
        (1, json!({"data": {"a": ["x"]}})),
        (2, json!({"data": {"a": [{"prefix": "x"}]}, "subject": ["Other"]})),
        (3, json!({"subject": ["VmPoweredOnEvent"]})),
        (4, json!({"data": {"a": [{"wildcard": "*x"}]}})),
    ];
    let mut matcher = Arc::new(PatternSet::compile(Root::CloudEvent, &patterns).unwrap()).matcher();
    let mut out = Vec::new();
    for data in [&b"{\"a\":"[..], b"{\"a\":\"\xff\"}"] {
        matcher.matches(&Facts { data, ..EVENT }, &mut out);
        assert_eq!(out, [1, 3, 4]);
    }
    assert_eq!(matcher.undecided(), 2);
    matcher.matches(&EVENT, &mut out);
    assert_eq!(out, [3]);
    assert_eq!(matcher.undecided(), 2);
}

#[test]
fn a_set_tells_what_it_needs() {
    let needs = |pattern: Json| PatternSet::compile(Root::CloudEvent, &[(1, pattern)]).unwrap().needs();
    assert_eq!(needs(json!({"subject": ["x"], "source": [{"prefix": "y"}]})), Needs::default());
    assert!(needs(json!({"id": ["x"]})).id);
    assert!(needs(json!({"time": ["x"]})).time);
    assert!(needs(json!({"sequence": ["x"]})).extensions);
    assert!(needs(json!({"data": {"a": ["x"]}})).data);
}

#[test]
fn three_hundred_patterns_of_an_operator_on_one_field() {
    let operators: [(&str, fn(u32) -> Json); 8] = [
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
        for value in [json!("x7"), json!("y"), json!(150), json!(null), json!(["x1", 7])] {
            let data = json!({ "f": value }).to_string();
            let facts = Facts { data: data.as_bytes(), ..EVENT };
            let mut out = Vec::new();
            matcher.matches(&facts, &mut out);
            let expected: Vec<_> = patterns
                .iter()
                .filter(|(_, pattern)| matches(Root::CloudEvent, pattern, &facts))
                .map(|(id, _)| *id)
                .collect();
            assert_eq!(out, expected, "{name} on {data}");
        }
    }
}

#[test]
fn a_huge_set_is_compiled_and_matched() {
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
    let facts = Facts {
        subject: "Subject40000",
        source: "s3",
        data: br#"{"Key":40001,"Vm":{"Name":"vm-40002"}}"#,
        ..EVENT
    };
    matcher.matches(&facts, &mut out);
    assert_eq!(out, [3, 40_000, 40_001, 40_002]);
    matcher.matches(&Facts { data: br#"{"Vm":{"Name":"49999-x"}}"#, ..facts }, &mut out);
    assert_eq!(out, [3, 40_000, 49_999]);
}

#[test]
fn classes_are_forgotten_when_there_are_too_many() {
    let patterns: Vec<_> = (0..3).map(|i| (i, json!({"subject": [{"suffix": format!("{i}")}]}))).collect();
    let mut matcher = Arc::new(PatternSet::compile(Root::CloudEvent, &patterns).unwrap()).matcher();
    let mut out = Vec::new();
    for round in 0..2 {
        for event in 0..limits::CLASSES_MAX + 100 {
            let subject = format!("Subject{event}");
            matcher.matches(&Facts { subject: &subject, ..EVENT }, &mut out);
            let last = (event % 10) as u32;
            assert_eq!(out, if last < 3 { vec![last] } else { vec![] }, "{round}: {subject}");
        }
    }
    assert!(matcher.classes() <= limits::CLASSES_MAX);
}

#[test]
fn sets_cross_threads() {
    fn crosses<T: Send + Sync>() {}
    fn moves<T: Send>() {}
    crosses::<PatternSet>();
    moves::<Matcher>();
}

#[test]
fn adversarial_arrays_end() {
    // Every pair of elements disagrees in the third path: without a bound, 300^3 tries.
    let elements: Vec<Json> = (0..300).map(|i| json!({ (["a", "b", "c"][i % 3]): "x" })).collect();
    let data = json!({ "l": elements }).to_string();
    let pattern = json!({"data": {"l": {"a": ["x"], "b": ["x"], "c": ["x"]}}});
    assert!(!matches(Root::CloudEvent, &pattern, &Facts { data: data.as_bytes(), ..EVENT }));
}

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

proptest! {

    /// On what quamina takes it finds what the direct evaluator finds.
    #[test]
    fn quamina_and_the_direct_evaluator_agree(patterns in prop::collection::vec(data_pattern(false), 1..6), data in data()) {
        let patterns: Vec<_> = patterns.into_iter().enumerate().map(|(id, pattern)| (id as PatternId, json!({"data": pattern}))).collect();
        let set = PatternSet::compile(Root::CloudEvent, &patterns).unwrap();
        let ids: Vec<_> = (0..set.alternatives.len() as AlternativeId).filter(|&id| Shard::takes(&set.alternatives[id as usize].data)).collect();
        let (shard, taken) = Shard::build(&ids, &set.alternatives);
        prop_assert_eq!(taken, ids.len());
        prop_assert_eq!(shard.alternatives(), &ids[..]);
        let text = data.to_string();
        let mut fields = Fields::default();
        fields.read(&text, &set.paths).unwrap();
        let mut found = Vec::new();
        prop_assert!(shard.matches(&text, &fields, &mut Vec::new(), &mut found));
        found.sort_unstable();
        found.dedup();
        let facts = Facts { data: text.as_bytes(), ..EVENT };
        let mut direct = Data::default();
        let expected: Vec<_> = ids.into_iter().filter(|&id| direct.holds(&set.alternatives[id as usize], &facts, &set)).collect();
        prop_assert_eq!(found, expected);
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
        let mut out = Vec::new();
        for (data, subject, source) in &events {
            let data = data.to_string();
            let facts = Facts { data: data.as_bytes(), subject, source, ..EVENT };
            together.matches(&facts, &mut out);
            let expected: Vec<_> = patterns.iter().filter(|(_, pattern)| matches(Root::CloudEvent, pattern, &facts)).map(|(id, _)| *id).collect();
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
