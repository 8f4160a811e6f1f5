//! Extracts from a JSON document the leaves that patterns refer to, in one pass.
//!
//! The rules are those of Event Ruler. An array stands for its elements. A leaf inside an object in
//! an array records the element, so that two constraints cannot be met by different elements. A
//! name with dots equals nested names.
//!
//! Values on other paths are skipped, and only their extent is checked: the reader expects JSON
//! from a serializer and does not validate it.

use crate::condition::{Literal, Value};
use crate::limits;
use crate::number::Number;
use crate::paths::{NodeId, PathId, Paths, ROOT};

/// An element of an array: the number of the array in the document, and the element's index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element {
    pub array: u32,
    pub index: u32,
}

#[derive(Clone, Copy, Debug)]
enum Leaf {
    /// Range of the document: a string without escapes.
    Plain(usize, usize),
    /// Range of `Fields::unescaped`.
    Unescaped(usize, usize),
    Number(Number),
    Literal(Literal),
}

#[derive(Clone, Copy, Debug)]
struct Field {
    leaf: Leaf,
    /// Range of `Fields::trails`.
    trail: (u32, u32),
}

/// The leaves of one document on the paths of a set. Buffers are reused for the next document.
#[derive(Debug, Default)]
pub struct Fields {
    fields: Vec<Field>,
    /// Indices of the fields on each path.
    by_path: Vec<Vec<u32>>,
    /// Paths with at least one field, in order of appearance.
    present: Vec<PathId>,
    unescaped: String,
    trails: Vec<Element>,
    /// True if a field lies inside an element of an array.
    nested: bool,
    /// The current member's name, if it has escapes.
    name: String,
    trail: Vec<Element>,
    arrays: u32,
}

/// The document is not JSON, or exceeds a bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

impl Fields {
    /// Replaces the fields with those of `data`. Empty `data` has no fields.
    pub fn read(&mut self, data: &str, paths: &Paths) -> Result<(), Unreadable> {
        for &path in &self.present {
            self.by_path[path as usize].clear();
        }
        self.by_path.resize_with(paths.count(), Vec::new);
        self.present.clear();
        self.fields.clear();
        self.unescaped.clear();
        self.trails.clear();
        self.trail.clear();
        self.arrays = 0;
        self.nested = false;
        let mut reader = Reader { text: data, bytes: data.as_bytes(), at: 0, paths, fields: self };
        reader.space();
        if reader.at == data.len() {
            return Ok(());
        }
        reader.value(ROOT, 0)?;
        reader.space();
        if reader.at == data.len() { Ok(()) } else { Err(Unreadable) }
    }

    /// The indices of the fields on `path`.
    pub fn on(&self, path: PathId) -> &[u32] {
        self.by_path.get(path as usize).map_or(&[], Vec::as_slice)
    }

    /// Paths that have fields.
    pub fn present(&self) -> &[PathId] {
        &self.present
    }

    /// Returns true if fields may lie in different elements of one array.
    pub fn nested(&self) -> bool {
        self.nested
    }

    pub fn value<'a>(&'a self, data: &'a str, field: u32) -> Value<'a> {
        match self.fields[field as usize].leaf {
            Leaf::Plain(start, end) => Value::Text(&data[start..end]),
            Leaf::Unescaped(start, end) => Value::Text(&self.unescaped[start..end]),
            Leaf::Number(number) => Value::Number(number),
            Leaf::Literal(literal) => Value::Literal(literal),
        }
    }

    /// The array elements around the field, outermost first.
    pub fn trail(&self, field: u32) -> &[Element] {
        let (start, end) = self.fields[field as usize].trail;
        &self.trails[start as usize..end as usize]
    }

    fn push(&mut self, path: PathId, leaf: Leaf) -> Result<(), Unreadable> {
        if self.fields.len() >= limits::FIELDS_MAX {
            return Err(Unreadable);
        }
        let start = self.trails.len() as u32;
        self.trails.extend_from_slice(&self.trail);
        self.nested |= !self.trail.is_empty();
        let on_path = &mut self.by_path[path as usize];
        if on_path.is_empty() {
            self.present.push(path);
        }
        on_path.push(self.fields.len() as u32);
        self.fields.push(Field { leaf, trail: (start, self.trails.len() as u32) });
        Ok(())
    }
}

struct Reader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    at: usize,
    paths: &'a Paths,
    fields: &'a mut Fields,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8) -> Result<(), Unreadable> {
        if self.peek() != Some(byte) {
            return Err(Unreadable);
        }
        self.at += 1;
        Ok(())
    }

    /// Reads the value at `node`.
    fn value(&mut self, node: NodeId, depth: usize) -> Result<(), Unreadable> {
        if depth > limits::DATA_DEPTH_MAX {
            return Err(Unreadable);
        }
        match self.peek().ok_or(Unreadable)? {
            b'{' if self.paths.is_leaf(node) => self.skip(),
            b'{' => self.object(node, depth),
            b'[' => self.array(node, depth),
            _ => match self.paths.path(node) {
                Some(path) => {
                    let leaf = self.leaf()?;
                    self.fields.push(path, leaf)
                }
                None => self.skip(),
            },
        }
    }

    fn object(&mut self, node: NodeId, depth: usize) -> Result<(), Unreadable> {
        self.at += 1;
        self.space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        loop {
            let child = self.name(node)?;
            self.space();
            self.expect(b':')?;
            self.space();
            match child {
                Some(child) => self.value(child, depth + 1)?,
                None => self.skip()?,
            }
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => {
                    self.at += 1;
                    return Ok(());
                }
                _ => return Err(Unreadable),
            }
            self.space();
        }
    }

    fn array(&mut self, node: NodeId, depth: usize) -> Result<(), Unreadable> {
        let array = self.fields.arrays;
        self.fields.arrays += 1;
        self.at += 1;
        self.space();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(());
        }
        for index in 0.. {
            // Scalar elements do not record their index: two of them do not exclude each other.
            let inner = matches!(self.peek(), Some(b'{' | b'['));
            if inner {
                self.fields.trail.push(Element { array, index });
            }
            self.value(node, depth + 1)?;
            if inner {
                self.fields.trail.pop();
            }
            self.space();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return Err(Unreadable),
            }
            self.space();
        }
        self.at += 1;
        Ok(())
    }

    /// Reads a member's name and returns its node.
    fn name(&mut self, node: NodeId) -> Result<Option<NodeId>, Unreadable> {
        let (start, end, escaped) = self.string()?;
        if !escaped {
            return Ok(self.paths.step(node, &self.text[start..end]));
        }
        self.fields.name.clear();
        unescape(&self.text[start..end], &mut self.fields.name)?;
        Ok(self.paths.step(node, &self.fields.name))
    }

    fn leaf(&mut self) -> Result<Leaf, Unreadable> {
        let (literal, length) = match self.peek() {
            Some(b'"') => {
                let (start, end, escaped) = self.string()?;
                if !escaped {
                    return Ok(Leaf::Plain(start, end));
                }
                let from = self.fields.unescaped.len();
                unescape(&self.text[start..end], &mut self.fields.unescaped)?;
                return Ok(Leaf::Unescaped(from, self.fields.unescaped.len()));
            }
            Some(b't') => (Literal::True, 4),
            Some(b'f') => (Literal::False, 5),
            Some(b'n') => (Literal::Null, 4),
            _ => {
                let start = self.at;
                self.bare();
                return Number::parse(&self.text[start..self.at]).map(Leaf::Number).ok_or(Unreadable);
            }
        };
        if self.bytes.get(self.at..self.at + length) != Some(literal.as_str().as_bytes()) {
            return Err(Unreadable);
        }
        self.at += length;
        Ok(Leaf::Literal(literal))
    }

    /// Skips a string. Returns the range of its content, and whether it has escapes.
    fn string(&mut self) -> Result<(usize, usize, bool), Unreadable> {
        self.expect(b'"')?;
        let start = self.at;
        let mut escaped = false;
        loop {
            self.at += quote_or_backslash(self.bytes.get(self.at..).ok_or(Unreadable)?);
            match self.peek().ok_or(Unreadable)? {
                b'"' => break,
                _ => escaped = true,
            }
            self.at += 2;
        }
        self.at += 1;
        Ok((start, self.at - 1, escaped))
    }

    /// Skips a number or a literal.
    fn bare(&mut self) {
        while self
            .peek()
            .is_some_and(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'+' | b'.'))
        {
            self.at += 1;
        }
    }

    /// Skips a value of any depth that no pattern refers to.
    fn skip(&mut self) -> Result<(), Unreadable> {
        let mut depth = 0usize;
        loop {
            match self.peek().ok_or(Unreadable)? {
                b'"' => {
                    self.string()?;
                }
                b'{' | b'[' => {
                    depth += 1;
                    self.at += 1;
                }
                b'}' | b']' => {
                    depth = depth.checked_sub(1).ok_or(Unreadable)?;
                    self.at += 1;
                }
                _ if depth > 0 => self.at += 1,
                _ => {
                    let start = self.at;
                    self.bare();
                    if self.at == start {
                        return Err(Unreadable);
                    }
                }
            }
            if depth == 0 {
                return Ok(());
            }
        }
    }
}

/// The offset of the first `"` or `\` in `bytes`, or their length. Reads eight bytes at a time:
/// most strings of an event are too short for memchr to be faster.
fn quote_or_backslash(bytes: &[u8]) -> usize {
    const LOW: u64 = u64::from_ne_bytes([1; 8]);
    const HIGH: u64 = u64::from_ne_bytes([0x80; 8]);
    // Sets the high bit of each zero byte. Bytes above the first zero may be marked wrongly, but
    // only the first is used.
    let zeros = |word: u64| word.wrapping_sub(LOW) & !word & HIGH;
    let (words, rest) = bytes.as_chunks::<8>();
    for (index, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let found = zeros(word ^ (LOW * u64::from(b'"'))) | zeros(word ^ (LOW * u64::from(b'\\')));
        if found != 0 {
            return index * 8 + found.trailing_zeros() as usize / 8;
        }
    }
    let at = rest.iter().position(|byte| matches!(byte, b'"' | b'\\'));
    bytes.len() - rest.len() + at.unwrap_or(rest.len())
}

/// Appends the unescaped content of a JSON string. A lone surrogate becomes U+FFFD.
fn unescape(escaped: &str, to: &mut String) -> Result<(), Unreadable> {
    let mut rest = escaped;
    while let Some(at) = memchr::memchr(b'\\', rest.as_bytes()) {
        to.push_str(&rest[..at]);
        let (c, length) = match rest.as_bytes().get(at + 1).ok_or(Unreadable)? {
            b'u' => {
                let high = hex(rest, at + 2)?;
                match high {
                    0xD800..=0xDBFF if rest[at + 6..].starts_with("\\u") => match hex(rest, at + 8)? {
                        low @ 0xDC00..=0xDFFF => {
                            (char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)), 12)
                        }
                        _ => (None, 6),
                    },
                    _ => (char::from_u32(high), 6),
                }
            }
            b'n' => (Some('\n'), 2),
            b't' => (Some('\t'), 2),
            b'r' => (Some('\r'), 2),
            b'b' => (Some('\u{8}'), 2),
            b'f' => (Some('\u{c}'), 2),
            b'"' => (Some('"'), 2),
            b'\\' => (Some('\\'), 2),
            b'/' => (Some('/'), 2),
            _ => return Err(Unreadable),
        };
        to.push(c.unwrap_or(char::REPLACEMENT_CHARACTER));
        rest = &rest[at + length..];
    }
    to.push_str(rest);
    Ok(())
}

/// Parses the four hexadecimal digits at `at`.
fn hex(text: &str, at: usize) -> Result<u32, Unreadable> {
    let digits = text
        .get(at..at + 4)
        .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .ok_or(Unreadable)?;
    u32::from_str_radix(digits, 16).map_err(|_| Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(data: &str, paths: &[&str]) -> Result<Vec<String>, Unreadable> {
        let mut tree = Paths::default();
        let ids: Vec<PathId> = paths
            .iter()
            .map(|path| tree.intern(&path.split('.').map(String::from).collect::<Vec<_>>()))
            .collect();
        let mut fields = Fields::default();
        fields.read(data, &tree)?;
        // A second read must not see fields of the first.
        fields.read(data, &tree)?;
        let mut found = Vec::new();
        for (path, id) in paths.iter().zip(ids) {
            for &field in fields.on(id) {
                let value = match fields.value(data, field) {
                    Value::Text(text) => format!("{text:?}"),
                    Value::Number(number) => format!("{}", number.to_float()),
                    Value::Literal(literal) => literal.as_str().into(),
                };
                let trail: String = fields
                    .trail(field)
                    .iter()
                    .map(|element| format!("@{}[{}]", element.array, element.index))
                    .collect();
                found.push(format!("{path}={value}{trail}"));
            }
        }
        Ok(found)
    }

    #[test]
    fn finds_leaves() {
        let check = |data: &str, paths: &[&str], expected: &[&str]| {
            assert_eq!(read(data, paths).unwrap(), expected, "{data}")
        };
        check(
            r#"{"a":1,"b":{"c":"x","d":[null,true]},"e":false}"#,
            &["a", "b.c", "b.d", "e"],
            &["a=1", "b.c=\"x\"", "b.d=null", "b.d=true", "e=false"],
        );
        check(r#" { "a" : [ ] , "b" : { } , "c" : "" } "#, &["a", "b", "c"], &["c=\"\""]);
        check(r#"{"a":{"b":1},"c":2}"#, &["a", "c.d", "c"], &["c=2"]);
        check(
            r#"{"a":[{"b":1},{"b":2,"c":[{"d":3}]},[4]]}"#,
            &["a.b", "a.c.d", "a"],
            &["a.b=1@0[0]", "a.b=2@0[1]", "a.c.d=3@0[1]@1[0]", "a=4@0[2]"],
        );
        check(r#"{"a.b":{"c":1},"a":{"b.c":2}}"#, &["a.b.c"], &["a.b.c=1", "a.b.c=2"]);
        check(
            r#"{"\u0061\n":"\u003c\"\\\/\ud83d\ude00\ud83dx"}"#,
            &["a\n"],
            &["a\n=\"<\\\"\\\\/😀\u{fffd}x\""],
        );
        check(r#"{"skip":{"a":"}\"]","b":[[{}]]},"a":-1.5e2}"#, &["a"], &["a=-150"]);
        check("", &["a"], &[]);
        check(r#""text""#, &["a"], &[]);
    }

    #[test]
    fn rejects_malformed_json() {
        for bad in [
            "{",
            r#"{"a"}"#,
            r#"{"a":}"#,
            r#"{"a":"x"#,
            r#"{"a":"\"#,
            r#"{"a":"\u12"}"#,
            r#"{"a":tru}"#,
            r#"{"a":1x}"#,
            "{}}",
            r#"{"b":[}"#,
            r#"{"a":"\x"}"#,
            r#"{"a":"\ud83d\u"}"#,
            r#"{"b":}"#,
        ] {
            assert_eq!(read(bad, &["a"]), Err(Unreadable), "{bad}");
        }
    }

    #[test]
    fn depth_is_bounded_on_paths_of_patterns() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        assert_eq!(read(&format!("{{\"a\":{deep}}}"), &["a"]), Err(Unreadable));
        assert_eq!(read(&format!("{{\"skipped\":{deep},\"a\":2}}"), &["a"]).unwrap(), ["a=2"]);
    }
}
