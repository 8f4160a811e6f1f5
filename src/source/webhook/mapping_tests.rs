//! Tests of mappings.

use serde_json::{Value as Json, json};

use super::*;
use crate::cloudevents::{Envelope, EnvelopeOptions};
use crate::config::declare::defaults;
use crate::event::testing::source;

const EVENTS_MAX: usize = 3;

fn mapping(kind: &str) -> Mapping {
    Mapping { kind: kind.into(), id: "{{ hash }}".into(), ..defaults() }
}

fn batch() -> Batch {
    Batch::new(source(), 0, Vec::new(), Vec::new())
}

fn mapped(mapping: &Mapping, body: &str) -> Result<Vec<Json>, String> {
    let mut headers = HeaderMap::new();
    headers.insert("x-event", "push".parse().unwrap());
    headers.insert("authorization", "Bearer s".parse().unwrap());
    let mapper = Mapper::new(mapping, "/webhooks/hooks")?;
    let mut batch = batch();
    mapper
        .map(body.as_bytes(), &headers, EVENTS_MAX, &mut |_| true, &mut batch)
        .map_err(|error| error.to_string())?;
    let envelope = Envelope::new(EnvelopeOptions::default()).unwrap();
    let rendering = envelope.open(&batch);
    let one = |i: usize| {
        let mut body = Vec::new();
        rendering.structured(i, &mut body);
        serde_json::from_slice(&body).unwrap()
    };
    Ok((0..batch.records.len()).map(one).collect())
}

#[test]
fn templates_give_the_attributes() {
    let mapping = Mapping {
        source: Some("/{{ body.host }}".into()),
        subject: Some("{{ body.repo.name }}/{{ body.none.at.all }}".into()),
        time: Some("{{ body.at | rfc3339 }}".into()),
        id: "{{ body.id }}".into(),
        ..mapping("com.example.{{ headers['x-event'] }}{{ headers.authorization }}")
    };
    let body =
        r#"{"host": "h", "id": 7, "repo": {"name": "r"}, "at": 1586922308, "big": 123456789012345678901}"#;
    let event = mapped(&mapping, body).unwrap().remove(0);
    let expected = json!({
        "specversion": "1.0", "id": "7", "source": "/h", "type": "com.example.push", "subject": "r/",
        "time": "2020-04-15T03:45:08Z", "data": serde_json::from_str::<Json>(body).unwrap(),
    });
    assert_eq!(event, expected);
}

#[test]
fn the_same_body_gives_the_same_id() {
    let one = mapped(&mapping("t"), "{}").unwrap().remove(0);
    let again = mapped(&mapping("t"), "{}").unwrap().remove(0);
    let other = mapped(&mapping("t"), "{ }").unwrap().remove(0);
    assert_eq!(one["id"], again["id"]);
    assert_ne!(one["id"], other["id"]);
    assert_eq!(one["source"], "/webhooks/hooks");
}

/// The ids differ in digits that a float does not have.
#[test]
fn long_integers_give_different_ids() {
    let mapping = Mapping {
        id: "{{ item.seq }}".into(),
        split: Some("body".into()),
        data: Some("[item.seq]".into()),
        ..mapping("t")
    };
    let events =
        mapped(&mapping, r#"[{"seq": 18446744073709551617}, {"seq": 18446744073709551618}]"#).unwrap();
    assert_eq!(events[0]["id"], "18446744073709551617");
    assert_eq!(events[1]["id"], "18446744073709551618");
    assert_eq!(events[0]["data"], serde_json::from_str::<Json>("[18446744073709551617]").unwrap());
}

#[test]
fn each_element_of_a_list_becomes_an_event() {
    let mapping = Mapping {
        split: Some("body.alerts".into()),
        data: Some("dict(item, receiver=body.receiver)".into()),
        subject: Some("{{ item.name }}".into()),
        ..mapping("alert.{{ item.status }}")
    };
    let body = r#"{"receiver": "r", "alerts": [{"name": "a", "status": "firing"}, {"name": "b", "status": "resolved"}]}"#;
    let events = mapped(&mapping, body).unwrap();
    assert_eq!(events.len(), 2);
    assert_eq!(events[1]["type"], "alert.resolved");
    assert_eq!(events[1]["subject"], "b");
    assert_eq!(events[1]["data"], json!({"name": "b", "status": "resolved", "receiver": "r"}));
    assert_ne!(events[0]["id"], events[1]["id"]);
    let whole = Mapping { data: None, ..mapping.clone() };
    assert_eq!(mapped(&whole, body).unwrap()[0]["data"], json!({"name": "a", "status": "firing"}));
    let receiver = "r".repeat(100_000);
    let body = json!({"receiver": receiver, "alerts": [{}, {}, {}]}).to_string();
    let thrice = Mapping {
        data: Some("[item, body.receiver, body.receiver, body.receiver, body.receiver]".into()),
        ..mapping.clone()
    };
    let error = mapped(&thrice, &body).unwrap_err();
    assert!(error.contains("copy less of the body"), "{error}");
    assert_eq!(mapped(&mapping, &body).unwrap().len(), 3);
    let error = mapped(&mapping, r#"{"alerts": [{}, {}, {}, {}]}"#).unwrap_err();
    assert!(error.contains("more than 3 events"), "{error}");
    assert_eq!(mapped(&mapping, r#"{"alerts": 3}"#).unwrap_err(), "`mapping.split` gives no list");
}

/// A small body must not become a large batch.
#[test]
fn the_events_of_a_request_are_bounded_together() {
    let check = |mapping: Mapping, body: &str, part: &str| {
        let mapper = Mapper::new(&mapping, "/webhooks/hooks").unwrap();
        let error = mapper.map(body.as_bytes(), &HeaderMap::new(), 1_000, &mut |_| true, &mut batch());
        let error = error.unwrap_err().to_string();
        assert!(error.contains(part), "{mapping:?}: {error}");
    };
    let list = format!("[{}]", ["0"; 1_000].join(","));
    let split = |mapping: Mapping| Mapping { split: Some("body".into()), ..mapping };
    let busy = "{% for n in range(1500) %}{% endfor %}t";
    check(split(mapping(busy)), &list, "the templates of the request take too many instructions");
    check(split(mapping(&"t".repeat(8_000))), &list, "copy less of the body");
    let long = Mapping { data: Some("[body] * 60".into()), ..mapping("t") };
    check(long, &format!("[{}]", ["0"; 100_000].join(",")), "copy less of the body");
}

/// The body of a thousand events.
#[test]
fn a_request_has_fuel_for_all_of_its_events() {
    let mapping = Mapping {
        split: Some("body.alerts".into()),
        id: "{{ item.id }}-{{ item.at | rfc3339 }}".into(),
        subject: Some("{{ item.labels.host }}/{{ item.labels.name | lower }}".into()),
        time: Some("{{ item.at | rfc3339 }}".into()),
        data: Some("dict(item, receiver=body.receiver)".into()),
        ..mapping("alert.{% if item.status == 'firing' %}firing{% else %}resolved{% endif %}")
    };
    let alert = json!({"id": 7, "at": 1586922308, "status": "firing", "labels": {"host": "h", "name": "N"}});
    let body = json!({"receiver": "r", "alerts": vec![alert; 1_000]}).to_string();
    let mapper = Mapper::new(&mapping, "/webhooks/hooks").unwrap();
    let mut batch = batch();
    mapper.map(body.as_bytes(), &HeaderMap::new(), 1_000, &mut |_| true, &mut batch).unwrap();
    assert_eq!(batch.records.len(), 1_000);
}

#[test]
fn a_body_of_another_form_is_refused() {
    let check = |template: &str, body: &str, part: &str| {
        let error = mapped(&mapping(template), body).unwrap_err();
        assert!(error.contains(part), "{template}: {error}");
    };
    check("{{ body.type }}", "{}", "`mapping.type` gives an empty text");
    check("t", "{", "the body is not valid JSON");
    check("{{ body.a + 1 }}", r#"{"a": "x"}"#, "`mapping.type`: ");
    check("{{ body.a }}", r#"{"a": "x\ny"}"#, "control characters");
    check("{% for n in range(99999) %}{{ n }}{% endfor %}", "{}", "`mapping.type`: ");
    check("{% for n in range(9000) %}x{% endfor %}", "{}", "`mapping.type`: ");
    check("{{ 'x' | rfc3339 }}", "{}", "`rfc3339` needs");
}

#[test]
fn a_wrong_time_does_not_lose_the_event() {
    let mapping = Mapping { time: Some("{{ body.at }}".into()), ..mapping("t") };
    assert_eq!(mapped(&mapping, r#"{"at": "yesterday"}"#).unwrap()[0]["time"], "1970-01-01T00:00:00Z");
    let mapping = Mapping { time: Some("{{ body.at | rfc3339 }}".into()), ..mapping };
    assert_eq!(mapped(&mapping, r#"{"at": "yesterday"}"#).unwrap()[0]["time"], "1970-01-01T00:00:00Z");
}

#[test]
fn mistakes_in_a_configuration_are_found() {
    let check = |format: &TextFormat, text: &str, part: &str| match ((format.check)(text), part) {
        (Ok(_), "") => {}
        (Err(message), part) if !part.is_empty() && message.contains(part) => {}
        (result, _) => panic!("{text}: {result:?}"),
    };
    check(&TEMPLATE, "a.{{ body.type | lower }}", "");
    check(&TEMPLATE, "plain", "");
    check(&TEMPLATE, "{% for n in item.list %}{{ n }}{% endfor %}", "");
    check(&TEMPLATE, "{{ body.type", "syntax error");
    check(&TEMPLATE, "{{ event.type }}", "unknown variable `event`");
    check(&TEMPLATE, "{{ body | no_such_filter }}", "no_such_filter");
    check(&EXPRESSION, "body.alerts", "");
    check(&EXPRESSION, "{{ body }}", "syntax error");
    check(&EXPRESSION, "alerts", "unknown variable `alerts`");
}

#[test]
fn times_of_other_forms_become_rfc_3339() {
    let check = |value: Value, expected: &str| assert_eq!(rfc3339(value).unwrap(), expected);
    check(Value::from(1_586_922_308), "2020-04-15T03:45:08Z");
    check(Value::from(1_586_922_308_500_i64), "2020-04-15T03:45:08.5Z");
    check(Value::from(0.25), "1970-01-01T00:00:00.25Z");
    check(Value::from("1586922308"), "2020-04-15T03:45:08Z");
    check(Value::from("2020-04-15T05:45:08+02:00"), "2020-04-15T03:45:08Z");
    check(Value::UNDEFINED, "");
    assert!(rfc3339(Value::from("NaN")).is_err());
}
