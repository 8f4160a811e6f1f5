//! The processor `http`: the requests of the examples, rendered from recorded events, and the fate
//! of events that cannot be rendered or are refused.

use std::path::Path;
use std::sync::Arc;

use event_router::app;
use event_router::event::{Batch, Selection, SourceInfo};
use event_router::pipeline::parse::{Content, Parse};
use event_router::processor::http::Http;
use event_router::processor::http::settings::{HttpConfig, HttpMethod, TemplateSecrets};
use event_router::processor::{Blame, DeliveryOutcome, Processor};
use event_router::settings::{Auth, Secret, TargetUrl, load_str_with};
use event_router::source::{Page, PageForm, Wire};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::common::golden::golden;
use crate::processors_support::{
    Act, Seen, Target, answer, batch, check_failure, envelope, one, patient, request, whole,
};

/// The recorded events, one of each class.
fn recorded() -> Arc<Batch> {
    let info = SourceInfo {
        index: 0,
        name: "vc1".into(),
        url: "https://vc1.example/sdk".into(),
        instance_uuid: Uuid::from_u128(7),
        api_version: "8.0.3.0".into(),
    };
    let page = Page {
        source: Arc::new(info),
        number: 0,
        reading: None,
        produced_us: 1_796_080_305_000_000,
        form: PageForm::Vsphere(Wire::Soap),
        body: std::fs::read(golden().join("events_full.xml")).unwrap().into(),
        poison: None,
        permit: Default::default(),
        verdicts: mpsc::unbounded_channel().0,
    };
    match (Parse { keep_sent: true }).step(page).0.content {
        Content::Events(batch) => Arc::new(batch),
        _ => panic!("the recorded page cannot be decoded"),
    }
}

/// The index and the data of the recorded event of a class.
fn find(batch: &Batch, class: &str) -> (usize, Value) {
    let at = batch.records.iter().position(|record| batch.text(record.subject) == class).expect(class);
    (at, serde_json::from_slice(batch.bytes(batch.records[at].data)).unwrap())
}

/// A processor of an example, with `origin` replaced by a target.
fn of_example(example: &str, name: &str, origin: &str, target: &Target) -> Arc<dyn Processor> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains(origin), "{example} does not name {origin}");
    let text = text.replace(origin, &target.url(""));
    let env = |variable: &str| Some(format!("the-{variable}"));
    let (config, warnings) = load_str_with(&text, &path, &env).unwrap_or_else(|errors| panic!("{errors}"));
    assert!(warnings.is_empty(), "{warnings:?}");
    let processor = config.processors.iter().find(|processor| processor.name == name).expect(name);
    app::build(processor).unwrap()
}

/// The request of an example's processor for the recorded event of a class, with the event's data
/// and id.
async fn sent(example: &str, name: &str, origin: &str, class: &str) -> (Seen, Value, String) {
    let target = Target::start(vec![answer("202 Accepted", "", "{}")]).await;
    let processor = of_example(example, name, origin, &target);
    let batch = recorded();
    let (at, data) = find(&batch, class);
    let outcome = processor.deliver(&request(&batch, Selection::one(at), "")).await;
    assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
    let mut seen = target.seen();
    assert_eq!(seen.len(), 1);
    (seen.remove(0), data, batch.records[at].id.to_string())
}

fn body(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&seen.body)))
}

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

#[tokio::test]
async fn the_chat_example_sends_an_alarm() {
    let (seen, data, _) =
        sent("chat-webhook.yaml", "chat", "https://chat.example", "AlarmStatusChangedEvent").await;
    assert_eq!(seen.line(), "POST /hooks/the-CHAT_TOKEN HTTP/1.1");
    assert_eq!(seen.header("content-type"), Some("application/json"));
    let text = |pointer| text(&data, pointer);
    let message = format!(
        ":large_yellow_circle: *{}* on {} is {}, was {}",
        text("/Alarm/Name"),
        text("/Entity/Name"),
        text("/To"),
        text("/From")
    );
    let field = |title: &str, value: &str| json!({"title": title, "value": value, "short": true});
    let expected = json!({
        "text": message,
        "attachments": [{
            "color": "warning",
            "fallback": text("/FullFormattedMessage"),
            "fields": [
                field("vCenter", "https://vc1.example/sdk"),
                field("Datacenter", text("/Datacenter/Name")),
                field("Time", text("/CreatedTime")),
            ],
        }],
    });
    assert_eq!(body(&seen), expected);
}

#[tokio::test]
async fn the_ticket_example_opens_an_incident() {
    let (seen, data, id) =
        sent("ticket-system.yaml", "tickets", "https://tickets.example", "HostDisconnectedEvent").await;
    assert_eq!(seen.line(), "POST /api/now/table/incident?sysparm_fields=number HTTP/1.1");
    assert_eq!(seen.header("x-correlation-id"), Some(&*id));
    assert_eq!(seen.header("accept"), Some("application/json"));
    assert!(seen.header("authorization").is_some_and(|value| value.starts_with("Basic ")), "{seen:?}");
    let expected = json!({
        "correlation_id": id,
        "correlation_display": "vCenter https://vc1.example/sdk",
        "short_description": format!("HostDisconnectedEvent on {}", text(&data, "/Host/Name")),
        "description": text(&data, "/FullFormattedMessage"),
        "urgency": "1",
        "impact": "2",
        "work_notes": format!("Event {} at {}", data["Key"], text(&data, "/CreatedTime")),
    });
    assert_eq!(body(&seen), expected);
}

#[tokio::test]
async fn the_automation_examples_pass_the_event_on() {
    let example = "automation-webhook.yaml";
    let (seen, data, id) = sent(example, "ansible", "https://eda.example", "VmRegisteredEvent").await;
    assert_eq!(seen.line(), "POST /endpoint HTTP/1.1");
    assert_eq!(seen.header("authorization"), Some("Bearer the-EDA_TOKEN"));
    let about = json!({"id": id, "kind": "VmRegisteredEvent", "vcenter": "https://vc1.example/sdk", "time": data["CreatedTime"]});
    assert_eq!(body(&seen), json!({"event": about, "data": data}));
    // The order of the members is vCenter's.
    let sent_text = String::from_utf8(seen.body).unwrap();
    assert!(sent_text.find("\"Key\"") < sent_text.find("\"CreatedTime\""), "{sent_text}");

    let (seen, data, _) = sent(example, "orchestrator", "https://vro.example", "VmRegisteredEvent").await;
    assert_eq!(
        seen.line(),
        "POST /vco/api/workflows/8f1c2a44-0d37-4f0e-9b1b-5f0f3a1f7e11/executions HTTP/1.1"
    );
    let parameter = |name: &str, pointer| json!({"name": name, "type": "string", "value": {"string": {"value": text(&data, pointer)}}});
    let parameters =
        [parameter("vm", "/Vm/Vm/Value"), parameter("name", "/Vm/Name"), parameter("user", "/UserName")];
    assert_eq!(body(&seen), json!({"parameters": parameters}));
}

#[tokio::test]
async fn the_alerting_example_has_a_key_against_duplicates() {
    let class = "AlarmStatusChangedEvent";
    let (seen, data, id) = sent("alerting.yaml", "alerts", "https://events.pagerduty.example", class).await;
    assert_eq!(seen.line(), "POST /v2/enqueue HTTP/1.1");
    let text = |pointer| text(&data, pointer);
    let key =
        format!("https://vc1.example/sdk/{}/{}", text("/Entity/Entity/Value"), text("/Alarm/Alarm/Value"));
    let expected = json!({
        "routing_key": "the-PAGERDUTY_KEY",
        "event_action": "trigger",
        "dedup_key": key,
        "payload": {
            "summary": format!("{} on {}", text("/Alarm/Name"), text("/Entity/Name")),
            "source": text("/Entity/Name"),
            "severity": "info",
            "timestamp": text("/CreatedTime"),
            "group": text("/Datacenter/Name"),
            "custom_details": {"message": text("/FullFormattedMessage"), "from": text("/From"), "event": id},
        },
        "client": "vCenter Event Router",
    });
    assert_eq!(body(&seen), expected);
}

/// A processor that sends to `url`.
fn processor(url: &str, change: impl FnOnce(&mut HttpConfig)) -> Http {
    let mut settings = HttpConfig { http: patient(), ..HttpConfig::new(url) };
    change(&mut settings);
    Http::new(&settings, envelope()).unwrap()
}

#[tokio::test]
async fn method_path_and_headers_are_rendered() {
    let target = Target::start(vec![answer("200 OK", "", "")]).await;
    let processor = processor(&target.url("/api?key=1"), |settings| {
        settings.method = HttpMethod::Put;
        settings.path = Some("/vm/{{ data.UserName ~ '/..' }}?n={{ data.Key }}".into());
        settings.header_templates = vec![("X-Event".into(), "{{ subject }} {{ 'a\r\nX-Evil: 1' }}".into())];
        settings.content_type = "text/plain".into();
        settings.body = Some("{{ subject }} by {{ data.UserName }}".into());
    });
    let outcome = processor.deliver(&one()).await;
    assert!(matches!(outcome, DeliveryOutcome::Delivered), "{outcome:?}");
    let seen = target.seen().remove(0);
    assert_eq!(seen.line(), "PUT /api/vm/root%2F..?n=0&key=1 HTTP/1.1");
    assert_eq!(seen.header("x-event"), Some("VmPoweredOnEvent a  X-Evil: 1"));
    assert_eq!((seen.header("x-evil"), seen.header("content-type")), (None, Some("text/plain")));
    assert_eq!(seen.body, b"VmPoweredOnEvent by root");
}

#[tokio::test]
async fn a_template_that_fails_is_evidence_and_nothing_is_sent() {
    let target = Target::start(vec![answer("200 OK", "", "")]).await;
    let check = async |change: fn(&mut HttpConfig), parts: &[&str]| {
        let outcome = processor(&target.url("/"), change).deliver(&one()).await;
        assert!(check_failure(outcome, Blame::FirmEvidence, None, parts).is_certain);
    };
    check(
        |settings| settings.body = Some("{\n\"vm\": {{ data.Vm.Name }}}".into()),
        &["cannot render `body`: line 2", "no such value", "default"],
    )
    .await;
    check(|settings| settings.body = Some("{{ subject }} is on".into()), &["`body`", "not JSON"]).await;
    check(|settings| settings.path = Some("/{{ '..' }}/x".into()), &["`path`", "`.` or `..`"]).await;
    assert_eq!(target.seen().len(), 0);
}

#[tokio::test]
async fn secrets_are_sent_and_never_shown() {
    let echo = answer("400 Bad Request", "", r#"you sent {"key": "s3cr3t-\"inline"} and s3cr3t-file"#);
    let target = Target::start(vec![echo]).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("key");
    std::fs::write(&file, "s3cr3t-file\n").unwrap();
    let processor = processor(&target.url("/"), |settings| {
        settings.secrets = TemplateSecrets(vec![
            ("inline".into(), Secret::inline("s3cr3t-\"inline")),
            ("file".into(), Secret::file(&file)),
        ]);
        settings.body = Some(r#"{"a": {{ secrets.inline }}, "b": "{{ secrets.file }}"}"#.into());
        settings.url = TargetUrl::secret(Secret::inline(target.url("/hook-s3cr3t")));
        settings.auth = Auth::Bearer { token: Secret::inline("t0ken-value") };
    });
    let failure =
        check_failure(processor.deliver(&one()).await, Blame::FirmEvidence, Some(400), &["you sent"]);
    assert!(!format!("{failure:?} {processor:?}").contains("s3cr3t"), "{failure:?}");
    let seen = target.seen().remove(0);
    assert_eq!(seen.body, br#"{"a": "s3cr3t-\"inline", "b": "s3cr3t-file"}"#);
}

#[tokio::test]
async fn each_event_is_a_request_of_its_own() {
    let script =
        vec![answer("200 OK", "", ""), answer("503 Service Unavailable", "", ""), answer("200 OK", "", "")];
    let target = Target::start(script).await;
    let processor = processor(&target.url("/"), |settings| settings.body = Some("[{{ subject }}]".into()));
    assert_eq!(processor.request_limits().events_max, 1);
    let DeliveryOutcome::Partial(each) = processor.deliver(&whole(&batch(&["A", "B", "C"]))).await else {
        panic!()
    };
    let blames: Vec<_> = each.iter().map(|failure| failure.as_ref().map(|failure| failure.blame)).collect();
    assert_eq!(blames, [None, Some(Blame::Target), None]);
}

#[tokio::test]
async fn a_check_reaches_the_host_and_delivers_nothing() {
    let check = async |act: Act, expected: Result<&str, &str>| {
        let target = Target::start(vec![act]).await;
        let processor = processor(&target.url("/hook"), |settings| {
            settings.body = Some("{{ data }}".into());
            settings.auth = Auth::Bearer { token: Secret::inline("t0ken-value") };
        });
        match (processor.check().await, expected) {
            (Ok(said), Ok(part)) => assert!(said.contains(part), "{said}"),
            (Err(failure), Err(part)) => assert!(failure.reason.contains(part), "{failure:?}"),
            (got, _) => panic!("{got:?} instead of {expected:?}"),
        }
        assert_eq!(target.seen().remove(0).line(), "OPTIONS /hook HTTP/1.1");
    };
    check(answer("405 Method Not Allowed", "", ""), Ok("answered OPTIONS with 405")).await;
    check(answer("401 Unauthorized", "", ""), Err("check `auth`")).await;
}

#[test]
fn a_template_of_broken_json_causes_a_warning() {
    let check = |body: &str, expected: Option<&str>| {
        let text = format!(
            "apiVersion: event-router/v1\nsources:\n  - {{name: vc1, type: vcenter, address: vc1.example, username: ro, password: pw}}\nprocessors:\n  - name: api\n    type: http\n    url: https://api.example\n    body: '{body}'\n"
        );
        let (_, warnings) = load_str_with(&text, Path::new("config.yaml"), &|_| None).expect(body);
        let warnings: String = warnings.iter().map(ToString::to_string).collect();
        match expected {
            None => assert_eq!(warnings, "", "{body}"),
            Some(part) => assert!(warnings.contains(part), "{body}: {warnings}"),
        }
    };
    let broken = Some("config.yaml:8: processors[0].body: the result is not JSON: ");
    check(r#"{"a": {{ subject }} "b": {{ data.Key }}}"#, broken);
    check(r#"{"a": "{{ subject }}, "b": 1}"#, broken);
    check(r#"{"a": "{{ subject }}", "b": {{ data.Vm.Name }}}"#, None);
    check(r#"[{% for key in data.Keys %}{{ key }},{% endfor %}0]"#, None);
    check(r#"{% if data.To == "red" %}{"a": 1}{% endif %}"#, None);
}

#[test]
fn a_wrong_template_is_reported_with_its_lines() {
    let head = "apiVersion: event-router/v1\nsources:\n  - {name: vc1, type: vcenter, address: vc1.example, username: ro, password: pw}\nprocessors:\n  - name: api\n    type: http\n    url: https://api.example\n";
    let check = |fields: &str, expected: &[&str]| {
        let env = |name: &str| (name == "KEY").then(|| "hunter2".to_owned());
        let loaded = load_str_with(&format!("{head}{fields}"), Path::new("config.yaml"), &env);
        let errors = loaded.map(|_| ()).expect_err(fields).to_string();
        assert!(!errors.contains("hunter2"), "{errors}");
        for part in expected {
            assert!(errors.contains(part), "`{part}` is not in `{errors}`");
        }
    };
    check(
        "    body: |\n      {\n        \"a\": {{ subject }\n      }\n",
        &["config.yaml:8: processors[0].body: line 2 of the template: syntax error"],
    );
    check("    body: '{{ subjekt }}'\n", &["there is no `subjekt`; did you mean `subject`?"]);
    check("    body: '{{ subject | shout }}'\n", &["unknown filter", "shout"]);
    check("    headerTemplates: {X-A: '{{ id }}', X-B: '{{ '}\n", &["headerTemplates: `X-B`: line 1"]);
    check("    headerTemplates: {Host: '{{ id }}'}\n", &["`Host` is set by the router"]);
    check("    path: '{{ id }}'\n", &["path: must begin with `/` or `?`"]);
    check("    body: '{{ secrets.key }}'\n", &["add `key` to `secrets` or `secretFiles`"]);
    check("    body: 'x ${KEY}'\n", &["give the variable a name in `secrets`"]);
    check("    headerTemplates: {X-A: '${KEY}'}\n", &["give the variable a name in `secrets`"]);
    check("    secrets: {1a: hunter2}\n", &["is not a name for a template"]);
    check("    secretFiles: {key: /no/such/file}\n", &["no such file can be read"]);
    check("    method: get\n    body: x\n", &["a request of the method `get` has no body"]);
}
