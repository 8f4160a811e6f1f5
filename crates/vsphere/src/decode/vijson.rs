//! Pages of VI/JSON, from vCenter 8.0 U1 and later. The JSON becomes the same elements as the
//! event's XML, and the reference decoder renders those.
//!
//! ```text
//! {"_typeName":"VmEvent","key":4,"vm":{…}}        <returnval xsi:type="VmEvent"><key>4</key><vm>…
//! {"_typeName":"ManagedObjectReference",…}        <vm type="VirtualMachine">vm-65</vm>
//! {"_typeName":"int","_value":5}                  <value xsi:type="xsd:int">5</value>
//! {"_typeName":"ArrayOfString","_value":["a"]}    <value xsi:type="ArrayOfString"><String>a…
//! "device":[{…},{…}]                              <device>…</device><device>…</device>
//! ```

use simd_json::borrowed::{Object, Value};
use simd_json::prelude::*;

use super::markup::{Declared, PageElement};
use super::{Decoded, Spelling, array, reference};
use crate::DecodeError;
use crate::Span;
use crate::limits::XML_DEPTH_MAX;

/// Decodes an array of events.
pub(super) fn decode(page: &[u8], spelling: Spelling, out: &mut Decoded) -> Result<(), DecodeError> {
    out.clear();
    // simd-json unescapes strings in place.
    let mut bytes = page.to_vec();
    // The places of the events as they were sent; simd-json does not report them.
    let mut sent = Vec::new();
    array::items(page, |item| sent.push(Span::new(item.start, item.end)));
    let page = simd_json::to_borrowed_value(&mut bytes)
        .map_err(|error| DecodeError { offset: error.index(), reason: error.to_string() })?;
    let events = page.as_array().ok_or_else(|| fail("not a vCenter answer: not an array of events"))?;
    for (at, event) in events.iter().enumerate() {
        let object = event
            .as_object()
            .ok_or_else(|| fail("an event is not an object"))
            .inspect_err(|_| out.clear())?;
        let element = element("returnval", object, 1).inspect_err(|_| out.clear())?;
        reference::event(&element, sent.get(at).copied().unwrap_or(Span::EMPTY), spelling, out);
    }
    Ok(())
}

fn fail(reason: &str) -> DecodeError {
    DecodeError { offset: 0, reason: reason.into() }
}

/// The XML element of a JSON object.
fn element<'v>(name: &'v str, object: &'v Object<'v>, depth: usize) -> Result<PageElement<'v>, DecodeError> {
    if depth > XML_DEPTH_MAX {
        return Err(fail("objects nest too deeply"));
    }
    let text = |key: &str| object.get(key).and_then(|value| value.as_str()).unwrap_or_default();
    let class = text("_typeName");
    if class == "ManagedObjectReference" {
        return Ok(PageElement {
            name,
            declared: Some(Declared::Class(class.into())),
            reference_type: Some(text("type").into()),
            text: text("value").into(),
            ..PageElement::default()
        });
    }
    let mut element = PageElement {
        name,
        declared: (!class.is_empty()).then(|| declared(class)),
        ..PageElement::default()
    };
    match (object.get("_value"), class.strip_prefix("ArrayOf")) {
        (Some(value), Some(item)) if value.is_array() => children(&mut element.children, item, value, depth)?,
        (Some(value), _) => element.text = plain(value).unwrap_or_default(),
        (None, _) => {
            for (key, value) in object.iter().filter(|(key, _)| *key != "_typeName") {
                children(&mut element.children, key, value, depth)?;
            }
        }
    }
    Ok(element)
}

/// Appends the XML elements of one member: none for null, one for each item of an array.
fn children<'v>(
    into: &mut Vec<PageElement<'v>>,
    name: &'v str,
    value: &'v Value<'v>,
    depth: usize,
) -> Result<(), DecodeError> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| match item {
            Value::Array(_) => Err(fail("an array within an array")),
            item => children(into, name, item, depth),
        }),
        Value::Object(object) => {
            into.push(element(name, object, depth + 1)?);
            Ok(())
        }
        value => {
            into.extend(plain(value).map(|text| PageElement { name, text, ..PageElement::default() }));
            Ok(())
        }
    }
}

/// The text between an element's tags; `None` for null.
fn plain<'v>(value: &'v Value<'v>) -> Option<std::borrow::Cow<'v, str>> {
    match value {
        Value::String(text) => Some((&**text).into()),
        Value::Static(simd_json::StaticNode::Null) => None,
        value => Some(value.encode().into()),
    }
}

/// The type that a `_typeName` names. Primitives have XML Schema's names, except `binary`.
fn declared(class: &str) -> Declared<'_> {
    match class {
        "binary" => Declared::Schema("base64Binary".into()),
        _ if class.starts_with(|c: char| c.is_ascii_lowercase()) => Declared::Schema(class.into()),
        _ => Declared::Class(class.into()),
    }
}
