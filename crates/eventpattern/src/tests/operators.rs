//! Operators, by the examples of the AWS documentation.

use serde_json::{Value as Json, json};

use super::matches;
use crate::{Event, Root};

/// Checks the result of `pattern` on the document `data`, for both roots.
#[track_caller]
fn check(pattern: Json, data: Json, expected: bool) {
    let text = data.to_string();
    let event = Event { data: text.as_bytes(), ..Event::default() };
    assert_eq!(matches(Root::Data, &pattern, &event), expected, "{pattern} on {data}");
    let nested = json!({ "data": pattern.clone() });
    assert_eq!(matches(Root::CloudEvent, &nested, &event), expected, "{nested} on {data}");
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
    // An IPv6 address matches in every spelling, other strings only as they are written.
    check(json!({"ip": ["2001:db8::1"]}), json!({"ip": "2001:0DB8:0:0:0:0:0:1"}), true);
    check(json!({"ip": ["10.0.0.1"]}), json!({"ip": "10.0.0.1"}), true);
}

#[test]
fn all_fields_must_match() {
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
fn exists_considers_leaves_only() {
    check(json!({"c-count": [{"exists": true}]}), json!({"c-count": 5}), true);
    check(json!({"c-count": [{"exists": true}]}), json!({"c-count": null}), true);
    check(json!({"c-count": [{"exists": true}]}), json!({"state": 5}), false);
    check(json!({"c-count": [{"exists": false}]}), json!({"state": 5}), true);
    check(json!({"c-count": [{"exists": false}]}), json!({"c-count": 5}), false);
    // An object is not a leaf, so it does not exist.
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
fn constraints_on_array_elements_need_one_element() {
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
    // The first and the last of three constraints need different elements.
    let spread = json!({"l": [{"a": 1}, {"c": 3}], "m": {"b": 2}});
    check(json!({"l": {"a": [1], "c": [3]}, "m": {"b": [2]}}), spread, false);
    let nested = json!({"l": [{"a": 1, "m": [{"b": 1}, {"b": 2}]}, {"a": 2, "m": [{"b": 3}]}]});
    check(json!({"l": {"a": [1], "m": {"b": [2]}}}), nested.clone(), true);
    check(json!({"l": {"a": [2], "m": {"b": [2]}}}), nested, false);
}

#[test]
fn names_with_dots_equal_nested_names() {
    check(json!({"state.status": ["running"]}), json!({"state": {"status": "running"}}), true);
    check(json!({"state": {"status": ["running"]}}), json!({"state.status": "running"}), true);
}

/// Conditions on other types and near misses, which an index may propose but the evaluator rejects.
#[test]
fn near_misses_do_not_match() {
    check(json!({"a": [{"numeric": ["<", 0]}]}), json!({"a": false}), false);
    check(json!({"a": [{"prefix": "\""}]}), json!({"a": ""}), false);
    check(json!({"a": [{"suffix": "\""}]}), json!({"a": ""}), false);
    check(json!({"a": [{"prefix": "ab"}]}), json!({"a": "AB"}), false);
    check(json!({"a": ["ab", {"suffix": "b"}]}), json!({"a": "aB"}), false);
    check(json!({"a": [9007199254740993i64]}), json!({"a": 9007199254740992i64}), false);
    check(json!({"a": [{"numeric": [">", 9007199254740992i64]}]}), json!({"a": 9007199254740992i64}), false);
    check(json!({"a": [{"anything-but": [9007199254740993i64]}]}), json!({"a": 9007199254740992i64}), true);
}

#[test]
fn unicode_and_escapes() {
    let check_raw = |pattern: Json, data: &str, expected: bool| {
        let event = Event { data: data.as_bytes(), ..Event::default() };
        assert_eq!(
            matches(Root::CloudEvent, &json!({ "data": pattern.clone() }), &event),
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
