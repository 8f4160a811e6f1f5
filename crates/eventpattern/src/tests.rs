//! The operators by AWS's examples, roots, sets of many patterns, and bounds.

mod agree;
mod faults;

use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::*;

fn matches(root: Root, pattern: &Json, facts: &Facts<'_>) -> bool {
    let set = PatternSet::compile(root, &[(7, pattern.clone())])
        .unwrap_or_else(|errors| panic!("{pattern}: {errors:?}"));
    let mut out = vec![99];
    Arc::new(set).matcher().matches(facts, &mut out);
    assert!(out.is_empty() || out == [7], "{out:?}");
    !out.is_empty()
}

/// A matcher for each pattern alone.
struct Alone(Vec<(PatternId, Matcher)>);

impl Alone {
    fn new(patterns: &[(PatternId, Json)]) -> Self {
        let matcher = |pattern: &(PatternId, Json)| {
            Arc::new(PatternSet::compile(Root::CloudEvent, std::slice::from_ref(pattern)).unwrap()).matcher()
        };
        Alone(patterns.iter().map(|pattern| (pattern.0, matcher(pattern))).collect())
    }

    /// The patterns that match `facts`.
    fn matches(&mut self, facts: &Facts<'_>) -> Vec<PatternId> {
        let mut out = Vec::new();
        let mut matches = |matcher: &mut Matcher| {
            matcher.matches(facts, &mut out);
            !out.is_empty()
        };
        self.0.iter_mut().filter_map(|(id, matcher)| matches(matcher).then_some(*id)).collect()
    }
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
        let mut alone = Alone::new(&patterns);
        for value in [json!("x7"), json!("y"), json!(150), json!(null), json!(["x1", 7])] {
            let data = json!({ "f": value }).to_string();
            let facts = Facts { data: data.as_bytes(), ..EVENT };
            let mut out = Vec::new();
            matcher.matches(&facts, &mut out);
            let expected = alone.matches(&facts);
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
fn tangled_arrays_end() {
    let matches = |pattern: Json, data: Json| {
        let data = data.to_string();
        let mut matcher =
            Arc::new(PatternSet::compile(Root::CloudEvent, &[(1, json!({ "data": pattern }))]).unwrap())
                .matcher();
        let mut out = Vec::new();
        matcher.matches(&Facts { data: data.as_bytes(), ..EVENT }, &mut out);
        (out.len(), matcher.undecided())
    };
    let many = |name: &str, value: &str, count: usize| -> Vec<Json> {
        (0..count).map(|_| json!({ name: value })).collect()
    };
    // No element has both `a` and `c`, which shows only after every `b`: 500 * 1,000 * 500 tries, too many. In doubt it matches, and says so.
    let elements = [many("a", "x", 500), many("c", "x", 500)].concat();
    let tangle = json!({"k": many("b", "x", 1_000), "l": elements});
    assert_eq!(matches(json!({"l": {"a": ["x"], "c": ["x"]}, "k": {"b": ["x"]}}), tangle.clone()), (1, 1));
    // What one constraint alone rules out needs no combinations.
    assert_eq!(matches(json!({"l": {"a": ["x"], "c": ["y"]}, "k": {"b": ["x"]}}), tangle.clone()), (0, 0));
    assert_eq!(matches(json!({"l": {"a": ["x"]}, "k": {"b": ["x"]}}), tangle), (1, 0));
}
