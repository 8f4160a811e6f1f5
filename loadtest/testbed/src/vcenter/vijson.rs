//! VI/JSON, the vSphere API as JSON (8.0 U1 and later): converts arguments to the tree that SOAP
//! makes, and results from it.
//!
//! ```text
//! POST /api/vcenter/system?action=hello                  the release that both sides support
//! POST /sdk/vim25/{release}/{Type}/{id}/{Method}         arguments in, result out; faults with 500
//! GET  /sdk/vim25/{release}/{Type}/{id}/{property}       the bare value
//! ```
//!
//! XML does not distinguish a number from a text, or a list of one from a single value, and often
//! omits an object's type. [`field`] knows these for the types that this server sends.

use serde_json::{Map, Value, json};

use super::protocol::{API_VERSION, Fault};
use super::xml::{self, Node};

/// Releases that are served, newest first.
const RELEASES: [&str; 3] = [API_VERSION, "8.0.1.0", "8.0.0.1"];

/// The answer to `hello`: the first of the client's releases that is served, or an empty text.
pub(crate) fn hello(body: &[u8]) -> Value {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let asked = request["api_releases"].as_array().map(Vec::as_slice).unwrap_or_default();
    let release = asked.iter().filter_map(Value::as_str).find(|release| RELEASES.contains(release));
    json!({"api_release": release.unwrap_or_default()})
}

/// `{Type}/{id}/{name}` of a path behind `/sdk/vim25/{release}/`, if the release is served.
pub(crate) fn parse_path(path: &str) -> Option<(String, String, String)> {
    let mut parts = path.strip_prefix("/sdk/vim25/")?.split('/').map(decode_percent);
    let release = parts.next()?;
    let parts = (parts.next()?, parts.next()?, parts.next()?);
    RELEASES.contains(&release.as_str()).then_some(parts)
}

fn decode_percent(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let hex = (*first == b'%').then(|| after.get(..2)).flatten();
        let byte = hex.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok());
        out.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// A method's arguments as the tree that SOAP would have made of them.
///
/// # Errors
/// The body is not a JSON object.
pub(crate) fn arguments(method: &str, body: &[u8]) -> Result<Node, Fault> {
    let value = if body.is_empty() { json!({}) } else { serde_json::from_slice(body).unwrap_or_default() };
    if !value.is_object() {
        return Err(Fault::new("InvalidRequest", "the body is not a JSON object"));
    }
    let mut node = node_of(&value);
    node.name = method.to_owned();
    Ok(node)
}

/// The tree of one JSON value: objects become elements with children, lists become repeated
/// elements.
fn node_of(value: &Value) -> Node {
    let mut node = Node::default();
    match value {
        Value::Object(fields) => {
            let kind = fields.get("_typeName").and_then(Value::as_str);
            if kind == Some("ManagedObjectReference") {
                node.reference_type = fields.get("type").and_then(Value::as_str).map(str::to_owned);
                node.text = fields.get("value").and_then(Value::as_str).unwrap_or_default().to_owned();
                return node;
            }
            if let Some(inner) = fields.get("_value") {
                node = node_of(inner);
            } else {
                for (name, value) in fields.iter().filter(|(name, _)| *name != "_typeName") {
                    let values = match value {
                        Value::Array(values) => values.as_slice(),
                        value => std::slice::from_ref(value),
                    };
                    node.children
                        .extend(values.iter().map(|value| Node { name: name.clone(), ..node_of(value) }));
                }
            }
            node.xsi_type = kind.map(str::to_owned);
        }
        Value::String(text) => node.text.clone_from(text),
        Value::Null => {}
        other => node.text = other.to_string(),
    }
    node
}

/// A fault, to be sent with status 500.
pub(crate) fn fault(fault: &Fault) -> Value {
    let mut fields = parse(&fault.detail).map(|node| object(&node, &fault.kind)).unwrap_or_default();
    fields.insert("_typeName".into(), json!(fault.kind));
    if !fault.message.is_empty() {
        let message = json!({"_typeName": "LocalizableMessage", "key": "testbed", "message": fault.message});
        fields.insert("faultMessage".into(), json!([message]));
    }
    Value::Object(fields)
}

/// A method's result, or a property's value (`method` is `Fetch`); `None` for "no content".
///
/// # Errors
/// The result contains a malformed event and is therefore not well-formed.
pub(crate) fn result(method: &str, elements: &[u8]) -> Result<Option<Value>, Fault> {
    let text = String::from_utf8_lossy(elements);
    let root = parse(&text).ok_or_else(|| Fault::new("SystemError", "the result cannot be encoded"))?;
    // The methods with a result that is no text, and its type.
    let kind = match method {
        "RetrieveProperties" => {
            let list = root.children.iter().map(|child| Value::Object(object(child, "ObjectContent")));
            return Ok(Some(list.collect()));
        }
        "FindAllByUuid" | "FindAllByDnsName" | "FindAllByIp" => {
            return Ok(Some(root.children.iter().map(reference).collect()));
        }
        "RetrieveServiceContent" => JsonKind::Object("ServiceContent"),
        "Login" => JsonKind::Object("UserSession"),
        "RetrievePropertiesEx" | "ContinueRetrievePropertiesEx" => JsonKind::Object("RetrieveResult"),
        "WaitForUpdatesEx" | "WaitForUpdates" | "CheckForUpdates" => JsonKind::Object("UpdateSet"),
        "SessionIsActive" => JsonKind::Bool,
        _ => JsonKind::Text,
    };
    let Some(returned) = root.children.first() else { return Ok(None) };
    if method == "Fetch" {
        return Ok(Some(bare(returned)));
    }
    Ok(Some(value(returned, kind)))
}

/// A property's value without the wrapping of type `Any`.
fn bare(node: &Node) -> Value {
    match any(node) {
        Value::Object(mut fields) if fields.contains_key("_value") => {
            fields.remove("_value").unwrap_or_default()
        }
        value => value,
    }
}

/// The fields of an event after createdTime, as `,"userName":…}`.
pub(crate) fn event_fields(class: &str, elements: &str) -> String {
    let Some(node) = parse(elements) else {
        // As malformed in JSON as in XML.
        return ",\"userName\":\"root\",\"vm\":{\"name\":\"app-000001\"]}".to_owned();
    };
    let mut fields = object(&node, class);
    fields.remove("_typeName");
    // Written field by field, because a map would sort them and real servers keep the schema's
    // order.
    let mut text = String::new();
    let mut done: Vec<&str> = Vec::new();
    for child in &node.children {
        if !done.contains(&child.name.as_str()) {
            done.push(&child.name);
            let value = fields.get(&child.name).cloned().unwrap_or_default();
            text.push_str(&format!(",{}:{value}", Value::from(child.name.as_str())));
        }
    }
    text.push('}');
    text
}

fn parse(elements: &str) -> Option<Node> {
    xml::parse_fragment(elements).ok()
}

#[derive(Clone, Copy, PartialEq)]
enum JsonKind {
    Text,
    Number,
    Bool,
    Object(&'static str),
    /// The value carries its type.
    Any,
}

/// An element as JSON; `kind` is its declared type.
fn value(node: &Node, kind: JsonKind) -> Value {
    if node.reference_type.is_some() {
        return reference(node);
    }
    if node.xsi_type.is_some() && kind != JsonKind::Any {
        return bare(node);
    }
    match kind {
        // A text that is no number yet is a template's placeholder.
        JsonKind::Number => node.text.trim().parse::<i64>().map_or_else(|_| json!(node.text), Value::from),
        JsonKind::Bool => Value::Bool(matches!(node.text.trim(), "true" | "1")),
        JsonKind::Object(declared) => Value::Object(object(node, declared)),
        JsonKind::Any => any(node),
        JsonKind::Text if node.children.is_empty() => json!(node.text),
        // A field of a posted event that the table does not know.
        JsonKind::Text => Value::Object(object(node, "")),
    }
}

fn reference(node: &Node) -> Value {
    json!({
        "_typeName": "ManagedObjectReference",
        "type": node.reference_type.as_deref().unwrap_or_default(),
        "value": node.text.trim(),
    })
}

/// A value of type `Any`, which carries its own type.
fn any(node: &Node) -> Value {
    if node.reference_type.is_some() {
        return reference(node);
    }
    let kind = node.xsi_type.as_deref().unwrap_or("string");
    if let Some(element) = kind.strip_prefix("ArrayOf") {
        let items: Vec<Value> = node
            .children
            .iter()
            .map(|child| match element {
                "ManagedObjectReference" => reference(child),
                _ if child.xsi_type.is_some() => bare(child),
                _ => Value::Object(object(child, element)),
            })
            .collect();
        return json!({"_typeName": kind, "_value": items});
    }
    let text = node.text.trim();
    let value = match kind {
        "string" => json!(node.text),
        "dateTime" => json!(text),
        "int" | "long" | "short" => text.parse::<i64>().map_or(Value::Null, Value::from),
        "boolean" => json!(text == "true" || text == "1"),
        "double" | "float" => text.parse::<f64>().map_or(Value::Null, Value::from),
        // An enumeration.
        _ if node.children.is_empty() && !text.is_empty() => json!(text),
        _ => return Value::Object(object(node, "")),
    };
    json!({"_typeName": kind, "_value": value})
}

/// An element with children as a JSON object.
fn object(node: &Node, declared: &str) -> Map<String, Value> {
    let kind = node.xsi_type.as_deref().unwrap_or(declared);
    let mut fields = Map::new();
    if !kind.is_empty() {
        fields.insert("_typeName".into(), json!(kind));
    }
    for child in &node.children {
        let (child_kind, list) = field(kind, child);
        let value = value(child, child_kind);
        match fields.get_mut(&child.name) {
            Some(Value::Array(values)) => values.push(value),
            _ if list => {
                fields.insert(child.name.clone(), Value::Array(vec![value]));
            }
            Some(first) => *first = json!([first.take(), value]),
            None => {
                fields.insert(child.name.clone(), value);
            }
        }
    }
    fields
}

/// The kind of a field's value, and true if the field is a list.
fn field(parent: &str, child: &Node) -> (JsonKind, bool) {
    use JsonKind::{Any, Bool, Number, Object, Text};
    let is_event = parent.ends_with("Event") || parent == "EventEx";
    let one = |kind| (kind, false);
    let many = |kind| (kind, true);
    match (parent, child.name.as_str()) {
        ("EventFilterSpec", "entity") => one(Object("EventFilterSpecByEntity")),
        ("EventFilterSpec", "time") => one(Object("EventFilterSpecByTime")),
        ("EventFilterSpec", "userName") => one(Object("EventFilterSpecByUsername")),
        ("EventFilterSpec", "eventTypeId" | "type" | "category" | "tag") => many(Text),
        ("EventFilterSpec", "alarm" | "scheduledTask") => one(Text),
        ("GuestInfo", "net") => many(Object("GuestNicInfo")),
        ("GuestNicInfo", "ipAddress") | ("HostCpuPackage", "threadId") => many(Text),
        ("HostHardwareInfo", "cpuPkg") => many(Object("HostCpuPackage")),
        ("ExtendedEventPair", "value") => one(Text),
        ("EventDescription", "category") => many(Object("ElementDescription")),
        ("UserSession", "key") => one(Text),
        (_, "key") if is_event => one(Number),
        (
            _,
            "chainId" | "callCount" | "progress" | "eventChainId" | "numCPUs" | "numCoresPerSocket"
            | "memoryMB" | "maxCount",
        ) => one(Number),
        (
            _,
            "template" | "cancelled" | "cancelable" | "extensionSession" | "disableFullMessage"
            | "delayedInit" | "systemUser" | "truncated",
        ) => one(Bool),
        (_, "value" | "val" | "result") => one(Any),
        (_, "userList") => many(Text),
        (_, "filterSet") => many(Object("PropertyFilterUpdate")),
        (_, "objectSet") => many(Object("ObjectUpdate")),
        (_, "changeSet") => many(Object("PropertyChange")),
        (_, "objects") => many(Object("ObjectContent")),
        (_, "propSet") => many(Object("DynamicProperty")),
        (_, "eventInfo") => many(Object("EventDescriptionEventDetail")),
        (_, "about") => one(Object("AboutInfo")),
        (_, "arguments" | "arg") => many(Object("KeyAnyValue")),
        (_, "data") => many(Object("ExtendedEventPair")),
        (_, "faultMessage") => many(Object("LocalizableMessage")),
        (_, "locked") => many(Text),
        // References of these names have no children; their attribute has identified them already.
        (_, _) if child.children.is_empty() => one(Text),
        (_, "datacenter" | "sourceDatacenter" | "destDatacenter") => one(Object("DatacenterEventArgument")),
        (_, "computeResource") => one(Object("ComputeResourceEventArgument")),
        (_, "host" | "sourceHost" | "destHost") => one(Object("HostEventArgument")),
        (_, "vm") => one(Object("VmEventArgument")),
        (_, "ds" | "sourceDatastore" | "destDatastore") => one(Object("DatastoreEventArgument")),
        (_, "net") => one(Object("NetworkEventArgument")),
        (_, "dvs") => one(Object("DvsEventArgument")),
        (_, "configSpec") => one(Object("VirtualMachineConfigSpec")),
        (_, "configChanges") => one(Object("ChangesInfoEventArgument")),
        (_, "info") => one(Object("TaskInfo")),
        (_, "description") => one(Object("LocalizableMessage")),
        (_, "error" | "faultCause") => one(Object("LocalizedMethodFault")),
        (_, "alarm") => one(Object("AlarmEventArgument")),
        (_, "source" | "entity") => one(Object("ManagedEntityEventArgument")),
        (_, "scheduledTask") => one(Object("ScheduledTaskEventArgument")),
        _ => one(Text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hello_picks_the_clients_first_common_release() {
        for (asked, expected) in [
            (json!({"api_releases": ["9.1.0.0", "8.0.1.0", "8.0.2.0"]}), "8.0.1.0"),
            (json!({"api_releases": ["9.1.0.0"]}), ""),
            (json!("x"), ""),
        ] {
            assert_eq!(hello(asked.to_string().as_bytes())["api_release"], expected);
        }
    }

    #[test]
    fn paths_name_type_id_and_method() {
        let parts = |path: &str| parse_path(path).map(|(kind, id, name)| format!("{kind} {id} {name}"));
        assert_eq!(
            parts("/sdk/vim25/8.0.2.0/EventHistoryCollector/session%5Ba%5Db/ReadNextEvents").as_deref(),
            Some("EventHistoryCollector session[a]b ReadNextEvents")
        );
        assert_eq!(parts("/sdk/vim25/1.0/A/b/c"), None);
        assert_eq!(parts("/sdk/vim25/8.0.2.0/A"), None);
    }

    #[test]
    fn arguments_become_the_tree_of_soap() {
        let body = json!({
            "filter": {
                "_typeName": "EventFilterSpec",
                "entity": {"entity": {"_typeName": "ManagedObjectReference", "type": "Folder", "value": "group-d1"}, "recursion": "all"},
                "eventTypeId": ["A", "B"],
                "disableFullMessage": false,
            }
        });
        let node = arguments("CreateCollectorForEvents", body.to_string().as_bytes()).unwrap();
        let filter = node.child("filter").unwrap();
        assert_eq!(filter.all("eventTypeId").count(), 2);
        assert_eq!(filter.text_of("disableFullMessage"), Some("false"));
        let entity = filter.child("entity").unwrap().child("entity").unwrap();
        assert_eq!((entity.reference_type.as_deref(), entity.text.as_str()), (Some("Folder"), "group-d1"));
    }

    #[test]
    fn a_recorded_event_has_the_form_of_govmomis_encoder() {
        // One of the recorded events that govmomi encoded, with its answer.
        let xml = "<userName>user</userName><datacenter><name>DC0</name><datacenter type=\"Datacenter\">datacenter-1\
                   </datacenter></datacenter><vm><name>DC0_H0_VM1</name><vm type=\"VirtualMachine\">vm-65</vm></vm>\
                   <fullFormattedMessage>on</fullFormattedMessage><template>false</template>";
        let expected = json!({
            "_typeName": "VmPoweredOnEvent", "userName": "user",
            "datacenter": {"_typeName": "DatacenterEventArgument", "name": "DC0",
                "datacenter": {"_typeName": "ManagedObjectReference", "type": "Datacenter", "value": "datacenter-1"}},
            "vm": {"_typeName": "VmEventArgument", "name": "DC0_H0_VM1",
                "vm": {"_typeName": "ManagedObjectReference", "type": "VirtualMachine", "value": "vm-65"}},
            "fullFormattedMessage": "on", "template": false
        });
        let text = format!("{{\"_typeName\":\"VmPoweredOnEvent\"{}", event_fields("VmPoweredOnEvent", xml));
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected);
    }

    #[test]
    fn any_values_carry_their_type_and_lists_of_one_stay_lists() {
        let xml = "<arguments><key>a</key><value xsi:type=\"xsd:int\">42</value></arguments>";
        let text = format!("{{\"x\":1{}", event_fields("EventEx", xml));
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(
            value["arguments"],
            json!([{"_typeName": "KeyAnyValue", "key": "a", "value": {"_typeName": "int", "_value": 42}}])
        );
    }
}
