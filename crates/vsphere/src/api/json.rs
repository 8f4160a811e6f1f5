//! VI/JSON, which vCenter 8.0 U1 and later offer beside SOAP: the same methods and objects, in
//! JSON.
//!
//! ```text
//! POST /api/vcenter/system?action=hello      (8.0 U2 and later)
//!      {"api_releases":["9.0.0.0",…]}
//!   200 {"api_release":"8.0.3.0"}
//!
//! POST /sdk/vim25/8.0.3.0/EventHistoryCollector/session[…]…/ReadNextEvents
//!      vmware-api-session-id: …
//!      {"maxCount":1000}
//!   200 [{"_typeName":"VmPoweredOnEvent",…},…]     the value, without an envelope
//!   204                                            no value
//!   500 {"_typeName":"NotAuthenticated",…}         a fault
//! ```
//!
//! An answer becomes the same [`Element`] tree as its SOAP form, so its readers do not distinguish
//! the two.
//!
//! Sources: Broadcom's Virtual Infrastructure JSON API reference; "Client Applications Using the
//! JSON Protocol" in its Web Services SDK guide; `vcenter/system` in its vSphere Automation API
//! reference.

use serde_json::{Value, json};

use crate::decode::array;
use crate::limits::control_elements_max;

use super::call::{Argument, Call, Members};
use super::element::Element;
use super::fault::Fault;

/// The header that carries the session id, in the response to a login and in later requests.
pub const SESSION_HEADER: &str = "vmware-api-session-id";

/// Renders the arguments of `call` as a request body.
pub fn body(call: &Call) -> String {
    members(None, &call.arguments).to_string()
}

/// An object; `class` is left out for the arguments of a call.
fn members(class: Option<&str>, members: &Members) -> Value {
    let class = class.map(|class| ("_typeName".to_string(), json!(class)));
    let members = members.0.iter().map(|(name, value)| (name.to_string(), argument(value)));
    Value::Object(class.into_iter().chain(members).collect())
}

fn argument(value: &Argument) -> Value {
    match value {
        Argument::Text(text) => json!(text),
        Argument::Number(number) => json!(number),
        Argument::Flag(flag) => json!(flag),
        Argument::Reference(value) => {
            json!({"_typeName": "ManagedObjectReference", "type": value.kind, "value": value.id})
        }
        Argument::Object(class, inner) => members(Some(class), inner),
        Argument::List(items) => items.iter().map(argument).collect(),
    }
}

/// Renders the body of a `hello` request.
pub fn hello<'a>(releases: impl Iterator<Item = &'a str>) -> String {
    json!({"api_releases": releases.collect::<Vec<_>>()}).to_string()
}

/// The release in the response to a `hello`; empty if the two sides have none in common. `None` if
/// `body` is not such a response.
pub fn release(body: &[u8]) -> Option<String> {
    let answer = parse(body).ok()?;
    Some(answer.get("api_release")?.as_str()?.to_string())
}

/// Parses the answer to `method` as the element `METHODResponse`.
pub fn response(method: &str, body: &[u8]) -> Result<Element, String> {
    let mut response = Element { name: format!("{method}Response"), ..Element::default() };
    if !body.trim_ascii().is_empty() {
        append(&mut response.children, "returnval", parse(body)?);
    }
    Ok(response)
}

/// The fault in `body`, if it is one.
pub fn fault(body: &[u8]) -> Option<Fault> {
    let fault = parse(body).ok()?;
    let class = fault.get("_typeName")?.as_str()?;
    // vSphere sends `faultMessage`, a list of LocalizableMessage. govmomi's simulator sends
    // `faultstring`, as in SOAP.
    let said = [fault.pointer("/faultMessage/0/message"), fault.get("faultstring")];
    let message = said.into_iter().flatten().find_map(Value::as_str).unwrap_or_default();
    Some(Fault::new(class.to_string(), message.to_string()))
}

/// Parses an answer whose values are as many as an answer of its size may have. They are counted
/// before memory is taken for them.
fn parse(body: &[u8]) -> Result<Value, String> {
    let max = control_elements_max(body.len());
    match array::values(body) <= max {
        true => serde_json::from_slice(body).map_err(|error| error.to_string()),
        false => Err(format!("more than {max} values")),
    }
}

/// Appends the XML elements of one member: none for null, one for each item of an array.
fn append(into: &mut Vec<Element>, name: &str, value: Value) {
    let mut fields = match value {
        Value::Null => return,
        Value::Array(items) => {
            return items.into_iter().for_each(|item| append(into, name, item));
        }
        Value::Object(fields) => fields,
        value => {
            into.push(Element { name: name.to_string(), text: text(value), ..Element::default() });
            return;
        }
    };
    // References: SOAP has the type as an attribute without `xsi` and the id as text.
    let class = fields.remove("_typeName").map(text).unwrap_or_default();
    let mut element = Element { name: name.to_string(), ..Element::default() };
    if class == "ManagedObjectReference" {
        element.kind = fields.remove("type").map(text).unwrap_or_default();
        element.text = fields.remove("value").map(text).unwrap_or_default();
        into.push(element);
        return;
    }
    // Boxed values: `_value` holds an array (`ArrayOf…`) or a scalar.
    if let Some(value) = fields.remove("_value") {
        match class.strip_prefix("ArrayOf") {
            Some(item) => append(&mut element.children, item, value),
            None => element.text = text(value),
        }
    } else {
        for (name, value) in fields {
            append(&mut element.children, &name, value);
        }
    }
    element.class = class;
    into.push(element);
}

/// The text between an element's tags.
fn text(value: Value) -> String {
    match value {
        Value::String(text) => text,
        value => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::call::{event_filter, property_filter};
    use super::super::fault::FaultKind;
    use super::super::model::{EventFilterSpec, EventPosition, MoRef};
    use super::super::version::Version;
    use super::*;

    #[test]
    fn a_body_states_the_class_of_every_object() {
        let spec = EventFilterSpec {
            begin_us: Some(1_500_000),
            users: vec!["CORP\\a\"b".to_string()],
            event_types: vec!["VmPoweredOnEvent".to_string()],
            max_count: Some(1),
            delayed_init: true,
            ..EventFilterSpec::default()
        };
        let filter = event_filter(&spec, &MoRef::new("Folder", "group-d1"), &Version::for_api("8.0.2.0"));
        let call = Call::new("CreateCollectorForEvents", &MoRef::new("EventManager", "EventManager"))
            .with("filter", filter);
        let expected = json!({"filter": {
            "_typeName": "EventFilterSpec",
            "entity": {
                "_typeName": "EventFilterSpecByEntity",
                "entity": {"_typeName": "ManagedObjectReference", "type": "Folder", "value": "group-d1"},
                "recursion": "all",
            },
            "time": {"_typeName": "EventFilterSpecByTime", "beginTime": "1970-01-01T00:00:01.5Z"},
            "userName": {"_typeName": "EventFilterSpecByUsername", "systemUser": false, "userList": ["CORP\\a\"b"]},
            "disableFullMessage": false,
            "eventTypeId": ["VmPoweredOnEvent"],
            "maxCount": 1,
        }});
        assert_eq!(serde_json::from_str::<Value>(&body(&call)).unwrap(), expected);
        let call = Call::new("Wait", &call.this).with("spec", property_filter(&call.this, &["latestEvent"]));
        let sent: Value = serde_json::from_str(&body(&call)).unwrap();
        assert_eq!(sent["spec"]["propSet"][0]["pathSet"], json!(["latestEvent"]));
        assert_eq!(sent["spec"]["objectSet"][0]["_typeName"], json!("ObjectSpec"));
    }

    #[test]
    fn an_answer_becomes_the_tree_of_its_soap_form() {
        let check = |json: Value, xml: &str| {
            let xml = format!("<MResponse xmlns:xsi='x'>{xml}</MResponse>");
            assert_eq!(
                response("M", json.to_string().as_bytes()),
                Element::parse(xml.as_bytes()),
                "{json} {xml}"
            );
        };
        check(
            json!({"_typeName": "ManagedObjectReference", "type": "Folder", "value": "g"}),
            "<returnval type='Folder'>g</returnval>",
        );
        check(json!("2024-01-01T00:00:00Z"), "<returnval>2024-01-01T00:00:00Z</returnval>");
        check(json!([]), "");
        check(Value::Null, "");
        check(
            json!([{"_typeName": "A", "b": [1, true]}, {"_typeName": "A", "c": null}]),
            "<returnval xsi:type='A'><b>1</b><b>true</b></returnval><returnval xsi:type='A'></returnval>",
        );
        check(
            json!({"_typeName": "DynamicProperty", "name": "n", "val": {"_typeName": "ArrayOfEvent", "_value": [{"_typeName": "E", "key": 4}]}}),
            "<returnval xsi:type='DynamicProperty'><name>n</name><val xsi:type='ArrayOfEvent'><Event xsi:type='E'><key>4</key></Event></val></returnval>",
        );
        check(json!({"_typeName": "int", "_value": 5}), "<returnval xsi:type='int'>5</returnval>");
        assert_eq!(response("M", b"").unwrap().children, []);
        let event =
            response("M", br#"{"_typeName":"E","key":-3,"createdTime":"1970-01-01T00:00:01Z"}"#).unwrap();
        assert_eq!(
            EventPosition::of(&event.children[0]),
            Some(EventPosition { key: -3, created_us: 1_000_000 })
        );
    }

    #[test]
    fn malformed_answers_name_the_problem() {
        let check = |body: &str, part: &str| {
            let error = response("M", body.as_bytes()).unwrap_err();
            assert!(error.contains(part), "{error}");
        };
        check("{\"a\":", "EOF");
        check("<html>", "expected value");
        check(&"[".repeat(1_000), "recursion limit");
        check(&format!("[{}0]", "0,".repeat(8_000)), "more than");
    }

    #[test]
    fn faults_have_their_kind_and_message() {
        let check = |body: &str, expected: Option<(FaultKind, &str)>| {
            let fault = fault(body.as_bytes());
            let found = fault.as_ref().map(|fault| (fault.kind, &*fault.message));
            assert_eq!(found, expected, "{body}");
        };
        let said = r#"{"_typeName":"InvalidLogin","faultMessage":[{"_typeName":"LocalizableMessage","key":"k","message":"no"}]}"#;
        check(said, Some((FaultKind::InvalidLogin, "no")));
        check(
            r#"{"_typeName":"NotAuthenticated","faultstring":"gone"}"#,
            Some((FaultKind::NotAuthenticated, "gone")),
        );
        check(r#"{"_typeName":"Odd"}"#, Some((FaultKind::Other, "")));
        check(r#"{"error_type":"UNAUTHENTICATED"}"#, None);
        check("[]", None);
        check("<html>", None);
    }

    #[test]
    fn hello_names_the_release() {
        assert_eq!(hello(["a", "b"].into_iter()), r#"{"api_releases":["a","b"]}"#);
        let check = |body: &str, expected: Option<&str>| {
            assert_eq!(release(body.as_bytes()).as_deref(), expected, "{body}");
        };
        check(r#"{"api_release":"8.0.3.0"}"#, Some("8.0.3.0"));
        check(r#"{"api_release":""}"#, Some(""));
        check("{}", None);
        check("<html>", None);
    }
}
