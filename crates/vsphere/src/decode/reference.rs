//! The reference decoder, which defines the correct output. It reads an event as a tree of elements
//! and renders the tree member by member in schema order.
//!
//! Functions read what govmomi's structs marshal to. The decoder therefore follows govmomi 0.30
//! wherever govmomi keeps the data that vCenter sent:
//!
//! - A repeated element: of plain values the last counts, of anyType values the first; objects are
//!   merged.
//! - A plain value is only the text between its own tags, without that of child elements. An object
//!   is only its elements.
//! - `xsi:nil` matters only for a value of undeclared type: it makes an empty element null.
//!
//! Data that govmomi drops is kept: unknown classes and members, untyped values, and the second of
//! two encodings of binary data.

use base64::prelude::{BASE64_STANDARD, Engine};
use rustc_hash::FxHashMap;

use super::fast::bytes::Out;
use super::markup::{Declared, PageElement};
use super::quota::Quota;
use super::{Decoded, Spelling, json, push_record, time};
use crate::DecodeError;
use crate::schema::{self, Absent, Class, Field, Kind};
use crate::{Category, EventRecord, Span};

/// Decodes the first XML document of `page` and returns the offset of its end.
///
/// # Errors
/// XML that is not well-formed, nests too deeply or is not an answer to a call. `out` is
/// then empty.
pub fn decode(page: &[u8], out: &mut Decoded) -> Result<usize, DecodeError> {
    decode_within(page, &mut Quota::of(page.len()), out)
}

/// As [`decode`], within a given quota.
///
/// # Errors As [`decode`].
pub fn decode_within(page: &[u8], quota: &mut Quota<'_>, out: &mut Decoded) -> Result<usize, DecodeError> {
    super::document::decode(page, None, Spelling::Pascal, quota, out)
}

/// Renders one `returnval`, and appends its record. The error is for an event that does not fit the
/// quota.
pub(super) fn event(
    element: &PageElement<'_>,
    raw: Span,
    spelling: Spelling,
    quota: &mut Quota<'_>,
    out: &mut Decoded,
) -> Result<(), DecodeError> {
    let name = match &element.declared {
        Some(Declared::Class(name) | Declared::Schema(name)) if !name.is_empty() => name,
        _ => "Event",
    };
    let known = schema::class(name).filter(|class| class.is_event);
    out.unknown_classes += usize::from(known.is_none());
    let class = known.unwrap_or_else(schema::event);

    // The data of the event, in the form of the requested spelling.
    let start = out.arena.len();
    let mut arena = Out::new(std::mem::take(&mut out.arena), quota);
    arena.begin_event();
    let mut render = Render { out: &mut arena, spelling, misfits: 0 };
    render.object(Some(class), name, &[element]);
    out.misfits += render.misfits;
    let end = arena.len();
    if let Err(exceeded) = arena.quota().event(end - start) {
        arena.truncate(start);
        out.arena = arena.into_inner();
        return Err(exceeded.at(raw.range().start));
    }
    let data = Span::new(start, end);

    // The record. Its texts are appended to the arena unescaped.
    let mut record = EventRecord { category: class.category, data, raw, ..EventRecord::default() };
    let text =
        |name: &str| element.children.iter().rfind(|child| child.name == name).map(|child| &*child.text);
    record.key = text("key").and_then(|key| key.trim().parse().ok());
    record.chain_id = text("chainId").and_then(|id| id.trim().parse().ok()).unwrap_or_default();
    record.class = append(&mut arena, name);
    record.subject = match class.category {
        Category::Event => record.class,
        Category::EventEx | Category::ExtendedEvent => {
            append(&mut arena, text("eventTypeId").unwrap_or_default())
        }
    };
    record.user = append(&mut arena, text("userName").unwrap_or_default());
    if let Some(created) = text("createdTime").map(str::trim)
        && let Some(time) = time::parse(created.as_bytes())
    {
        record.created_us = Some(time.micros);
        let start = arena.len();
        time.write(&mut arena, created.as_bytes());
        record.created_text = Span::new(start, arena.len());
    }
    if let Some((kind, id)) = entity(class, element) {
        let start = arena.len();
        append(&mut arena, kind);
        arena.push(b':');
        append(&mut arena, id);
        record.entity = Span::new(start, arena.len());
    }
    out.arena = arena.into_inner();
    push_record(&mut out.records, record, quota);
    quota.hold_tree(0);
    Ok(())
}

fn append(arena: &mut Out<'_, '_>, text: &str) -> Span {
    let start = arena.len();
    arena.put_bytes(text.as_bytes());
    Span::new(start, arena.len())
}

/// The type and id of the managed object that an event is about: those of the first of
/// [`super::ENTITY_MEMBERS`] that names one.
fn entity<'e>(class: &Class, event: &'e PageElement<'_>) -> Option<(&'e str, &'e str)> {
    super::ENTITY_MEMBERS.iter().find_map(|name| {
        let (_, field) = class.field(name)?;
        let parts = named(event, name);
        match field.kind {
            // EventEx names its object in two strings.
            Kind::String => {
                let last = |name| named(event, name).last().map_or("", |child| &*child.text);
                whole((last("objectType"), last("objectId")))
            }
            Kind::Reference => reference(&parts),
            // An argument of an event, such as VmEventArgument, holds the reference.
            Kind::Object(id) => {
                let argument = id.class().fields.iter().find(|field| field.kind == Kind::Reference)?;
                let inner: Vec<_> = parts.iter().flat_map(|part| named(part, argument.name)).collect();
                reference(&inner)
            }
            _ => None,
        }
    })
}

/// The children with this name.
fn named<'e, 'a>(parent: &'e PageElement<'a>, name: &str) -> Vec<&'e PageElement<'a>> {
    parent.children.iter().filter(|child| child.name == name).collect()
}

/// The type and id of a reference, if it has both.
fn reference<'e>(parts: &[&'e PageElement<'_>]) -> Option<(&'e str, &'e str)> {
    let kind = parts.iter().rev().find_map(|part| part.reference_type.as_deref()).unwrap_or_default();
    whole((kind, &parts.last()?.text))
}

fn whole<'e>((kind, id): (&'e str, &'e str)) -> Option<(&'e str, &'e str)> {
    (!kind.is_empty() && !id.is_empty()).then_some((kind, id))
}

/// A writer of values as JSON. It stops early where the event does not fit the quota; the caller
/// then throws the event away.
struct Render<'o, 'q, 'c> {
    out: &'o mut Out<'q, 'c>,
    spelling: Spelling,
    misfits: usize,
}

impl Render<'_, '_, '_> {
    /// Writes an object from all elements that were sent for it: the members of `class`, then
    /// unknown members.
    ///
    /// `name` is the class that the event declares; it may be unknown while `class` is a known base
    /// class. VI/JSON states it and leaves out absent members.
    fn object(&mut self, class: Option<&Class>, name: &str, parts: &[&PageElement<'_>]) {
        let mut unknown: Vec<&PageElement<'_>> = parts.iter().flat_map(|part| &part.children).collect();
        let fields = class.map_or(&[][..], |class| &class.fields);
        self.out.push(b'{');
        let mut first = true;
        if self.spelling == Spelling::ViJson && !name.is_empty() {
            self.key(&mut first, "_typeName");
            json::string(self.out, name);
        }
        // The members of the class, in schema order.
        for field in fields {
            if self.out.is_over() {
                return;
            }
            let sent: Vec<_> = unknown.extract_if(.., |child| child.name == field.name).collect();
            match &field.absent {
                _ if sent.is_empty() && self.spelling == Spelling::ViJson => continue,
                Absent::Omitted if sent.is_empty() => continue,
                Absent::Json(json) if sent.is_empty() => {
                    self.key(&mut first, &field.key);
                    self.out.put_bytes(json.as_bytes());
                }
                _ => {
                    let key = if self.spelling == Spelling::Pascal { &*field.key } else { field.name };
                    self.key(&mut first, key);
                    self.member(field, &sent);
                }
            }
        }
        // The elements that are left.
        self.unknown(&mut first, unknown, |name| unknown_key(fields, name));
        self.out.push(b'}');
    }

    /// Writes members that the schema does not know. Members with the same key become a list.
    fn unknown(&mut self, first: &mut bool, members: Vec<&PageElement<'_>>, key: impl Fn(&str) -> String) {
        let mut groups: Vec<(String, Vec<&PageElement<'_>>)> = Vec::new();
        let mut places: FxHashMap<String, usize> = FxHashMap::default();
        for member in members {
            let key = key(member.name);
            match places.get(&key) {
                Some(place) => groups[*place].1.push(member),
                None => {
                    places.insert(key.clone(), groups.len());
                    groups.push((key, vec![member]));
                }
            }
        }
        for (key, same) in groups {
            if self.out.is_over() {
                return;
            }
            let written = match same[0].name {
                _ if self.spelling == Spelling::Pascal => &*key,
                // The object's own class has that key.
                "_typeName" => "_typeName_",
                name => name,
            };
            self.key(first, written);
            match same[..] {
                [one] => self.any(one),
                _ => self.list(&same, |render, item| render.any(item)),
            }
        }
    }

    fn key(&mut self, first: &mut bool, key: &str) {
        if !std::mem::take(first) {
            self.out.push(b',');
        }
        json::string(self.out, key);
        self.out.push(b':');
    }

    /// Writes a member from the elements with its name, of which there is at least one.
    fn member(&mut self, field: &Field, sent: &[&PageElement<'_>]) {
        match (field.many, field.kind) {
            (true, Kind::Byte) if self.spelling == Spelling::ViJson => self.bytes(sent),
            (true, Kind::Byte) => self.list(sent, |render, item| render.scalar(Kind::Byte, &item.text)),
            (true, kind) => self.list(sent, |render, item| render.value(kind, &[item])),
            (false, kind) => self.value(kind, sent),
        }
    }

    fn list(&mut self, items: &[&PageElement<'_>], mut item: impl FnMut(&mut Self, &PageElement<'_>)) {
        self.out.push(b'[');
        for (i, element) in items.iter().enumerate() {
            if self.out.is_over() {
                return;
            }
            if i > 0 {
                self.out.push(b',');
            }
            item(self, element);
        }
        self.out.push(b']');
    }

    fn value(&mut self, kind: Kind, sent: &[&PageElement<'_>]) {
        let (first, last) = (sent[0], sent[sent.len() - 1]);
        match kind {
            Kind::Any => self.any(first),
            Kind::Object(id) => {
                let (declared, name) = match &first.declared {
                    Some(Declared::Class(name)) => (schema::class(name), &**name),
                    _ => (None, id.class().name),
                };
                self.object(Some(declared.unwrap_or_else(|| id.class())), name, sent);
            }
            Kind::Reference => {
                let kind =
                    sent.iter().rev().find_map(|part| part.reference_type.as_deref()).unwrap_or_default();
                self.reference(kind, &last.text);
            }
            // Go has it unsigned: negative bytes become their two's complement.
            Kind::Byte => match parse(&last.text, i8::MIN.into(), u8::MAX.into()) {
                Some(byte) => json::integer(self.out, byte.rem_euclid(256)),
                None => self.misfit(&last.text),
            },
            _ => self.scalar(kind, &last.text),
        }
    }

    fn scalar(&mut self, kind: Kind, text: &str) {
        match kind {
            Kind::Boolean => match text.trim() {
                _ if text.is_empty() => self.out.put_bytes(b"false"),
                "1" | "t" | "T" | "TRUE" | "true" | "True" => self.out.put_bytes(b"true"),
                "0" | "f" | "F" | "FALSE" | "false" | "False" => self.out.put_bytes(b"false"),
                _ => self.misfit(text),
            },
            Kind::Byte => self.integer(text, i8::MIN.into(), i8::MAX.into()),
            Kind::Short => self.integer(text, i16::MIN.into(), i16::MAX.into()),
            Kind::Int => self.integer(text, i32::MIN.into(), i32::MAX.into()),
            Kind::Long => self.integer(text, i64::MIN.into(), i64::MAX.into()),
            Kind::Float | Kind::Double if text.is_empty() => self.out.push(b'0'),
            Kind::Float => match text.trim().parse::<f32>() {
                Ok(value) if value.is_finite() => json::float(self.out, value),
                _ => self.misfit(text),
            },
            Kind::Double => match text.trim().parse::<f64>() {
                Ok(value) if value.is_finite() => json::double(self.out, value),
                _ => self.misfit(text),
            },
            Kind::DateTime => match time::parse(text.trim().as_bytes()) {
                Some(time) => {
                    self.out.push(b'"');
                    time.write(self.out, text.trim().as_bytes());
                    self.out.push(b'"');
                }
                None => self.misfit(text),
            },
            Kind::String | Kind::Base64 | Kind::Any | Kind::Reference | Kind::Object(_) => {
                json::string(self.out, text)
            }
        }
    }

    fn integer(&mut self, text: &str, min: i128, max: i128) {
        match parse(text, min, max) {
            Some(value) => json::integer(self.out, value),
            None => self.misfit(text),
        }
    }

    /// Writes a value that does not fit its kind as the string that vCenter sent.
    fn misfit(&mut self, text: &str) {
        self.misfits += 1;
        json::string(self.out, text);
    }

    fn reference(&mut self, kind: &str, id: &str) {
        let (before, between): (&[u8], &[u8]) = match self.spelling {
            Spelling::Pascal => (b"{\"Type\":", b",\"Value\":"),
            Spelling::ViJson => (b"{\"_typeName\":\"ManagedObjectReference\",\"type\":", b",\"value\":"),
        };
        self.out.put_bytes(before);
        json::string(self.out, kind);
        self.out.put_bytes(between);
        json::string(self.out, id);
        self.out.push(b'}');
    }

    /// Writes a value whose type the element itself declares, or which is unknown. VI/JSON wraps
    /// everything but objects in an object with the type.
    fn any(&mut self, element: &PageElement<'_>) {
        let boxed = match &element.declared {
            _ if self.spelling == Spelling::Pascal => None,
            Some(Declared::Schema(name)) => Some(if name == "base64Binary" { "binary" } else { &**name }),
            Some(Declared::Class(name))
                if name == "ManagedObjectReference" || schema::class(name).is_some() =>
            {
                None
            }
            Some(Declared::Class(name)) if name.starts_with("ArrayOf") || element.children.is_empty() => {
                Some(&**name)
            }
            _ => None,
        };
        let Some(name) = boxed else { return self.bare(element) };
        self.out.put_bytes(b"{\"_typeName\":");
        json::string(self.out, name);
        self.out.put_bytes(b",\"_value\":");
        self.bare(element);
        self.out.push(b'}');
    }

    /// Writes a value of declared or unknown type without a wrapper.
    fn bare(&mut self, element: &PageElement<'_>) {
        let text = &element.text;
        match &element.declared {
            Some(Declared::Schema(name)) => match &**name {
                "boolean" => self.scalar(Kind::Boolean, text),
                "byte" => self.scalar(Kind::Byte, text),
                "short" => self.scalar(Kind::Short, text),
                "int" => self.scalar(Kind::Int, text),
                "long" => self.scalar(Kind::Long, text),
                "unsignedByte" => self.integer(text, 0, u8::MAX.into()),
                "unsignedShort" => self.integer(text, 0, u16::MAX.into()),
                "unsignedInt" => self.integer(text, 0, u32::MAX.into()),
                "unsignedLong" => self.integer(text, 0, u64::MAX.into()),
                "float" => self.scalar(Kind::Float, text),
                "double" => self.scalar(Kind::Double, text),
                "dateTime" => self.scalar(Kind::DateTime, text),
                "string" | "base64Binary" => json::string(self.out, text),
                _ => self.untyped(element),
            },
            Some(Declared::Class(name)) if name == "ManagedObjectReference" => {
                self.reference(element.reference_type.as_deref().unwrap_or_default(), text);
            }
            Some(Declared::Class(name)) => match (schema::class(name), name.strip_prefix("ArrayOf")) {
                (Some(class), _) => self.object(Some(class), class.name, &[element]),
                (None, Some(item)) => self.array(item, element),
                (None, None) => self.untyped(element),
            },
            None => self.untyped(element),
        }
    }

    /// Writes an array: `ArrayOfInt` with `<int>1</int><int>2</int>` becomes `{"Int":[1,2]}`.
    fn array(&mut self, item: &str, element: &PageElement<'_>) {
        let kind = Kind::of_item(item);
        let (items, others): (Vec<_>, Vec<_>) =
            element.children.iter().partition(|child| child.name.eq_ignore_ascii_case(item));
        let pascal = self.spelling == Spelling::Pascal;
        let mut first = true;
        if pascal {
            self.out.push(b'{');
            self.key(&mut first, item);
        }
        match (items.is_empty(), kind) {
            // Bytes are base64 text without elements.
            (true, Some(Kind::Byte | Kind::Base64)) if !element.text.trim().is_empty() => {
                json::string(self.out, &element.text)
            }
            (true, _) => self.out.put_bytes(if pascal { b"null" } else { b"[]" }),
            (false, Some(Kind::Byte)) if !pascal => self.bytes(&items),
            (false, Some(Kind::Byte)) => {
                self.list(&items, |render, item| render.scalar(Kind::Byte, &item.text))
            }
            (false, Some(kind)) => self.list(&items, |render, item| render.value(kind, &[item])),
            (false, None) => self.list(&items, |render, item| render.any(item)),
        }
        if pascal {
            self.unknown(&mut first, others, schema::pascal);
            self.out.push(b'}');
        }
    }

    /// Writes a list of bytes as VI/JSON has it, in base64.
    fn bytes(&mut self, items: &[&PageElement<'_>]) {
        let byte = |item: &&PageElement<'_>| {
            parse(&item.text, i8::MIN.into(), u8::MAX.into()).map(|byte| byte as u8)
        };
        match items.iter().map(byte).collect::<Option<Vec<u8>>>() {
            Some(bytes) => json::string(self.out, &BASE64_STANDARD.encode(bytes)),
            None => self.list(items, |render, item| render.scalar(Kind::Byte, &item.text)),
        }
    }

    /// Writes a value of unknown type: an object if it has elements, a reference if it has a
    /// reference's attribute, else a string.
    fn untyped(&mut self, element: &PageElement<'_>) {
        match &element.reference_type {
            _ if !element.children.is_empty() => {
                let name = match &element.declared {
                    Some(Declared::Class(name)) => name,
                    _ => "",
                };
                self.object(None, name, &[element]);
            }
            Some(kind) => self.reference(kind, &element.text),
            None if element.nil && element.text.is_empty() => self.out.put_bytes(b"null"),
            None => json::string(self.out, &element.text),
        }
    }
}

/// The key of an unknown member. It must not equal the key of a known one.
fn unknown_key(fields: &[Field], name: &str) -> String {
    let mut key = schema::pascal(name);
    while fields.iter().any(|field| *field.key == *key) {
        key.push('_');
    }
    key
}

/// Parses an integer as Go's `strconv` does after trimming: a sign and digits. Empty is 0.
fn parse(text: &str, min: i128, max: i128) -> Option<i128> {
    let value = if text.is_empty() { 0 } else { text.trim().parse().ok()? };
    (min..=max).contains(&value).then_some(value)
}
