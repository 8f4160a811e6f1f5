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

use std::ops::Range;

use simd_json::Buffers;
use simd_json::borrowed::{Object, Value};
use simd_json::prelude::*;

use super::array::{ArrayItem, ArrayItems};
use super::markup::{Declared, PageElement};
use super::quota::{ELEMENT_BYTES, Quota, QuotaExceeded};
use super::salvage::{self, Broken};
use super::{Decoded, Spelling, reference};
use crate::DecodeError;
use crate::Span;
use crate::limits::XML_DEPTH_MAX;

/// Bytes that a value takes at most besides its element: 8 in the index of brackets and commas, 24
/// on the tape, 24 as a value of a list that grows by doubling, and 160 as the only member of an
/// object.
const VALUE_BYTES: usize = 256;

/// Decodes an array of events.
pub(super) fn decode(
    page: &[u8],
    spelling: Spelling,
    quota: &mut Quota<'_>,
    out: &mut Decoded,
) -> Result<(), DecodeError> {
    out.clear();
    read(page, spelling, quota, out).inspect_err(|_| out.clear())
}

fn read(
    page: &[u8],
    spelling: Spelling,
    quota: &mut Quota<'_>,
    out: &mut Decoded,
) -> Result<(), DecodeError> {
    super::check_size(page)?;
    let mut items =
        ArrayItems::new(page).ok_or_else(|| fail("not a vCenter answer: not an array of events"))?;
    super::reserve(page.len(), quota, out);
    let mut reader = Reader::default();
    // The commas before this item. A comma is followed by an item, `[]` has none.
    let mut commas = 0;
    while let Some(item) = items.next() {
        if item.range.is_empty() && commas == 0 && items.is_whole() {
            break;
        }
        reader.event(page, item, spelling, quota, out)?;
        commas += 1;
    }
    match items.is_whole() {
        true => Ok(()),
        false => Err(DecodeError { offset: page.len(), reason: "the array of events does not end".into() }),
    }
}

/// Decodes the events of a page one by one, and returns those that cannot be decoded.
pub(super) fn decode_items(page: &[u8], quota: &mut Quota<'_>, out: &mut Decoded) -> Vec<Broken> {
    let whole = |error| vec![Broken { range: 0..page.len(), error }];
    if let Err(error) = super::check_size(page) {
        return whole(error);
    }
    let Some(mut items) = ArrayItems::new(page) else { return whole(fail("not an array of events")) };
    super::reserve(page.len(), quota, out);
    let (mut reader, mut broken) = (Reader::default(), Vec::new());
    for item in items.by_ref().filter(|item| !item.range.is_empty()) {
        salvage::decode_one(item.range.clone(), page.len(), quota, out, &mut broken, |quota, out| {
            reader.event(page, item, Spelling::Pascal, quota, out)
        });
    }
    if !items.is_whole() {
        let error = DecodeError { offset: page.len(), reason: "the array of events does not end".into() };
        broken.push(Broken { range: items.rest(), error });
    }
    broken
}

/// A reader of events, with memory that is used again.
#[derive(Default)]
pub(super) struct Reader {
    bytes: Vec<u8>,
    buffers: Buffers,
}

impl Reader {
    /// Decodes one event of a page.
    pub fn event(
        &mut self,
        page: &[u8],
        item: ArrayItem,
        spelling: Spelling,
        quota: &mut Quota<'_>,
        out: &mut Decoded,
    ) -> Result<(), DecodeError> {
        let Range { start, end } = item.range;
        let at = |error: DecodeError| DecodeError { offset: start + error.offset, ..error };
        // Each value becomes an element, and so does the event.
        if item.values > quota.elements_max() {
            return Err(QuotaExceeded::Elements(quota.elements_max()).at(start));
        }
        if item.depth > XML_DEPTH_MAX {
            return Err(at(fail("objects nest too deeply")));
        }
        // The copy, and the parser's own copy and its buffer for strings.
        quota.hold_tree((item.values + 1) * (ELEMENT_BYTES + VALUE_BYTES) + 3 * (end - start));
        // simd-json unescapes strings in place.
        self.bytes.clear();
        self.bytes.extend_from_slice(&page[start..end]);
        let event = simd_json::borrowed::to_value_with_buffers(&mut self.bytes, &mut self.buffers)
            .map_err(|error| at(DecodeError { offset: error.index(), reason: error.to_string() }))?;
        let object = event.as_object().ok_or_else(|| at(fail("an event is not an object")))?;
        let element = element("returnval", object, 1).map_err(at)?;
        reference::event(&element, Span::new(start, end), spelling, quota, out)
    }
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
