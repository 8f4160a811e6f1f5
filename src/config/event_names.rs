//! Advice about names of events that match nothing: in patterns, filters and topics.
//!
//! A wrong name is no error. A newer vCenter may have an event type that the schema does not know,
//! and an `eventTypeId` such as `com.vmware.vc.HA.x` belongs to a plugin. The advice concerns names
//! that are certainly meant otherwise: `vim.event.VmPoweredOnEvent`, as pyVmomi and govmomi show a
//! class, a wrong case, or a spelling mistake.

use std::sync::{Arc, LazyLock};

use eventpattern::{Event, PatternSet, Root};
use serde_json::{Value, json};
use vsphere::schema::{self, Class, ClassId, Kind};

use super::check::nearest;
use crate::event::{Category, type_of};

/// The classes of events, by name.
static CLASSES: LazyLock<Vec<&'static Class>> =
    LazyLock::new(|| schema::classes().filter(|class| class.is_event).collect());

/// The attributes of a CloudEvent that a pattern can name, besides extensions.
const ATTRIBUTES: [&str; 8] =
    ["id", "source", "specversion", "type", "subject", "time", "datacontenttype", "data"];

/// The extensions that the router sets. A push source may have others.
const EXTENSIONS: [&str; 7] = [
    "sequence",
    "partitionkey",
    "vsphereapiversion",
    "eventclass",
    "severitytext",
    "severitynumber",
    "category",
];

/// Names the event type that was meant by `name`, if that is no event type.
pub fn advice(name: &str) -> Option<String> {
    match meant(name)? {
        Some(meant) => Some(format!("`{name}` is the name of no event type; did you mean `{meant}`?")),
        None => Some(format!("`{name}` is the name of no event type; `event-router events` lists the types")),
    }
}

/// Advice about an entry of `filter.eventTypes`, which vCenter compares as it is.
pub fn filter_advice(name: &str) -> Option<String> {
    if name.contains('*') {
        return Some(format!("`{name}`: vCenter's filter knows no wildcards; use the `pattern` of a route"));
    }
    advice(name)
}

/// Advice about a name among the event types that a vCenter itself lists.
pub fn listed_advice<'l>(name: &str, listed: impl Iterator<Item = &'l str> + Clone) -> Option<String> {
    // The list has no abstract classes such as `VmEvent`.
    if CLASSES.iter().any(|class| class.name == name) || listed.clone().any(|known| known == name) {
        return None;
    }
    let meant =
        listed.clone().find(|known| known.eq_ignore_ascii_case(name)).or_else(|| nearest(name, listed));
    Some(match meant {
        Some(meant) => format!("this vCenter has no event type `{name}`; did you mean `{meant}`?"),
        None => format!("this vCenter has no event type `{name}`"),
    })
}

/// `None` if `name` can be an event's name. Otherwise the name that was probably meant.
fn meant(name: &str) -> Option<Option<&'static str>> {
    let is_class = |text: &str| CLASSES.iter().find(|class| class.name == text).map(|class| class.name);
    if is_class(name).is_some() {
        return None;
    }
    let bare = name.strip_prefix("vim.event.").or(name.strip_prefix("vim25:")).unwrap_or(name);
    if let Some(class) = is_class(bare) {
        return Some(Some(class));
    }
    // An id of a plugin's event.
    if name.contains('.') {
        return None;
    }
    let same = |class: &&&Class| {
        let stem = class.name.strip_suffix("Event").unwrap_or(class.name);
        class.name.eq_ignore_ascii_case(bare) || stem.eq_ignore_ascii_case(bare)
    };
    let class = CLASSES.iter().find(same).map(|class| class.name);
    Some(class.or_else(|| nearest(bare, CLASSES.iter().map(|class| class.name))))
}

/// Advice about a topic that selects the events of no class. It is a name, perhaps with `*`.
pub fn topic_advice(topic: &str) -> Option<String> {
    if !topic.contains('*') {
        return advice(topic);
    }
    let bare = topic.replace("vim.event.", "");
    match (bare == topic, topic.contains('.')) {
        (false, _) => Some(format!("`{topic}` matches no event type; did you mean `{bare}`?")),
        // It may match the ids of a plugin's events.
        (true, true) => None,
        (true, false) => Some(format!("`{topic}` matches no event type; names are case-sensitive")),
    }
}

/// Advice about a pattern over CloudEvents: the JSON path that it concerns, and the sentence.
pub fn pattern_advice(pattern: &Value) -> Vec<(String, String)> {
    let mut advice = Vec::new();
    top(pattern, "$", &mut advice);
    advice
}

type Advice = Vec<(String, String)>;

fn top(pattern: &Value, path: &str, advice: &mut Advice) {
    for (key, value) in pattern.as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        match (key.as_str(), value) {
            ("$or", Value::Array(alternatives)) => {
                for (i, alternative) in alternatives.iter().enumerate() {
                    top(alternative, &format!("{path}[{i}]"), advice);
                }
            }
            ("data", Value::Object(_)) => data(value, &path, &path, &CLASSES, advice),
            ("data", _) => advice.push((
                path.clone(),
                "`data` is an object; a condition matches one of its members, such as `data.UserName`".into(),
            )),
            ("subject", Value::Array(conditions)) => {
                each_name(conditions, &path, advice, self::advice);
                each_part(conditions, &path, advice);
            }
            ("type", Value::Array(conditions)) => each_name(conditions, &path, advice, event_type),
            (_, Value::Object(_)) => advice.push((path, no_attribute(key, true))),
            _ if is_attribute(key) => {}
            _ => advice.push((path, no_attribute(key, false))),
        }
    }
}

/// Returns true for an attribute of CloudEvents or of the router, and for every name that another
/// extension can have, unless it looks like a misspelt attribute.
fn is_attribute(key: &str) -> bool {
    let is_name = key.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    attributes().any(|known| known == key) || (is_name && nearest(key, attributes()).is_none())
}

fn attributes() -> impl Iterator<Item = &'static str> {
    ATTRIBUTES.into_iter().chain(EXTENSIONS)
}

fn no_attribute(key: &str, has_members: bool) -> String {
    let near = match key {
        "detail" => Some("data"),
        "detail-type" | "detailType" => Some("subject"),
        _ if has_members => nearest(key, ["data"]),
        _ => nearest(key, attributes()),
    };
    match near {
        Some(near) => format!("events have no `{key}`; did you mean `{near}`?"),
        None if has_members => format!("events have no members below `{key}`, only below `data`"),
        None => format!("events have no attribute `{key}`"),
    }
}

/// Advice about the texts that conditions compare with as a whole.
fn each_name(conditions: &[Value], path: &str, advice: &mut Advice, said: fn(&str) -> Option<String>) {
    for (i, condition) in conditions.iter().enumerate() {
        if let Some(said) = condition.as_str().and_then(said) {
            advice.push((format!("{path}[{i}]"), said));
        }
    }
}

/// Advice about conditions that compare with a part of the subject.
fn each_part(conditions: &[Value], path: &str, advice: &mut Advice) {
    for (i, condition) in conditions.iter().enumerate() {
        let operand = |name: &str| condition.get(name).and_then(Value::as_str);
        let wildcard = operand("wildcard").map(str::to_owned);
        let Some(topic) = wildcard.or_else(|| operand("prefix").map(|prefix| format!("{prefix}*"))) else {
            continue;
        };
        if let Some(said) = part_advice(&topic, condition) {
            advice.push((format!("{path}[{i}]"), said));
        }
    }
}

/// Advice about a condition on a part of the subject, which reads as `topic`. One with escapes gets
/// no advice.
fn part_advice(topic: &str, condition: &Value) -> Option<String> {
    if topic.contains('\\') {
        return None;
    }
    let set = PatternSet::compile(Root::CloudEvent, &[(0, json!({ "subject": [condition] }))]).ok()?;
    let (mut matcher, mut matched) = (Arc::new(set).matcher(), Vec::new());
    let mut selects = |subject| {
        matched.clear();
        matcher.matches(&Event { subject, ..Event::default() }, &mut matched);
        !matched.is_empty()
    };
    if CLASSES.iter().any(|class| selects(class.name)) { None } else { topic_advice(topic) }
}

fn event_type(name: &str) -> Option<String> {
    let types = [Category::Event, Category::EventEx, Category::ExtendedEvent].map(type_of);
    if types.contains(&name) {
        return None;
    }
    if CLASSES.iter().any(|class| class.name == name || name.ends_with(&format!(".{}", class.name))) {
        return Some(format!("`{name}` is no `type`; the name of an event type is in `subject`"));
    }
    // Other types belong to events that a webhook receives.
    nearest(name, types)
        .map(|near| format!("`{name}` is the `type` of no event of a vCenter; did you mean `{near}`?"))
}

/// Walks through the members below `data`, where `classes` may stand.
fn data(pattern: &Value, path: &str, shown: &str, classes: &[&'static Class], advice: &mut Advice) {
    for (key, value) in pattern.as_object().into_iter().flatten() {
        let path = format!("{path}.{key}");
        if let ("$or", Value::Array(alternatives)) = (key.as_str(), value) {
            for (i, alternative) in alternatives.iter().enumerate() {
                data(alternative, &format!("{path}[{i}]"), shown, classes, advice);
            }
            continue;
        }
        let fields = || classes.iter().flat_map(|class| &*class.fields);
        let found: Vec<_> = fields().filter(|field| *field.key == **key).collect();
        if found.is_empty() {
            let near = nearest(key, fields().map(|field| &*field.key));
            let shown = shown.trim_start_matches("$.");
            advice.push((
                path,
                match near {
                    Some(near) => format!("no event has `{shown}.{key}`; did you mean `{near}`?"),
                    None => format!("no event has `{shown}.{key}`"),
                },
            ));
            continue;
        }
        let shown = format!("{shown}.{key}");
        // Without `None`, all kinds are objects, and their classes are known completely.
        let objects: Option<Vec<ClassId>> = found
            .iter()
            .map(|field| match field.kind {
                Kind::Object(class) if !class.class().has_subclasses => Some(class),
                _ => None,
            })
            .collect();
        let is_object = found.iter().all(|field| matches!(field.kind, Kind::Object(_) | Kind::Reference));
        match (value, objects) {
            (Value::Object(_), Some(objects)) => {
                let classes: Vec<_> = objects.into_iter().map(ClassId::class).collect();
                data(value, &path, &shown, &classes, advice);
            }
            // `null` matches an object that the event does not have.
            (Value::Array(conditions), _) if is_object && !conditions.contains(&Value::Null) => {
                let shown = shown.trim_start_matches("$.");
                let member = match found[0].kind {
                    Kind::Object(class) => class.class().fields.first().map_or("Name", |field| &*field.key),
                    _ => "Value",
                };
                advice.push((
                    path,
                    format!("`{shown}` is an object; a condition, `exists` included, matches one of its members, such as `{shown}.{member}`"),
                ));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_matches_nothing_gets_the_right_spelling() {
        let check = |name: &str, parts: Option<&[&str]>| match (advice(name), parts) {
            (None, None) => {}
            (Some(said), Some(parts)) => {
                assert!(parts.iter().all(|part| said.contains(part)), "{name}: {said}")
            }
            (said, _) => panic!("{name}: {said:?}"),
        };
        for right in ["VmPoweredOnEvent", "EventEx", "com.vmware.vc.HA.x", "vim.event.LicenseDowngradedEvent"]
        {
            check(right, None);
        }
        let meant: Option<&[&str]> = Some(&["no event type", "`VmPoweredOnEvent`"]);
        for wrong in [
            "vim.event.VmPoweredOnEvent",
            "vim25:VmPoweredOnEvent",
            "vmpoweredonevent",
            "VmPoweredOn",
            "VmPowerdOnEvent",
        ] {
            check(wrong, meant);
        }
        check("zzz", Some(&["no event type", "event-router events"]));
    }

    #[test]
    fn patterns_that_match_nothing_are_explained() {
        let check = |pattern: Value, expected: &[(&str, &str)]| {
            let found = pattern_advice(&pattern);
            assert_eq!(found.len(), expected.len(), "{pattern}: {found:?}");
            for ((path, said), (at, part)) in found.iter().zip(expected) {
                assert!(path == at && said.contains(part), "{pattern}: {path} {said}, not {at} {part}");
            }
        };
        check(json!({"subject": ["VmPoweredOnEvent", {"prefix": "Vm"}, {"wildcard": "*PoweredOn*"}]}), &[]);
        check(json!({"subject": ["vim.event.VmPoweredOnEvent"]}), &[("$.subject[0]", "did you mean")]);
        check(json!({"subject": [{"prefix": "vm"}]}), &[("$.subject[0]", "case-sensitive")]);
        check(json!({"subject": [{"wildcard": "vim.event.Vm*"}]}), &[("$.subject[0]", "`Vm*`")]);
        check(json!({"subject": [{"prefix": "com.vmware."}]}), &[]);
        check(json!({"type": ["com.vmware.event.router/event"]}), &[]);
        check(
            json!({"type": ["com.vmware.event.router/Event"]}),
            &[("$.type[0]", "`com.vmware.event.router/event`")],
        );
        check(json!({"type": ["VmPoweredOnEvent"]}), &[("$.type[0]", "in `subject`")]);
        check(json!({"Data": {"Key": [1]}}), &[("$.Data", "`data`")]);
        check(json!({"detail": {"Key": [1]}}), &[("$.detail", "`data`")]);
        check(json!({"Subject": ["x"]}), &[("$.Subject", "`subject`")]);
        check(json!({"subjct": ["x"]}), &[("$.subjct", "did you mean `subject`?")]);
        check(json!({"severitytxt": ["WARN"]}), &[("$.severitytxt", "`severitytext`")]);
        check(json!({"traceparent": ["x"], "tenant": ["y"]}), &[]);
        check(json!({"eventclass": ["event"]}), &[]);
        check(json!({"data": [{"exists": true}]}), &[("$.data", "is an object")]);
        check(json!({"data": {"Vm": {"Name": [{"prefix": "web-"}]}, "UserName": ["root"]}}), &[]);
        check(json!({"data": {"vm": {"name": ["x"]}}}), &[("$.data.vm", "`Vm`")]);
        check(json!({"data": {"Vm": {"name": ["x"]}}}), &[("$.data.Vm.name", "`Name`")]);
        check(json!({"data": {"Vm": [{"exists": true}]}}), &[("$.data.Vm", "`data.Vm.Name`")]);
        check(
            json!({"$or": [{"subject": ["vmpoweredonevent"]}]}),
            &[("$.$or[0].subject[0]", "`VmPoweredOnEvent`")],
        );
        check(json!({"data": {"Vm": {"Vm": {"Value": ["vm-1"]}}}}), &[]);
        check(json!({"data": {"Vm": [null]}}), &[]);
    }
}
