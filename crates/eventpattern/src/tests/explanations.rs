//! The reasons for which a pattern does not match.

use serde_json::{Value as Json, json};

use super::EVENT;
use crate::{Event, Explanation, Root, explain};

fn explained(root: Root, pattern: &Json, event: &Event<'_>) -> Vec<String> {
    match explain(root, pattern, event).unwrap_or_else(|errors| panic!("{pattern}: {errors:?}")) {
        Explanation::Matches => vec!["matches".into()],
        Explanation::Undecided => vec!["undecided".into()],
        Explanation::Refused(reasons) => reasons.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn the_first_member_that_the_event_does_not_meet_is_named() {
    let check = |pattern: Json, expected: &[&str]| {
        assert_eq!(explained(Root::CloudEvent, &pattern, &EVENT), expected, "{pattern}");
    };
    check(json!({"subject": ["VmPoweredOnEvent"]}), &["matches"]);
    check(
        json!({"subject": ["VmPoweredOffEvent", {"prefix": "Host"}], "data": {"Key": [5]}}),
        &[r#"`$.subject` allows ["VmPoweredOffEvent",{"prefix":"Host"}]; the event has "VmPoweredOnEvent""#],
    );
    check(
        json!({"data": {"Vm": {"Name": [{"prefix": "db-"}]}}}),
        &[r#"`$.data.Vm.Name` allows [{"prefix":"db-"}]; the event has "web-1""#],
    );
    check(json!({"data": {"Key": [6]}}), &["`$.data.Key` allows [6]; the event has 5"]);
    check(json!({"data": {"Net": ["x"]}}), &[r#"`$.data.Net` allows ["x"]; the event has null"#]);
    check(
        json!({"data": {"Vmm": {"Name": ["x"]}}}),
        &[r#"`$.data.Vmm.Name` allows ["x"]; the event has no value there"#],
    );
    check(
        json!({"severitynumber": [{"numeric": [">", 13]}]}),
        &[r#"`$.severitynumber` allows [{"numeric":[">",13]}]; the event has 13"#],
    );
    check(json!({"replayed": [false]}), &["`$.replayed` allows [false]; the event has true"]);
    check(
        json!({"eventclass": ["event"]}),
        &[r#"`$.eventclass` allows ["event"]; the event has no value there"#],
    );
    check(
        json!({"data": {"Vm": [{"exists": true}]}}),
        &[r#"`$.data.Vm` allows [{"exists":true}]; the event has no value there"#],
    );
}

#[test]
fn each_branch_of_an_or_has_its_reason() {
    let pattern = json!({
        "data": {"Key": [5]},
        "$or": [{"subject": ["A"]}, {"data": {"UserName": ["bob"]}}],
    });
    assert_eq!(
        explained(Root::CloudEvent, &pattern, &EVENT),
        [
            r#"`$.$or[0].subject` allows ["A"]; the event has "VmPoweredOnEvent""#,
            r#"`$.$or[1].data.UserName` allows ["bob"]; the event has "root""#,
        ]
    );
    // A member outside of the branches is named once.
    let pattern = json!({"$or": [{"subject": ["A"]}, {"subject": ["B"]}], "$and": ["x"]});
    let reasons = explained(Root::CloudEvent, &pattern, &EVENT);
    assert!(!reasons.is_empty() && reasons.len() <= 2, "{reasons:?}");
    let pattern = json!({"source": ["x"], "subjects": [{"exists": false}], "$or": [{"time": [{"exists": true}]}, {"id": [{"exists": true}]}]});
    let reasons = explained(Root::CloudEvent, &pattern, &EVENT);
    assert_eq!(reasons, [r#"`$.source` allows ["x"]; the event has "https://vc1.example/sdk""#]);
}

#[test]
fn values_in_different_elements_of_an_array_are_explained() {
    let event = Event { data: br#"{"l": [{"a": 1, "b": 2}, {"a": 3, "b": 4}]}"#, ..EVENT };
    let pattern = json!({"data": {"l": {"a": [1], "b": [4]}}});
    assert_eq!(
        explained(Root::CloudEvent, &pattern, &event),
        ["no single element of an array meets all of `$.data.l.a`, `$.data.l.b`"]
    );
}

#[test]
fn the_values_in_an_explanation_are_bounded() {
    let data = json!({"l": (0..9).collect::<Vec<_>>()}).to_string();
    let event = Event { data: data.as_bytes(), ..EVENT };
    assert_eq!(
        explained(Root::CloudEvent, &json!({"data": {"l": [10]}}), &event),
        ["`$.data.l` allows [10]; the event has 0, 1, 2, 3, 4 and 4 more"]
    );
}

#[test]
fn undecided_patterns_and_errors_are_told() {
    let event = Event { data: b"{\"a\":", ..EVENT };
    assert_eq!(explained(Root::CloudEvent, &json!({"data": {"a": ["x"]}}), &event), ["undecided"]);
    let pattern = json!({"data": {"a": ["x"]}, "subject": ["Other"]});
    assert_eq!(
        explained(Root::CloudEvent, &pattern, &event),
        [r#"`$.subject` allows ["Other"]; the event has "VmPoweredOnEvent""#]
    );
    let errors = explain(Root::CloudEvent, &json!({"source": [{"prefx": "x"}]}), &EVENT);
    assert!(errors.is_err_and(|errors| errors[0].to_string().contains("prefx")));
}

#[test]
fn attributes_that_only_aws_knows_count_as_met() {
    let reasons =
        explained(Root::AwsEvent, &json!({"account": ["1"], "id": ["x"], "source": ["aws.ec2"]}), &EVENT);
    assert_eq!(reasons, [r#"`$.source` allows ["aws.ec2"]; the event has "https://vc1.example/sdk""#]);
}
