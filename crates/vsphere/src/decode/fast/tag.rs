//! Start tags with attributes. Only the few attributes that vCenter writes are accepted, in any
//! order; every other tag is odd.

use super::Odd;
use crate::decode::prefixes::{Namespace, Prefixes};

/// Maximum number of attributes in a start tag: `xsi:type`, `type` and declarations of prefixes.
const ATTRIBUTES_MAX: usize = 4;

const INSTANCE: &[u8] = b"http://www.w3.org/2001/XMLSchema-instance";

/// The attributes of a start tag.
#[derive(Debug)]
pub(super) struct StartTag<'a> {
    pub declared: Option<XsiType<'a>>,
    /// The attribute `type`.
    pub reference_type: Option<&'a [u8]>,
    /// The prefix that the tag binds to XML Schema's instance namespace.
    pub binds: Option<&'a [u8]>,
    /// The prefix of the tag's `xsi:type`.
    pub prefix: Option<&'a [u8]>,
    /// The offset of the content.
    pub content: usize,
    /// True for an empty-element tag.
    pub empty: bool,
}

/// The type that an `xsi:type` names.
#[derive(Clone, Copy, Debug)]
pub(super) enum XsiType<'a> {
    /// A type of XML Schema.
    Schema(&'a [u8]),
    Class(&'a [u8]),
}

impl<'a> StartTag<'a> {
    /// A start tag without attributes.
    pub fn plain(content: usize) -> Self {
        StartTag { declared: None, reference_type: None, binds: None, prefix: None, content, empty: false }
    }

    /// Parses the attributes of a tag; `at` is behind its name. `event` is the prefix that the
    /// event's own start tag has bound.
    pub fn read(
        page: &'a [u8],
        mut at: usize,
        prefixes: &Prefixes<'_>,
        event: Option<&[u8]>,
    ) -> Result<Self, Odd> {
        // Split the tag into names and values.
        let mut seen: [&[u8]; ATTRIBUTES_MAX] = [b""; ATTRIBUTES_MAX];
        let mut values = seen;
        let mut count = 0;
        let (content, empty) = loop {
            let spaces =
                page[at..].iter().take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r')).count();
            at += spaces;
            match page.get(at).ok_or(Odd)? {
                b'>' => break (at + 1, false),
                b'/' if page.get(at + 1) == Some(&b'>') => break (at + 2, true),
                _ if spaces == 0 || count == ATTRIBUTES_MAX => return Err(Odd),
                _ => {}
            }
            let name = page[at..]
                .iter()
                .take_while(|byte| byte.is_ascii_alphanumeric() || b"_:-.".contains(byte))
                .count();
            let key = &page[at..at + name];
            at += name;
            // An attribute that occurs twice is an error, which the reference decoder reports.
            if !key.first().is_some_and(|byte| byte.is_ascii_alphabetic() || *byte == b'_')
                || seen[..count].contains(&key)
            {
                return Err(Odd);
            }
            let quote = match page.get(at..at + 2).ok_or(Odd)? {
                [b'=', quote @ (b'"' | b'\'')] => *quote,
                _ => return Err(Odd),
            };
            at += 2;
            let value = page[at..]
                .iter()
                .take_while(|byte| matches!(byte, 0x20..=0x7E) && **byte != quote && !b"<&".contains(byte))
                .count();
            (seen[count], values[count]) = (key, &page[at..at + value]);
            count += 1;
            at += value;
            if page.get(at) != Some(&quote) {
                return Err(Odd);
            }
            at += 1;
        };
        // Declarations count for all attributes of their tag, so they come first.
        let mut tag = StartTag { content, empty, ..StartTag::plain(content) };
        for (key, value) in seen.iter().zip(values).take(count) {
            match split(key) {
                (Some(b"xmlns"), b"xsd") => return Err(Odd),
                (Some(b"xmlns"), prefix) if value == INSTANCE && tag.binds.is_none() => {
                    tag.binds = Some(prefix)
                }
                (Some(b"xmlns"), _) => return Err(Odd),
                _ => {}
            }
        }
        // Then the types.
        for (key, value) in seen.iter().zip(values).take(count) {
            match split(key) {
                (Some(b"xmlns"), _) => {}
                (None, b"type") => tag.reference_type = Some(value),
                (Some(prefix), b"type") => {
                    let bound = tag.binds == Some(prefix)
                        || event == Some(prefix)
                        || prefixes.is(prefix, Namespace::Instance);
                    if !bound || tag.declared.is_some() {
                        return Err(Odd);
                    }
                    tag.prefix = Some(prefix);
                    tag.declared = Some(XsiType::of(value, prefixes)?);
                }
                (_, b"nil") => return Err(Odd),
                _ => {}
            }
        }
        Ok(tag)
    }
}

impl<'a> XsiType<'a> {
    /// Parses `xsd:int` or `VmPoweredOnEvent`.
    pub fn of(value: &'a [u8], prefixes: &Prefixes<'_>) -> Result<Self, Odd> {
        match split(value) {
            _ if value.is_empty() || value.contains(&b' ') => Err(Odd),
            (None, name) => Ok(XsiType::Class(name)),
            (Some(b"xsd"), name) if prefixes.schema_is_xsd() => Ok(XsiType::Schema(name)),
            _ => Err(Odd),
        }
    }
}

/// Splits a name into prefix and local name.
fn split(name: &[u8]) -> (Option<&[u8]>, &[u8]) {
    match memchr::memchr(b':', name) {
        Some(colon) => (Some(&name[..colon]), &name[colon + 1..]),
        None => (None, name),
    }
}
