//! The expected data of an event, and its comparison with delivered data.
//!
//! The expectation is a tree that all events of a template share, with places for the values that
//! differ from event to event. `pascal` and `vijson` make the tree; `difference` compares it with
//! one delivery.

use std::borrow::Cow;

use serde_json::Value;

use super::types::{self, Field, FieldKind};
use crate::vcenter::clock::{format_micros, parse_micros, round_to_millis};
use crate::vcenter::xml::Node;

/// The expected value of a field. Texts may hold the placeholders of the templates.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Expected {
    Null,
    Bool(bool),
    /// Digits of the number.
    Number(String),
    Text(String),
    /// Text of an instant, as vCenter sent it.
    Time(String),
    List(Vec<Expected>),
    Object(Vec<(String, Expected)>),
    Key,
    ChainId,
    CreatedTime,
}

/// The way an instant is written.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum TimeForm {
    /// RFC 3339 without trailing zeros of the fraction.
    Go,
    /// Any form: only the instant counts.
    Instant,
}

/// The values of one event that fill the places.
#[derive(Clone, Debug)]
pub(super) struct Values {
    pub vm: u32,
    pub host: u32,
    pub index: u64,
    pub key: i32,
    pub chain_id: i32,
    pub created_us: i64,
    pub times: TimeForm,
}

/// The first field that differs.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Difference {
    pub path: String,
    pub expected: String,
    pub found: String,
}

impl Values {
    /// The text with its places filled.
    pub fn fill<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if !text.contains('{') {
            return Cow::Borrowed(text);
        }
        let filled = text
            .replace("{vm6}", &format!("{:06}", self.vm))
            .replace("{host4}", &format!("{:04}", self.host))
            .replace("{seq8}", &format!("{:08}", self.index % 100_000_000));
        Cow::Owned(match filled.contains("{time}") {
            true => filled.replace("{time}", &format_micros(self.created_us)),
            false => filled,
        })
    }

    /// `createdTime` as vCenter writes it: with six digits, or rounded to three as in some
    /// releases.
    pub fn created_texts(&self) -> [String; 2] {
        [format_micros(self.created_us), format_micros(round_to_millis(self.created_us))]
    }
}

/// An instant as Go writes it: no trailing zeros in the fraction.
pub(super) fn go_time(text: &str) -> String {
    let Some((whole, fraction)) = text.split_once('.') else { return text.to_owned() };
    let digits_end = fraction.find(|c: char| !c.is_ascii_digit()).unwrap_or(fraction.len());
    let (digits, zone) = fraction.split_at(digits_end);
    match digits.trim_end_matches('0') {
        "" => format!("{whole}{zone}"),
        digits => format!("{whole}.{digits}{zone}"),
    }
}

/// The data of an event of `class` in PascalCase, from the elements that follow createdTime.
pub(super) fn pascal(class: &str, node: &Node) -> Expected {
    // A class that govmomi does not know has at least the fields of every event.
    let declared = if types::is_known(class) { class } else { "Event" };
    let mut fields = object_fields(declared, node);
    for (name, want) in
        [("Key", Expected::Key), ("ChainId", Expected::ChainId), ("CreatedTime", Expected::CreatedTime)]
    {
        if let Some(field) = fields.iter_mut().find(|(known, _)| known == name) {
            field.1 = want;
        }
    }
    Expected::Object(fields)
}

/// The fields of an object of `class`, in govmomi's order.
fn object_fields(class: &str, node: &Node) -> Vec<(String, Expected)> {
    let declared = types::fields(class);
    let mut fields: Vec<(String, Expected)> = declared
        .iter()
        .map(|field| {
            let mut found = node.children.iter().filter(|child| pascal_case(&child.name) == field.name);
            let want = match found.next() {
                None => absent(field),
                Some(first) if field.list => Expected::List(
                    std::iter::once(first).chain(found).map(|child| present(field.kind, child)).collect(),
                ),
                Some(first) => present(field.kind, first),
            };
            (field.name.to_owned(), want)
        })
        .collect();
    // A field that no type declares is delivered as text.
    for child in &node.children {
        let name = pascal_case(&child.name);
        if fields.iter().all(|(known, _)| *known != name) {
            fields.push((name, undeclared(child)));
        }
    }
    fields
}

/// The value of an element that no type declares: text, or an object of texts.
fn undeclared(node: &Node) -> Expected {
    if node.children.is_empty() {
        return Expected::Text(node.text.clone());
    }
    Expected::Object(
        node.children.iter().map(|child| (pascal_case(&child.name), undeclared(child))).collect(),
    )
}

/// The value of a field that the event does not have.
fn absent(field: &Field) -> Expected {
    if field.list || field.optional {
        return Expected::Null;
    }
    match field.kind {
        FieldKind::Text => Expected::Text(String::new()),
        FieldKind::Number => Expected::Number("0".to_owned()),
        FieldKind::Bool => Expected::Bool(false),
        FieldKind::Time => Expected::Time("0001-01-01T00:00:00Z".to_owned()),
        FieldKind::Reference => reference("", ""),
        FieldKind::Any => Expected::Null,
        FieldKind::Object(class) => Expected::Object(object_fields(class, &Node::default())),
    }
}

fn reference(kind: &str, value: &str) -> Expected {
    let text = |text: &str| Expected::Text(text.to_owned());
    Expected::Object(vec![("Type".to_owned(), text(kind)), ("Value".to_owned(), text(value))])
}

/// The value of a field that the event has.
fn present(kind: FieldKind, node: &Node) -> Expected {
    let text = || node.text.clone();
    match kind {
        FieldKind::Text => Expected::Text(text()),
        FieldKind::Number => Expected::Number(text()),
        FieldKind::Bool => Expected::Bool(matches!(node.text.trim(), "true" | "1")),
        FieldKind::Time => Expected::Time(text()),
        FieldKind::Reference => reference(node.reference_type.as_deref().unwrap_or_default(), &node.text),
        FieldKind::Any => match node.xsi_type.as_deref() {
            Some("boolean") => present(FieldKind::Bool, node),
            Some("byte" | "short" | "int" | "long") => present(FieldKind::Number, node),
            Some("dateTime") => present(FieldKind::Time, node),
            Some("ManagedObjectReference") => present(FieldKind::Reference, node),
            Some(class) if types::is_known(class) => Expected::Object(object_fields(class, node)),
            _ => Expected::Text(text()),
        },
        FieldKind::Object(declared) => {
            let class = node.xsi_type.as_deref().filter(|class| types::is_known(class)).unwrap_or(declared);
            Expected::Object(object_fields(class, node))
        }
    }
}

/// The name of a Go field: the element's name with a capital.
fn pascal_case(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

/// The data of an event in VI/JSON, from the JSON of its template. Its numbers are final, except
/// the one below; its texts hold placeholders.
pub(super) fn vijson(sent: &Value) -> Expected {
    match sent {
        Value::Null => Expected::Null,
        Value::Bool(value) => Expected::Bool(*value),
        Value::Number(number) => Expected::Number(number.to_string()),
        // The only number that differs from event to event.
        Value::String(text) if text == "1{seq8}" => Expected::Number(text.clone()),
        Value::String(text) if text == "{time}" => Expected::Time(text.clone()),
        Value::String(text) => Expected::Text(text.clone()),
        Value::Array(items) => Expected::List(items.iter().map(vijson).collect()),
        Value::Object(fields) => {
            Expected::Object(fields.iter().map(|(name, value)| (name.clone(), vijson(value))).collect())
        }
    }
}

/// The first field whose value differs from the expected one.
pub(super) fn difference(want: &Expected, found: &Value, path: &str, values: &Values) -> Option<Difference> {
    let differs =
        |expected: String| Some(Difference { path: path.to_owned(), expected, found: found.to_string() });
    let number = |digits: &str| match found {
        Value::Number(number) if number.to_string() == digits => None,
        _ => differs(digits.to_owned()),
    };
    match (want, found) {
        (Expected::Null, Value::Null) => None,
        (Expected::Null, _) => differs("null".to_owned()),
        (Expected::Bool(value), found) => {
            if found == value {
                None
            } else {
                differs(value.to_string())
            }
        }
        // Numbers compare as texts, because 12 and 12.5 share no integer type.
        (Expected::Number(digits), _) => number(&values.fill(digits)),
        (Expected::Key, _) => number(&values.key.to_string()),
        (Expected::ChainId, _) => number(&values.chain_id.to_string()),
        (Expected::Text(text), _) => {
            let text = values.fill(text);
            if found.as_str() == Some(&text) { None } else { differs(Value::from(text).to_string()) }
        }
        // Times compare in the form of the payload.
        (Expected::Time(text), _) => {
            let text = values.fill(text);
            if is_time(found, &text, values.times) {
                None
            } else {
                differs(Value::from(go_time(&text)).to_string())
            }
        }
        (Expected::CreatedTime, _) => {
            let texts = values.created_texts();
            let same = texts.iter().any(|text| is_time(found, text, values.times));
            if same { None } else { differs(Value::from(go_time(&texts[0])).to_string()) }
        }
        // Lists compare item by item, after their lengths.
        (Expected::List(wanted), Value::Array(items)) => {
            if wanted.len() != items.len() {
                return differs(format!("a list of {}", wanted.len()));
            }
            let mut each = wanted.iter().zip(items).enumerate();
            each.find_map(|(at, (want, item))| difference(want, item, &format!("{path}[{at}]"), values))
        }
        (Expected::List(wanted), _) => differs(format!("a list of {}", wanted.len())),
        // Objects compare expected fields first, then look for a field that nobody expects.
        (Expected::Object(wanted), Value::Object(fields)) => {
            let path_of =
                |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
            let wrong = wanted.iter().find_map(|(name, want)| match fields.get(name) {
                Some(found) => difference(want, found, &path_of(name), values),
                None => Some(Difference {
                    path: path_of(name),
                    expected: in_words(want, values),
                    found: "no such field".to_owned(),
                }),
            });
            wrong.or_else(|| {
                let (name, found) =
                    fields.iter().find(|(name, _)| wanted.iter().all(|(known, _)| known != *name))?;
                Some(Difference {
                    path: path_of(name),
                    expected: "no such field".to_owned(),
                    found: found.to_string(),
                })
            })
        }
        (Expected::Object(_), _) => differs("an object".to_owned()),
    }
}

fn is_time(found: &Value, text: &str, form: TimeForm) -> bool {
    let Some(found) = found.as_str() else { return false };
    match form {
        TimeForm::Go => found == go_time(text),
        TimeForm::Instant => parse_micros(found).is_some() && parse_micros(found) == parse_micros(text),
    }
}

/// An expected value as text, for the report.
fn in_words(want: &Expected, values: &Values) -> String {
    match want {
        Expected::Null => "null".to_owned(),
        Expected::Bool(value) => value.to_string(),
        Expected::Number(digits) => values.fill(digits).into_owned(),
        Expected::Text(text) => Value::from(values.fill(text)).to_string(),
        Expected::Time(text) => Value::from(go_time(&values.fill(text))).to_string(),
        Expected::CreatedTime => Value::from(go_time(&values.created_texts()[0])).to_string(),
        Expected::Key => values.key.to_string(),
        Expected::ChainId => values.chain_id.to_string(),
        Expected::List(items) => format!("a list of {}", items.len()),
        Expected::Object(_) => "an object".to_owned(),
    }
}

/// The first place at which two elements differ. The names of the outermost elements belong to the
/// transport and are not compared.
pub(super) fn xml_difference(want: &Node, found: &Node, path: &str) -> Option<Difference> {
    let differs = |what: &str, expected: &str, found: &str| {
        Some(Difference {
            path: format!("{path}{what}"),
            expected: expected.to_owned(),
            found: found.to_owned(),
        })
    };
    let kind = |node: &Node| node.xsi_type.clone().unwrap_or_else(|| "none".to_owned());
    if want.xsi_type != found.xsi_type {
        return differs("@xsi:type", &kind(want), &kind(found));
    }
    let reference = |node: &Node| node.reference_type.clone().unwrap_or_else(|| "none".to_owned());
    if want.reference_type != found.reference_type {
        return differs("@type", &reference(want), &reference(found));
    }
    if want.text != found.text {
        return differs("", &want.text, &found.text);
    }
    let pairs = want.children.iter().zip(&found.children);
    let wrong = pairs.into_iter().find_map(|(want, found)| {
        if want.name != found.name {
            return differs("", &format!("<{}>", want.name), &format!("<{}>", found.name));
        }
        xml_difference(want, found, &format!("{path}/{}", want.name))
    });
    if wrong.is_some() || want.children.len() == found.children.len() {
        return wrong;
    }
    differs("", &format!("{} elements", want.children.len()), &format!("{} elements", found.children.len()))
}
