//! The CloudEvents attributes that an event arrived with.
//!
//! A vCenter event has none: the router derives its attributes from its source and its key. An
//! event of a push source (a webhook, a message queue) was a CloudEvent before it arrived. Its
//! attributes lie in the batch's arena as one block, which
//! [`Record::attributes`](super::Record::attributes) spans:
//!
//! ```text
//! block = text id, text source, text type, text time, text datacontenttype   absent ones are empty
//!         for each extension: text name, 1 byte kind, text value             until the block ends
//! text  = length as unsigned LEB128, then UTF-8
//! kind  = 0 string, 1 boolean, 2 integer
//! ```
//!
//! INVARIANT: reading any bytes terminates, does not panic, and allocates nothing.

/// The attributes of one event, without `subject`, which is part of every record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes<'a> {
    pub id: &'a str,
    /// A URI reference (CloudEvents 1.0.2, `source`).
    pub source: &'a str,
    /// The attribute `type`.
    pub kind: &'a str,
    /// An RFC 3339 time; empty if the event has none.
    pub time: &'a str,
    /// Empty if the event has none, which means that its data is JSON.
    pub datacontenttype: &'a str,
    pub extensions: OwnExtensions<'a>,
}

/// The extension attributes of a block, in the order in which they were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnExtensions<'a>(&'a [u8]);

/// An extension attribute. Its kind decides its form in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extension<'a> {
    pub name: &'a str,
    pub kind: ExtensionKind,
    /// The value in its string form (CloudEvents 1.0.2, "Type System").
    pub value: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExtensionKind {
    String,
    Boolean,
    Integer,
}

impl<'a> Attributes<'a> {
    /// No attributes.
    pub const EMPTY: Attributes<'static> = Attributes {
        id: "",
        source: "",
        kind: "",
        time: "",
        datacontenttype: "",
        extensions: OwnExtensions(&[]),
    };

    /// Reads a block; `None` if the bytes are not a whole block.
    pub fn read(block: &'a [u8]) -> Option<Attributes<'a>> {
        let mut rest = block;
        let [id, source, kind, time, datacontenttype] =
            [text(&mut rest)?, text(&mut rest)?, text(&mut rest)?, text(&mut rest)?, text(&mut rest)?];
        let attributes =
            Attributes { id, source, kind, time, datacontenttype, extensions: OwnExtensions(rest) };
        while !rest.is_empty() {
            extension(&mut rest)?;
        }
        Some(attributes)
    }

    /// Appends a block of these attributes and `extensions`; `self.extensions` is not written.
    pub fn write<'e>(&self, extensions: impl IntoIterator<Item = Extension<'e>>, out: &mut Vec<u8>) {
        for attribute in [self.id, self.source, self.kind, self.time, self.datacontenttype] {
            put_text(out, attribute);
        }
        for Extension { name, kind, value } in extensions {
            put_text(out, name);
            out.push(kind as u8);
            put_text(out, value);
        }
    }

    /// Returns true if the event's data is JSON: `datacontenttype` is a JSON type or absent.
    pub fn has_json(&self) -> bool {
        let media = self.datacontenttype.split(';').next().unwrap_or_default().trim();
        media.is_empty()
            || media.eq_ignore_ascii_case("application/json")
            || media.eq_ignore_ascii_case("text/json")
            || media.rsplit_once('+').is_some_and(|(_, suffix)| suffix.eq_ignore_ascii_case("json"))
    }
}

impl<'a> OwnExtensions<'a> {
    pub fn iter(self) -> impl Iterator<Item = Extension<'a>> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || if rest.is_empty() { None } else { extension(&mut rest) })
    }
}

fn extension<'a>(rest: &mut &'a [u8]) -> Option<Extension<'a>> {
    let name = text(rest)?;
    let (kind, after) = rest.split_first()?;
    *rest = after;
    let kind = match kind {
        0 => ExtensionKind::String,
        1 => ExtensionKind::Boolean,
        2 => ExtensionKind::Integer,
        _ => return None,
    };
    Some(Extension { name, kind, value: text(rest)? })
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    let mut len = 0u64;
    for shift in (0..35).step_by(7) {
        let (byte, after) = rest.split_first()?;
        *rest = after;
        len |= u64::from(byte & 0x7f) << shift;
        if *byte < 0x80 {
            let (text, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
            *rest = after;
            return std::str::from_utf8(text).ok();
        }
    }
    None
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let mut len = text.len();
    while len >= 0x80 {
        out.push(len as u8 | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_content_type_says_whether_data_is_json() {
        let check = |datacontenttype: &str, expected: bool| {
            let attributes = Attributes { datacontenttype, ..Attributes::default() };
            assert_eq!(attributes.has_json(), expected, "{datacontenttype}");
        };
        check("", true);
        check("application/json", true);
        check("Application/JSON; charset=utf-8", true);
        check("application/problem+json", true);
        check("text/plain", false);
        check("application/xml", false);
        check("application/jsonl", false);
    }

    proptest! {
        #[test]
        fn a_written_block_reads_back(
            texts in prop::array::uniform5(".{0,200}"),
            extensions in prop::collection::vec(("[a-z0-9]{1,20}", 0..3u8, ".{0,40}"), 0..5),
        ) {
            let [id, source, kind, time, datacontenttype] = &texts;
            let attributes =
                Attributes { id, source, kind, time, datacontenttype, ..Attributes::default() };
            let kinds = [ExtensionKind::String, ExtensionKind::Boolean, ExtensionKind::Integer];
            let extensions: Vec<_> = extensions
                .iter()
                .map(|(name, kind, value)| Extension { name, kind: kinds[usize::from(*kind)], value })
                .collect();
            let mut block = Vec::new();
            attributes.write(extensions.iter().copied(), &mut block);
            let read = Attributes::read(&block).expect("a block");
            prop_assert_eq!((read.id, read.source, read.kind), (&**id, &**source, &**kind));
            prop_assert_eq!((read.time, read.datacontenttype), (&**time, &**datacontenttype));
            prop_assert_eq!(read.extensions.iter().collect::<Vec<_>>(), extensions);
            // A truncated block is no block.
            prop_assert!(Attributes::read(&block[..block.len() - 1]).is_none());
        }

        #[test]
        fn any_bytes_end(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(read) = Attributes::read(&bytes) {
                prop_assert!(read.extensions.iter().count() <= bytes.len());
            }
        }
    }
}
