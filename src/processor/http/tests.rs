//! Rendering: escaping, names, bounds, and the parts of a request.

use minijinja::Value;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::limits::TEMPLATE_FUEL;

const EVENT: &str = r#"{"id":"6f1c","source":"https://vc/sdk","specversion":"1.0","type":"t","subject":"VmPoweredOnEvent","time":"2026-11-30T23:11:45Z","data":{"Key":7,"Ratio":1.5,"Vm":{"Name":"a\"b\\c\n{{ é"},"Host":null,"Template":false,"Tags":["x","y"]},"datacontenttype":"application/json","site":"fra1"}"#;

fn values(event: &str) -> Value {
    let secrets = Value::from(BTreeMap::from([("key".to_owned(), Value::from("s3\"cret"))]));
    context(event.as_bytes(), true, &secrets).expect("an event")
}

fn rendered(text: &str, escaping: Escaping) -> Result<String, String> {
    let template = Template::new(text, escaping).map_err(|error| error.to_string())?;
    template.render(&values(EVENT)).map_err(|error| error.to_string())
}

#[track_caller]
fn check(text: &str, escaping: Escaping, expected: Result<&str, &str>) {
    match (rendered(text, escaping), expected) {
        (Ok(got), Ok(expected)) => assert_eq!(got, expected, "{text}"),
        (Err(got), Err(part)) => assert!(got.contains(part), "{text}: {got}"),
        (got, _) => panic!("{text}: {got:?} instead of {expected:?}"),
    }
}

#[test]
fn a_value_takes_the_json_form_of_its_place() {
    let json = |text, expected| check(text, Escaping::Json, Ok(expected));
    json(r#"{"a": {{ data.Vm.Name }}}"#, r#"{"a": "a\"b\\c\n{{ é"}"#);
    json(r#"{"a": "VM {{ data.Vm.Name }} on"}"#, r#"{"a": "VM a\"b\\c\n{{ é on"}"#);
    json(r#"{"a": "\"{{ data.Key }}\"", "b": {{ data.Key }}}"#, r#"{"a": "\"7\"", "b": 7}"#);
    json(r#"[{{ data.Host }}, "{{ data.Host }}"]"#, r#"[null, "null"]"#);
    json(r#"[{{ data.Tags }}, "{{ data.Tags }}"]"#, r#"[["x","y"], "[\"x\",\"y\"]"]"#);
    json(r#"{{ data.Vm }}"#, r#"{"Name":"a\"b\\c\n{{ é"}"#);
    json(r#"[{{ data.Ratio }}, {{ data.Template }}]"#, "[1.5, false]");
    json(r#"{"k": "{{ secrets.key }}"}"#, r#"{"k": "s3\"cret"}"#);
    json(r#"{"site": "{{ extensions.site }}"}"#, r#"{"site": "fra1"}"#);
    json(r#"{{ {"a": subject, "b": data.Tags | length} }}"#, r#"{"a":"VmPoweredOnEvent","b":2}"#);
}

#[test]
fn captured_text_keeps_the_form_of_its_values() {
    let text = r#"{% macro fact(name, value) %}{"name": "{{ name }}", "value": {{ value }}}{% endmacro %}[{{ fact("VM", data.Vm.Name) }}]"#;
    check(text, Escaping::Json, Ok(r#"[{"name": "VM", "value": "a\"b\\c\n{{ é"}]"#));
    let text = r#"{% set line %}VM {{ data.Vm.Name }}{% endset %}{"text": "{{ line }}"}"#;
    check(text, Escaping::Json, Ok(r#"{"text": "VM a\"b\\c\n{{ é"}"#));
    let text = r#"{% set line %}VM {{ subject }}{% endset %}{"text": "{{ data.Vm.Name ~ line }}"}"#;
    check(text, Escaping::Json, Ok(r#"{"text": "a\"b\\c\n{{ éVM VmPoweredOnEvent"}"#));
    let text = r#"{% set line %}VM {{ subject }}{% endset %}{"text": "{{ line[:9] }}"}"#;
    check(text, Escaping::Json, Err("can only be written as it is"));
}

#[test]
fn a_body_that_is_no_json_is_an_error() {
    check(r#"{"a": {{ subject }}"#, Escaping::Json, Err("not JSON"));
    check(r#"{"a": "\{{ data.Vm.Name }}"}"#, Escaping::Json, Err("backslash"));
    check("{{ subject }} is not JSON", Escaping::Json, Err("not JSON"));
}

#[test]
fn other_types_have_their_own_escapes() {
    check(
        "/vm/{{ data.Vm.Name }}?q={{ data.Tags[0] }}",
        Escaping::Path,
        Ok("/vm/a%22b%5Cc%0A%7B%7B%20%C3%A9?q=x"),
    );
    check("a={{ '1&b=2+3' }}", Escaping::Form, Ok("a=1%26b%3D2%2B3"));
    check("<b>{{ '<i>&' }}</b>", Escaping::Markup, Ok("<b>&lt;i&gt;&amp;</b>"));
    check("{{ data.Vm.Name }}|{{ data.Host }}|{{ data.Key }}", Escaping::Plain, Ok("a\"b\\c\n{{ é||7"));
    check("{{ data.Vm.Name }}", Escaping::Header, Ok("a\"b\\c {{ é"));
}

#[test]
fn a_missing_value_is_an_error_unless_the_template_allows_for_it() {
    check(r#""{{ data.Vm.Nmae }}""#, Escaping::Json, Err("no such value: `data.Vm.Nmae` is undefined"));
    check(r#""{{ data.Vm.Nmae | default('-') }}""#, Escaping::Json, Ok(r#""-""#));
    check(r#""{% if data.Vm.Nmae is defined %}x{% endif %}""#, Escaping::Json, Ok(r#""""#));
}

#[test]
fn names_that_do_not_exist_are_found_without_an_event() {
    let check = |text: &str, line: usize, part: &str| {
        let error = Template::new(text, Escaping::Json).expect_err(text);
        assert_eq!(error.line, Some(line), "{error}");
        assert!(error.message.contains(part), "{error}");
    };
    check("{\n\"a\": {{ subjct }}}", 2, "there is no `subjct`; did you mean `subject`?");
    check("{\n\n\"a\": {{ subject | uper }}}", 3, "uper");
    check("{{ now() }}", 1, "there is no `now`");
    check("{{ subject | e }}", 1, "unknown filter");
    check("{\n{{ subject }", 2, "syntax error");
    check("{% if subject %}\n{{ subject }}", 2, "syntax error");
    check("{{ data.Vm is wierd }}", 1, "unknown test");
}

#[test]
fn rendering_is_bounded() {
    let check = |text: &str| {
        let template = Template::new(text, Escaping::Plain).expect(text);
        let began = std::time::Instant::now();
        let error = template.render(&values(EVENT)).expect_err(text);
        assert!(error.message.contains("takes too long, or its result is too large"), "{error}");
        println!("{text}: {:?}", began.elapsed());
    };
    check("{% for a in range(1000) %}{% for b in range(1000) %}{{ a }}{% endfor %}{% endfor %}");
    check(
        "{% set ns = namespace(x='0123456789') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
    );
    check("{{ 'x' * 1000000000 }}");
    const { assert!(TEMPLATE_FUEL * 64 < 8 << 20) }
}

#[test]
fn an_empty_value_does_not_address_the_object_above() {
    let joined_to = |template: &str| {
        let path = rendered(template, Escaping::Path)?;
        joined(&"https://h".parse().unwrap(), &path).map(|uri| uri.to_string())
    };
    assert!(joined_to("/sessions/{{ '' }}").is_err_and(|error| error.contains("is empty")));
    assert!(joined_to("/{{ '' }}{{ none }}/a").is_err_and(|error| error.contains("is empty")));
    assert_eq!(joined_to("/a{{ '' }}/b?user={{ '' }}").as_deref(), Ok("https://h/a/b?user="));
    assert_eq!(joined_to("/a/").as_deref(), Ok("https://h/a/"), "the template says so");
}

#[test]
fn text_that_no_path_or_header_can_contain_is_found_without_an_event() {
    let error =
        |text: &str, escaping: Escaping| Template::new(text, escaping).err().map(|error| error.message);
    assert!(error("/a b/{{ id }}", Escaping::Path).is_some_and(|message| message.contains("%20")));
    assert!(
        error("a {{ type }}\nb {{ id }}", Escaping::Header)
            .is_some_and(|message| message.contains("line break"))
    );
    for (text, escaping) in [
        ("/a/{{ id }}?b={{ data.Vm.Name }}", Escaping::Path),
        ("", Escaping::Path),
        ("v {{ id }}", Escaping::Header),
    ] {
        assert_eq!(error(text, escaping), None, "{text}");
    }
}

#[test]
fn tojson_escapes_like_any_value() {
    check("/a/{{ 'b/c#d' | tojson }}", Escaping::Path, Ok("/a/b%2Fc%23d"));
    check("{\"a\": \"{{ 'b\"c' | tojson }}\"}", Escaping::Json, Ok("{\"a\": \"b\\\"c\"}"));
}

#[test]
fn the_data_is_only_parsed_for_templates_that_use_it() {
    let uses = |text: &str| Template::new(text, Escaping::Plain).unwrap().uses_data();
    assert!(uses("{{ data.Vm.Name }}") && uses("{% if data %}{% endif %}") && !uses("{{ subject }}"));
    let broken = r#"{"subject":"s","data":{"n":1e999999}}"#;
    assert!(context(broken.as_bytes(), false, &Value::UNDEFINED).is_ok());
}

#[test]
fn a_path_is_appended_to_the_url() {
    let check = |base: &str, rendered: &str, expected: Result<&str, &str>| {
        let joined = joined(&base.parse().unwrap(), rendered);
        match (joined, expected) {
            (Ok(uri), Ok(expected)) => assert_eq!(uri, expected),
            (Err(message), Err(part)) => assert!(message.contains(part), "{message}"),
            (got, _) => panic!("{base} {rendered}: {got:?} instead of {expected:?}"),
        }
    };
    check("https://h", "", Ok("https://h/"));
    check("https://h/", "/a?b=c", Ok("https://h/a?b=c"));
    check("https://h/api/", "/a", Ok("https://h/api/a"));
    check("https://h/api", "?b=c", Ok("https://h/api?b=c"));
    check("https://h/api?token=x", "/a?b=c", Ok("https://h/api/a?b=c&token=x"));
    check("https://h/api", "/a/../b", Err("`.` or `..`"));
    check("https://h/api", "/%2E%2e/b", Err("`.` or `..`"));
    check("https://h/api", "/a b", Err("cannot contain"));
    check("https://h", &format!("/{}", "a".repeat(9_000)), Err("at most"));
}

fn any_text() -> impl Strategy<Value = String> {
    let nasty =
        prop::sample::select(vec!["\"", "\\", "\n", "}", "{{", "\u{fdd0}", "\u{2028}", "&", "/", ".."]);
    prop::collection::vec(prop_oneof![nasty.prop_map(str::to_owned), ".{0,4}"], 0..8)
        .prop_map(|parts| parts.concat())
}

proptest! {
    /// The request has the structure of its template, for every text in an event.
    #[test]
    fn no_value_changes_the_structure(text in any_text()) {
        let event = json!({"subject": text, "data": {"v": text}}).to_string();
        let context = values(&event);
        let body = r#"{"inside": "<{{ data.v }}|{{ subject }}>", "value": {{ data.v }}}"#;
        let body = Template::new(body, Escaping::Json).unwrap().render(&context);
        let got: serde_json::Value = serde_json::from_str(&body.unwrap()).unwrap();
        let shown = text.replace(['\u{fdd0}', '\u{fdd1}'], "\u{fffd}");
        prop_assert_eq!(got, json!({"inside": format!("<{shown}|{shown}>"), "value": shown.clone()}));
        let path = Template::new("/a/{{ subject }}/b?c={{ subject }}", Escaping::Path).unwrap();
        let path = path.render(&context).unwrap();
        prop_assert_eq!((path.matches('/').count(), path.matches('?').count(), path.matches('&').count()), (3, 1, 0));
        let value = Template::new("x{{ subject }}x", Escaping::Header).unwrap().render(&context).unwrap();
        prop_assert!(header(&value).is_ok(), "{}", value);
    }

    #[test]
    fn any_template_compiles_or_not(text in ".{0,200}") {
        let _ = Template::new(&text, Escaping::Json);
    }
}
