//! Compares the expectation with govmomi's own output, and applies each kind of corruption to the
//! comparison.

use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

use super::expected::difference;
use super::*;
use crate::vcenter::clock::parse_micros;
use crate::vcenter::xml::Node;
use crate::vcenter::{Mix, ModelSpec};

const CREATED_US: i64 = 1_795_305_612_398_830;
const OFFSET_US: i64 = 7_000_000;
const URL: &str = "http://127.0.0.1:8989/sdk";

/// A model in which every template has its turn.
fn model() -> Arc<Model> {
    let names = crate::vcenter::template::template_names();
    let mix = Mix::Custom(names.into_iter().map(|name| (name, 1)).collect());
    Arc::new(Model::new(ModelSpec { seed: 3, vms: 1000, hosts: 20, mix }).unwrap())
}

fn contents(payload: Payload) -> Contents {
    Contents::new(model(), Form { payload, ..Form::default() })
}

fn made(index: u64) -> MadeEvent {
    MadeEvent {
        index,
        key: 1_000 + index as i32,
        created_us: CREATED_US + index as i64 * 1_000,
        special: None,
        clock_offset_us: OFFSET_US,
        instance_uuid: Uuid::from_u128(7),
        url: URL.to_owned(),
        received_us: CREATED_US + 1_000_000_000,
    }
}

fn parsed(contents: &Contents, made: &MadeEvent) -> Value {
    serde_json::from_slice(&contents.example(made).unwrap()).unwrap()
}

/// The first event of this class, or with this event type id.
fn index_of(contents: &Contents, class: &str) -> u64 {
    let model = &contents.model;
    (0..100_000)
        .find(|index| model.class(*index) == class || model.event_type_id(*index) == Some(class))
        .unwrap_or_else(|| panic!("{class}"))
}

/// Removes the fields that came after govmomi 0.30, which drops them.
fn drop_newer(node: &mut Node) {
    node.children.retain(|child| !["tgw", "auditId", "progressDetails"].contains(&child.name.as_str()));
    node.children.iter_mut().for_each(drop_newer);
}

#[test]
fn the_expectation_equals_govmomis_output() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/golden");
    let read = |name: String| std::fs::read_to_string(format!("{folder}/{name}")).unwrap();
    let mut compared = std::collections::BTreeSet::new();
    for page in ["events_full", "events_min", "page1000"] {
        let xml = xml::parse(read(format!("{page}.xml")).as_bytes()).unwrap();
        let mut body = xml.child("Body").unwrap().children[0].clone();
        drop_newer(&mut body);
        let expected = read(format!("{page}.pascal.jsonl"));
        assert_eq!(body.children.len(), expected.lines().count(), "{page}");
        for (event, line) in body.children.iter().zip(expected.lines()) {
            let class = event.xsi_type.as_deref().unwrap_or("Event");
            let line: Value = serde_json::from_str(line).unwrap();
            assert_eq!(class, line["type"]);
            if !types::is_known(class) {
                continue;
            }
            let text = |name: &str| event.text_of(name).unwrap();
            let values = Values {
                vm: 0,
                host: 0,
                index: 0,
                key: text("key").parse().unwrap(),
                chain_id: text("chainId").parse().unwrap(),
                created_us: 0,
                times: TimeForm::Go,
            };
            // The text of createdTime as it is: these times have offsets and nanoseconds.
            let Expected::Object(mut fields) = pascal(class, event) else { panic!("{class}") };
            fields[2].1 = Expected::Time(text("createdTime").to_owned());
            assert_eq!(
                difference(&Expected::Object(fields), &line["data"], "", &values),
                None,
                "{page}: {class}"
            );
            compared.insert(class.to_owned());
        }
    }
    let wanted = ["AlarmStatusChangedEvent", "EventEx", "ExtendedEvent", "TaskEvent", "VmMacAssignedEvent"];
    assert!(wanted.iter().all(|class| compared.contains(*class)) && compared.len() >= 13, "{compared:?}");
}

#[test]
fn both_comparisons_accept_correct_data_of_every_template() {
    let contents = contents(Payload::Pascal);
    let mut seen = std::collections::BTreeSet::new();
    for index in 0..300 {
        let made = made(index);
        let bytes = contents.example(&made).unwrap();
        assert_eq!(contents.check(&made, Delivery::Structured(&bytes), None), None);
        let event: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(contents.check(&made, Delivery::Parsed(&event), None), None, "{event}");
        // Followed by another event, as in a batch; then in another order, with white space and
        // with other escapes.
        let more = [&bytes[..], b",{\"id\":\"other\"}]"].concat();
        assert_eq!(contents.check(&made, Delivery::Structured(&more), None), None);
        let pretty = serde_json::to_string_pretty(&event).unwrap().replace('>', "\\u003e");
        assert_eq!(contents.check(&made, Delivery::Structured(pretty.as_bytes()), None), None);
        seen.insert(contents.model.pick(index).template);
    }
    assert_eq!(seen.len(), contents.templates.len());
}

#[test]
fn each_corruption_is_noticed_with_its_path() {
    let contents = contents(Payload::Pascal);
    let check = |class: &str, corrupt: &dyn Fn(&mut Value), path: &str| {
        let made = made(index_of(&contents, class));
        let mut event = parsed(&contents, &made);
        let before = event.clone();
        corrupt(&mut event);
        assert_ne!(event, before, "{class} {path}: nothing was corrupted");
        let text = event.to_string();
        for delivery in [Delivery::Parsed(&event), Delivery::Structured(text.as_bytes())] {
            let found = contents
                .check(&made, delivery, None)
                .unwrap_or_else(|| panic!("{class} {path}: not noticed"));
            assert_eq!(found.path, path, "{found:?}");
            assert!(found.expected != found.found && found.key == made.key, "{found:?}");
        }
    };
    // A changed number, and a value of another kind.
    check("UserLogoutSessionEvent", &|event| event["data"]["CallCount"] = json!(13), "data.CallCount");
    check("UserLogoutSessionEvent", &|event| event["data"]["CallCount"] = json!("12"), "data.CallCount");
    check("UserLogoutSessionEvent", &|event| event["data"]["CallCount"] = json!(12.5), "data.CallCount");
    check("TaskEvent", &|event| event["data"]["Info"]["EventChainId"] = json!(1), "data.Info.EventChainId");
    check("VmPoweredOnEvent", &|event| event["data"]["ChainId"] = json!(1), "data.ChainId");
    check("VmPoweredOnEvent", &|event| event["data"]["Template"] = json!(true), "data.Template");
    // A missing field, and an added one.
    let remove = |name: &'static str| {
        move |event: &mut Value| drop(event["data"].as_object_mut().unwrap().remove(name))
    };
    check("VmPoweredOnEvent", &remove("ChangeTag"), "data.ChangeTag");
    check("VmPoweredOnEvent", &remove("Vm"), "data.Vm");
    check("VmPoweredOnEvent", &|event| event["data"]["Extra"] = json!(null), "data.Extra");
    check("VmPoweredOnEvent", &|event| event["data"]["Vm"]["Extra"] = json!(1), "data.Vm.Extra");
    // `null`, `""` and 0 are three different values.
    check("VmPoweredOnEvent", &|event| event["data"]["Ds"] = json!(""), "data.Ds");
    check("VmPoweredOnEvent", &|event| event["data"]["Net"] = json!({}), "data.Net");
    check("VmPoweredOnEvent", &|event| event["data"]["ChangeTag"] = json!(null), "data.ChangeTag");
    check("TaskEvent", &|event| event["data"]["Info"]["Progress"] = json!(null), "data.Info.Progress");
    check("TaskEvent", &|event| event["data"]["Info"]["Locked"] = json!([]), "data.Info.Locked");
    // Nesting, and the order and length of lists.
    check(
        "VmPoweredOnEvent",
        &|event| event["data"]["Vm"] = event["data"]["Vm"]["Vm"].take(),
        "data.Vm.Name",
    );
    check(
        "com.vmware.sso.LoginSuccess",
        &|event| event["data"]["Arguments"].as_array_mut().unwrap().swap(0, 1),
        "data.Arguments[0].Key",
    );
    check(
        "com.vmware.sso.LoginSuccess",
        &|event| drop(event["data"]["Arguments"].as_array_mut().unwrap().pop()),
        "data.Arguments",
    );
    check(
        "esx.problem.vob.vsan.lsom.devicerepair",
        &|event| event["data"]["Arguments"][1]["Value"] = json!("42"),
        "data.Arguments[1].Value",
    );
    // Times: another time, the text of another zone, and zeros that Go drops.
    check(
        "TaskEvent",
        &|event| event["data"]["Info"]["QueueTime"] = json!("2026-11-22T00:00:00Z"),
        "data.Info.QueueTime",
    );
    check(
        "VmPoweredOnEvent",
        &|event| event["data"]["CreatedTime"] = json!("2026-11-22T00:06:52.4Z"),
        "data.CreatedTime",
    );
    check(
        "TaskEvent",
        &|event| event["data"]["Info"]["StartTime"] = json!("0001-01-01T00:00:00Z"),
        "data.Info.StartTime",
    );
    // Text.
    check("GeneralUserEvent", &|event| event["data"]["Message"] = json!("change ticket"), "data.Message");
    check(
        "VmReconfiguredEvent",
        &|event| event["data"]["ConfigSpec"]["NumCPUs"] = json!(8),
        "data.ConfigSpec.NumCPUs",
    );
    check(
        "VmReconfiguredEvent",
        &|event| event["data"]["ConfigSpec"]["VPMCEnabled"] = json!(false),
        "data.ConfigSpec.VPMCEnabled",
    );
    // Attributes.
    for (name, value) in [
        ("id", json!("5a1c9a4e-29c1-5b8b-9a43-1a8f5b9d5c11")),
        ("source", json!("http://127.0.0.1:8989/other")),
        ("source", json!("http://127.0.0.1:8990/sdk")),
        ("specversion", json!("0.3")),
        ("type", json!("com.vmware.event.router/eventex")),
        ("subject", json!("VmPoweredOffEvent")),
        ("time", json!("yesterday")),
        ("time", json!("2026-11-21T00:00:00Z")),
        ("time", json!("2036-11-21T00:00:00Z")),
        ("datacontenttype", json!("application/xml")),
        ("subject", json!(7)),
    ] {
        check("VmPoweredOnEvent", &|event| event[name] = value.clone(), name);
    }
    check("VmPoweredOnEvent", &|event| event["sequence"] = json!("0000000001"), "sequence");
    for name in ["specversion", "subject", "datacontenttype", "data"] {
        check("VmPoweredOnEvent", &|event| drop(event.as_object_mut().unwrap().remove(name)), name);
    }
}

#[test]
fn a_corruption_deep_in_a_large_event_is_noticed() {
    let contents = contents(Payload::Pascal);
    let index = (0..100_000).find(|index| {
        let template = &contents.model.templates()[contents.model.pick(*index).template];
        template.body.contains("ApplicationQuiesceFault")
    });
    let made = made(index.unwrap());
    let mut event = parsed(&contents, &made);
    assert_eq!(contents.check(&made, Delivery::Parsed(&event), None), None);
    event["data"]["Info"]["Error"]["Fault"]["FaultCause"]["Fault"]["File"] = json!("x");
    let found = contents.check(&made, Delivery::Parsed(&event), None).unwrap();
    assert_eq!(found.path, "data.Info.Error.Fault.FaultCause.Fault.File");
}

#[test]
fn swapped_attributes_and_data_are_noticed() {
    let contents = contents(Payload::Pascal);
    let (one, other) = (
        made(index_of(&contents, "VmPoweredOnEvent")),
        made(index_of(&contents, "com.vmware.sso.LoginSuccess")),
    );
    let (mut first, second) = (parsed(&contents, &one), parsed(&contents, &other));
    for name in ["subject", "type", "data", "id"] {
        let before = first[name].clone();
        first[name] = second[name].clone();
        let found = contents.check(&one, Delivery::Parsed(&first), None).unwrap();
        assert!(found.path.starts_with(name), "{name}: {found:?}");
        first[name] = before;
    }
}

#[test]
fn configured_extensions_pass() {
    let form = Form { extensions: true, ..Form::default() };
    let contents = Contents::new(model(), form);
    let made = made(1);
    let mut event = parsed(&contents, &made);
    event["sequence"] = json!("0000000001");
    assert_eq!(contents.check(&made, Delivery::Parsed(&event), None), None);
}

#[test]
fn the_time_may_be_the_creation_time() {
    let contents = Contents::new(model(), Form { time: EventTime::Created, ..Form::default() });
    let made = made(1);
    let mut event = parsed(&contents, &made);
    assert_eq!(contents.check(&made, Delivery::Parsed(&event), None).unwrap().path, "time");
    event["time"] = json!(format_micros(made.created_us));
    assert_eq!(contents.check(&made, Delivery::Parsed(&event), None), None);
}

#[test]
fn a_binary_event_has_its_attributes_in_headers() {
    let contents = contents(Payload::Pascal);
    let made = made(index_of(&contents, "VmPoweredOnEvent"));
    let event = parsed(&contents, &made);
    let mut headers = HeaderMap::new();
    for name in ["id", "source", "specversion", "type", "subject", "time"] {
        let value = HeaderValue::from_str(event[name].as_str().unwrap()).unwrap();
        headers.insert(HeaderName::from_bytes(format!("ce-{name}").as_bytes()).unwrap(), value);
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let check = |headers: &HeaderMap, data: &Value| {
        let data = data.to_string();
        contents
            .check(&made, Delivery::Binary { headers, data: data.as_bytes() }, None)
            .map(|wrong| wrong.path)
    };
    assert_eq!(check(&headers, &event["data"]), None);
    let mut data = event["data"].clone();
    data["UserName"] = json!("root");
    assert_eq!(check(&headers, &data).as_deref(), Some("data.UserName"));
    headers.insert("ce-subject", HeaderValue::from_static("VmPoweredOffEvent"));
    assert_eq!(check(&headers, &event["data"]).as_deref(), Some("subject"));
    headers.insert("ce-subject", HeaderValue::from_static("VmPowered%4fnEvent"));
    assert_eq!(check(&headers, &event["data"]), None);
    headers.insert("ce-more", HeaderValue::from_static("x"));
    assert_eq!(check(&headers, &event["data"]).as_deref(), Some("more"));
}

#[test]
fn the_entry_around_an_event_is_compared_too() {
    let contents = contents(Payload::Pascal);
    let made = made(index_of(&contents, "VmPoweredOnEvent"));
    let event = parsed(&contents, &made);
    let time_us = parse_micros(event["time"].as_str().unwrap());
    let entry = EntryFields {
        source: URL,
        detail_type: "VmPoweredOnEvent",
        time_us: time_us.map(|time| time - 600_000),
    };
    let check = |entry| contents.check(&made, Delivery::Parsed(&event), Some(entry)).map(|wrong| wrong.path);
    assert_eq!(check(entry), None);
    assert_eq!(check(EntryFields { source: "http://127.0.0.1:1/sdk", ..entry }).as_deref(), Some("Source"));
    assert_eq!(check(EntryFields { detail_type: "VmEvent", ..entry }).as_deref(), Some("DetailType"));
    assert_eq!(check(EntryFields { time_us: Some(0), ..entry }).as_deref(), Some("Time"));
    assert_eq!(check(EntryFields { time_us: None, ..entry }).as_deref(), Some("Time"));
}

/// Event `index` as its vCenter sends it.
fn sent(contents: &Contents, made: &MadeEvent, json: bool) -> String {
    let mut out = Vec::new();
    let mut clock = crate::vcenter::clock::Rfc3339::default();
    let form = Default::default();
    let (index, key, created_us) = (made.index, made.key, made.created_us);
    if json {
        contents.model.render_json(&mut out, index, key, &mut clock, created_us, form);
    } else {
        contents.model.render(&mut out, "returnval", index, key, &mut clock, created_us, form);
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn vijson_data_equals_the_vcenters_json() {
    let contents = contents(Payload::ViJson);
    let pascal = self::contents(Payload::Pascal);
    for index in 0..300 {
        let made = made(index);
        let mut event = parsed(&pascal, &made);
        event["data"] = serde_json::from_str(&sent(&contents, &made, true)).unwrap();
        assert_eq!(contents.check(&made, Delivery::Parsed(&event), None), None, "{event}");
        for (name, value) in
            [("key", json!(0)), ("chainId", json!(0)), ("_typeName", json!("X")), ("more", json!(1))]
        {
            let mut event = event.clone();
            event["data"][name] = value;
            let found = contents.check(&made, Delivery::Parsed(&event), None).unwrap();
            assert_eq!(found.path, format!("data.{name}"));
        }
        assert!(
            pascal.check(&made, Delivery::Parsed(&event), None).is_some(),
            "not the form that was asked for"
        );
    }
}

#[test]
fn xml_data_equals_the_vcenters_element() {
    let contents = contents(Payload::Xml);
    let pascal = self::contents(Payload::Pascal);
    let declared = "<returnval xmlns:xsi=\"http://www.w3.org/2001/XMLSchema-instance\" xmlns:xsd=\"http://www.w3.org/2001/XMLSchema\"";
    for index in 0..300 {
        let made = made(index);
        let element = sent(&contents, &made, false).replacen("<returnval", declared, 1);
        let mut event = parsed(&pascal, &made);
        event["datacontenttype"] = json!("application/xml");
        let check = |element: &str, event: &mut Value| {
            event["data"] = json!(element);
            contents.check(&made, Delivery::Parsed(event), None)
        };
        assert_eq!(check(&element, &mut event), None, "{element}");
        for (from, to) in [
            ("<userName>", "<userName>x"),
            ("<chainId>", "<chainId>1"),
            ("</returnval>", "<more>1</more></returnval>"),
            ("xsi:type=\"", "xsi:type=\"X"),
            ("<createdTime>2026-11-22T", "<createdTime>2026-11-21T"),
        ] {
            assert!(element.contains(from), "{element}");
            assert!(check(&element.replacen(from, to, 1), &mut event).is_some(), "{from}");
        }
    }
}

#[test]
fn all_fields_of_an_unknown_class_are_expected() {
    let contents = contents(Payload::Pascal);
    let elements = "<userName>u</userName><warpFactor>9</warpFactor><target xsi:type=\"TeleportTarget\"><planet>Vulcan</planet></target>";
    let special =
        SpecialContent { class: "VmTeleportedEvent".into(), event_type_id: None, elements: elements.into() };
    let made = MadeEvent { special: Some(special), ..made(5) };
    let mut event = parsed(&contents, &MadeEvent { special: None, ..made.clone() });
    event["subject"] = json!("VmTeleportedEvent");
    event["type"] = json!("com.vmware.event.router/event");
    event["data"] = json!({
        "Key": made.key, "ChainId": made.key, "CreatedTime": go(&made), "UserName": "u", "Datacenter": null, "ComputeResource": null,
        "Host": null, "Vm": null, "Ds": null, "Net": null, "Dvs": null, "FullFormattedMessage": "", "ChangeTag": "",
        "WarpFactor": "9", "Target": {"Planet": "Vulcan"}
    });
    assert_eq!(contents.check(&made, Delivery::Parsed(&event), None), None);
    event["data"].as_object_mut().unwrap().remove("WarpFactor");
    assert_eq!(contents.check(&made, Delivery::Parsed(&event), None).unwrap().path, "data.WarpFactor");
}

fn go(made: &MadeEvent) -> String {
    expected::go_time(&format_micros(made.created_us))
}
