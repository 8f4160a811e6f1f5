//! The XML reader below the reference decoder: quick-xml's tokens, with the checks that quick-xml
//! omits and with namespaces.
//!
//! Little of XML matters here: an element's local name, its `xsi:type`, its own `type` attribute
//! and its text. Only the two namespaces of XML Schema are resolved. All other names are compared
//! by local name alone, as govmomi does.

use std::borrow::Cow;

use quick_xml::Reader;
use quick_xml::events::{BytesRef, BytesStart, Event};

use super::excerpt;
use super::prefixes::{Namespace, Prefixes, namespace};
use super::quota::{ELEMENT_BYTES, Quota, QuotaExceeded};
use crate::DecodeError;
use crate::limits::{ATTRIBUTES_MAX, XML_DEPTH_MAX};

/// The type that an element's `xsi:type` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Declared<'a> {
    /// A type of XML Schema, such as `int`.
    Schema(Cow<'a, str>),
    /// A class of vSphere's, with any prefix.
    Class(Cow<'a, str>),
}

/// An element with its content.
#[derive(Debug, Default)]
pub(super) struct PageElement<'a> {
    /// The local name.
    pub name: &'a str,
    pub declared: Option<Declared<'a>>,
    /// The attribute `type`, which managed object references have.
    pub reference_type: Option<Cow<'a, str>>,
    /// True for `xsi:nil="true"`.
    pub nil: bool,
    /// The character data between the element's own tags, without that of its children.
    pub text: Cow<'a, str>,
    pub children: Vec<PageElement<'a>>,
}

/// The next piece of the page.
pub(super) enum Token<'a> {
    /// A start tag. The element's children and text have not been read yet.
    Start(PageElement<'a>),
    End,
    Text(Cow<'a, str>),
}

/// A reader of a page: tokens in order, from the root's start tag to its end tag.
pub(super) struct Markup<'a> {
    page: &'a str,
    /// The offset in the page at which `reader`'s text begins.
    base: usize,
    reader: Reader<&'a [u8]>,
    /// The start of the latest token.
    at: usize,
    /// The number of open elements.
    depth: usize,
    prefixes: Prefixes<'a>,
    /// Names of the open elements, to be compared with the end tags.
    open: Vec<&'a str>,
    /// Set after an empty-element tag, whose end is the next token.
    ends: bool,
}

impl<'a> Markup<'a> {
    pub fn new(page: &'a str) -> Self {
        let (base, reader) = reader(page, 0);
        Markup {
            page,
            base,
            reader,
            at: base,
            depth: 0,
            prefixes: Prefixes::new(),
            open: Vec::new(),
            ends: false,
        }
    }

    /// The prefixes that are bound here.
    pub fn prefixes(&self) -> &Prefixes<'a> {
        &self.prefixes
    }

    /// Continues at `position`, which lies between two children of the innermost open element.
    pub fn seek(&mut self, position: usize) {
        (self.base, self.reader) = reader(self.page, position);
    }

    /// Goes on with `piece`, another part of the page, inside the outermost `depth` of the elements
    /// that are open. Positions count from its beginning.
    pub fn restart(&mut self, piece: &'a str, depth: usize) {
        self.page = piece;
        (self.base, self.reader) = reader(piece, 0);
        self.prefixes.unbind(depth);
        self.open.truncate(depth);
        (self.at, self.depth, self.ends) = (self.base, depth, false);
    }

    /// Returns true if the latest token is an empty-element tag.
    pub fn is_empty_tag(&self) -> bool {
        self.ends
    }

    /// The number of open elements.
    pub fn depth(&self) -> usize {
        self.depth
    }

    /// The offset of the latest token.
    pub fn start(&self) -> usize {
        self.at
    }

    /// The offset of the end of the latest token.
    pub fn position(&self) -> usize {
        self.base + self.reader.buffer_position() as usize
    }

    /// Returns the next token. The end of the page is an error, since no caller reads past the
    /// root's end tag.
    pub fn next(&mut self) -> Result<Token<'a>, DecodeError> {
        // An empty element ends with the token after its start.
        if std::mem::take(&mut self.ends) {
            return Ok(self.close());
        }
        loop {
            self.at = self.position();
            let token = self.reader.read_event().map_err(|error| DecodeError {
                offset: self.base + self.reader.error_position() as usize,
                reason: error.to_string(),
            })?;
            match token {
                Event::Start(tag) => return self.start_tag(tag).map(Token::Start),
                Event::Empty(tag) => {
                    let element = self.start_tag(tag)?;
                    self.ends = true;
                    return Ok(Token::Start(element));
                }
                Event::End(tag) => {
                    // quick-xml's own check is off, see [`reader`].
                    let (found, expected) = (tag.name().0, self.open.last().copied());
                    if expected != Some(found.trim_end_matches([' ', '\t', '\r', '\n'])) {
                        let (found, expected) = (excerpt(found), excerpt(expected.unwrap_or("nothing")));
                        return Err(self
                            .fail(format!("found the end tag of `{found}`, expected that of `{expected}`")));
                    }
                    return Ok(self.close());
                }
                Event::Text(text) => {
                    let text = text.into_inner();
                    if self.depth > 0 {
                        return self.characters(text).map(Token::Text);
                    }
                    if !text.trim_start_matches('\u{feff}').trim_ascii().is_empty() {
                        return Err(self.fail("text outside of the root element".into()));
                    }
                }
                Event::CData(text) if self.depth > 0 => {
                    let text = text.into_inner();
                    check_characters(&text).map_err(|bad| self.illegal(bad, 9))?;
                    return Ok(Token::Text(newlines(text)));
                }
                Event::GeneralRef(name) if self.depth > 0 => {
                    let character = match surrogate(&name.borrow().into_inner()) {
                        Some(half) => self.character_of(half),
                        None => self.reference(&name)?,
                    };
                    return Ok(Token::Text(character.to_string().into()));
                }
                Event::CData(_) | Event::GeneralRef(_) => {
                    return Err(self.fail("text outside of the root element".into()));
                }
                Event::Comment(_) | Event::PI(_) => {}
                // Only at the start of the page, and only for encodings that are UTF-8.
                Event::Decl(decl) => {
                    if self.depth > 0 || !self.open.is_empty() {
                        return Err(self.fail("an XML declaration inside the root element".into()));
                    }
                    if let Some(encoding) = decl.encoding() {
                        let encoding = encoding.map_err(|error| self.fail(error.to_string()))?;
                        if !["utf-8", "utf8", "us-ascii"]
                            .iter()
                            .any(|name| encoding.eq_ignore_ascii_case(name))
                        {
                            let encoding = excerpt(&encoding);
                            return Err(self.fail(format!("the encoding `{encoding}` is not UTF-8")));
                        }
                    }
                }
                Event::DocType(_) => {
                    return Err(self.fail("document type definitions are not supported".into()));
                }
                Event::Eof => {
                    let reason = match self.open.last() {
                        Some(name) => format!("the page ends inside `{}`", excerpt(name)),
                        None => "the page has no root element".into(),
                    };
                    return Err(DecodeError { offset: self.page.len(), reason });
                }
            }
        }
    }

    /// Reads the content of `element` up to its end tag. Its start tag is the latest token.
    pub fn read(
        &mut self,
        element: PageElement<'a>,
        quota: &mut Quota<'_>,
    ) -> Result<PageElement<'a>, DecodeError> {
        // The elements from `element` down to the innermost open one.
        let mut open = vec![element];
        let (mut elements, mut texts) = (1, 0);
        loop {
            match self.next()? {
                Token::Start(child) => {
                    elements += 1;
                    if elements > quota.elements_max() {
                        return Err(QuotaExceeded::Elements(quota.elements_max()).at(self.at));
                    }
                    quota.hold_tree(elements * ELEMENT_BYTES + texts);
                    open.push(child);
                }
                Token::Text(text) => {
                    let element = open.last_mut().expect("the loop ends with the first element");
                    if element.text.is_empty() {
                        element.text = text;
                        continue;
                    }
                    // A copy, which grows by doubling.
                    let copied = if let Cow::Borrowed(first) = &element.text { first.len() } else { 0 };
                    texts += 2 * (copied + text.len());
                    quota.hold_tree(elements * ELEMENT_BYTES + texts);
                    element.text.to_mut().push_str(&text);
                }
                Token::End => {
                    let element = open.pop().expect("the loop ends with the first element");
                    match open.last_mut() {
                        Some(parent) => parent.children.push(element),
                        None => return Ok(element),
                    }
                }
            }
        }
    }

    /// Parses a start tag and opens its element.
    fn start_tag(&mut self, tag: BytesStart<'_>) -> Result<PageElement<'a>, DecodeError> {
        // quick-xml returns the name with the lifetime of the tag. The name is also a slice of the
        // page.
        let name = &self.page[self.at + 1..][..tag.name().0.len()];
        debug_assert_eq!(name, tag.name().0);
        self.check_name(name)?;
        self.depth += 1;
        if self.depth > XML_DEPTH_MAX {
            return Err(self.fail(format!("elements nest deeper than {XML_DEPTH_MAX} levels")));
        }
        self.open.push(name);
        let mut element = PageElement { name: local(name), ..PageElement::default() };
        // A declaration counts for all attributes of its tag, also for those before it.
        let mut attributes = Vec::new();
        for (count, attribute) in tag.attributes().enumerate() {
            if count == ATTRIBUTES_MAX {
                return Err(self.fail(format!("a tag of more than {ATTRIBUTES_MAX} attributes")));
            }
            let attribute = attribute.map_err(|error| self.fail(error.to_string()))?;
            let key = self.in_page(attribute.key.0);
            self.check_name(key)?;
            let value = self.attribute_value(self.in_page_cow(attribute.value))?;
            match key.split_once(':') {
                None if key == "xmlns" => self.prefixes.bind(self.depth, "", namespace(&value)),
                Some(("xmlns", prefix)) => self.prefixes.bind(self.depth, prefix, namespace(&value)),
                _ => attributes.push((key, value)),
            }
        }
        for (key, value) in attributes {
            let (prefix, name) = key.split_once(':').unwrap_or(("", key));
            if name == "nil" && self.resolve(prefix, true) == Namespace::Instance {
                element.nil = matches!(&*value, "true" | "1");
            }
            if name != "type" {
                continue;
            }
            match self.resolve(prefix, true) {
                Namespace::Instance if element.declared.is_none() => {
                    element.declared = Some(self.declared(value))
                }
                Namespace::Instance => {}
                _ => element.reference_type = Some(value),
            }
        }
        Ok(element)
    }

    /// Parses the value of an `xsi:type`.
    fn declared(&self, value: Cow<'a, str>) -> Declared<'a> {
        let trimmed = match value {
            Cow::Borrowed(text) => Cow::Borrowed(text.trim_ascii()),
            Cow::Owned(text) => Cow::Owned(text.trim_ascii().to_owned()),
        };
        let Some((prefix, _)) = trimmed.split_once(':') else { return Declared::Class(trimmed) };
        let schema = self.resolve(prefix, false) == Namespace::Schema;
        let name = match &trimmed {
            Cow::Borrowed(text) => Cow::Borrowed(&text[prefix.len() + 1..]),
            Cow::Owned(text) => Cow::Owned(text[prefix.len() + 1..].to_owned()),
        };
        if schema { Declared::Schema(name) } else { Declared::Class(name) }
    }

    /// The namespace of a prefix. An attribute without a prefix has none.
    fn resolve(&self, prefix: &str, attribute: bool) -> Namespace {
        if attribute && prefix.is_empty() {
            return Namespace::Other;
        }
        self.prefixes.resolve(prefix.as_bytes())
    }

    /// Closes the innermost element and drops the prefixes that it bound.
    fn close(&mut self) -> Token<'a> {
        self.open.pop();
        self.depth -= 1;
        self.prefixes.unbind(self.depth);
        Token::End
    }

    /// Checks text between two tags, and normalizes its line ends.
    fn characters(&self, text: Cow<'a, str>) -> Result<Cow<'a, str>, DecodeError> {
        check_characters(&text).map_err(|bad| self.illegal(bad, 0))?;
        if let Some(end) = memchr::memmem::find(text.as_bytes(), b"]]>") {
            return Err(DecodeError {
                offset: self.at + end,
                reason: "`]]>` outside of a CDATA section".into(),
            });
        }
        Ok(newlines(text))
    }

    /// The character of the surrogate `half`, with the other half if the next reference is one. A
    /// Java server writes a character beyond U+FFFF as two references.
    fn character_of(&mut self, half: u16) -> char {
        let rest = &self.page[self.position()..];
        let next = rest.strip_prefix('&').and_then(|rest| rest.split_once(';')).map(|(name, _)| name);
        let Some(other) = next.and_then(surrogate) else { return char::REPLACEMENT_CHARACTER };
        let Some(Ok(character)) = char::decode_utf16([half, other]).next() else {
            return char::REPLACEMENT_CHARACTER;
        };
        // The token that was just looked at, so it cannot fail.
        let _ = self.reader.read_event();
        character
    }

    fn attribute_value(&self, value: Cow<'a, str>) -> Result<Cow<'a, str>, DecodeError> {
        check_characters(&value).map_err(|bad| self.illegal(bad, 0))?;
        if value.contains('<') {
            return Err(self.fail("`<` inside of an attribute".into()));
        }
        let value = newlines(value);
        if !value.contains('&') {
            return Ok(value);
        }
        let mut text = String::with_capacity(value.len());
        let mut rest = &*value;
        while let Some((plain, from)) = rest.split_once('&') {
            let (name, after) = from
                .split_once(';')
                .ok_or_else(|| self.fail("`&` without `;` inside of an attribute".into()))?;
            text.push_str(plain);
            text.push(self.reference(&BytesRef::new(name))?);
            rest = after;
        }
        text.push_str(rest);
        Ok(text.into())
    }

    /// The character that `&name;` stands for. Half of a surrogate pair becomes U+FFFD.
    fn reference(&self, name: &BytesRef<'_>) -> Result<char, DecodeError> {
        let name = name.borrow().into_inner();
        if surrogate(&name).is_some() {
            return Ok(char::REPLACEMENT_CHARACTER);
        }
        resolve_reference(&name)
            .ok_or_else(|| self.fail(format!("`&{};` is not a character", excerpt(&name))))
    }

    fn check_name(&self, name: &str) -> Result<(), DecodeError> {
        let plain = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':' || !c.is_ascii();
        let later = |c: char| plain(c) || c.is_ascii_digit() || c == '-' || c == '.';
        match name.starts_with(plain) && name.chars().all(later) {
            true => Ok(()),
            false => Err(self.fail(format!("`{}` is not a valid name", excerpt(name)))),
        }
    }

    fn fail(&self, reason: String) -> DecodeError {
        DecodeError { offset: self.at, reason }
    }

    /// An error at `bad`, the offset of an illegal character in the token's content. `prefix` is
    /// the length of the token's markup before the content.
    fn illegal(&self, bad: usize, prefix: usize) -> DecodeError {
        DecodeError { offset: self.at + prefix + bad, reason: "a character that XML does not allow".into() }
    }

    /// Returns `text`, a part of the latest tag, with the lifetime of the page.
    fn in_page(&self, text: &str) -> &'a str {
        let offset = text.as_ptr() as usize - self.page.as_ptr() as usize;
        &self.page[offset..offset + text.len()]
    }

    fn in_page_cow(&self, text: Cow<'_, str>) -> Cow<'a, str> {
        match text {
            Cow::Borrowed(text) => Cow::Borrowed(self.in_page(text)),
            Cow::Owned(text) => Cow::Owned(text),
        }
    }
}

/// Creates a reader of `page` from `base`, and returns its true start. quick-xml skips a byte order
/// mark without counting it, so the marks are removed here.
fn reader(page: &str, base: usize) -> (usize, Reader<&[u8]>) {
    let text = page[base..].trim_start_matches('\u{feff}');
    let mut reader = Reader::from_str(text);
    let config = reader.config_mut();
    config.check_comments = true;
    // `Markup` checks the end tags, since an element may begin before `text`.
    config.check_end_names = false;
    config.allow_unmatched_ends = true;
    (page.len() - text.len(), reader)
}

/// A name without its prefix.
fn local(name: &str) -> &str {
    name.split_once(':').map_or(name, |(_, local)| local)
}

/// The character of `amp`, `#10` or `#x1F600`; `None` for anything else, such as a surrogate.
pub(super) fn resolve_reference(name: &str) -> Option<char> {
    match name {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => char::from_u32(code_point(name)?).filter(|c| is_allowed(*c)),
    }
}

/// The number in `#10` or `#x1F600`; `None` for another name. A number beyond 32 bits is no
/// character either, and becomes the largest.
pub(super) fn code_point(name: &str) -> Option<u32> {
    let number = name.strip_prefix('#')?;
    let (digits, radix) = number.strip_prefix('x').map_or((number, 10), |digits| (digits, 16));
    if digits.is_empty() || !digits.bytes().all(|digit| (digit as char).is_digit(radix)) {
        return None;
    }
    Some(u32::from_str_radix(digits, radix).unwrap_or(u32::MAX))
}

/// The half of a surrogate pair that a reference names.
fn surrogate(name: &str) -> Option<u16> {
    code_point(name).and_then(|code| u16::try_from(code).ok()).filter(|half| matches!(half, 0xD800..=0xDFFF))
}

/// The production `Char` of XML 1.0.
pub(super) fn is_allowed(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{D7FF}' | '\u{E000}'..='\u{FFFD}' | '\u{10000}'..)
}

/// The error is the offset of the first illegal character.
fn check_characters(text: &str) -> Result<(), usize> {
    text.find(|c| !is_allowed(c)).map_or(Ok(()), Err)
}

/// Normalizes line ends as XML requires: `\r\n` and `\r` become `\n`.
fn newlines(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n").into() } else { text }
}
