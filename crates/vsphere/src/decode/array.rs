//! The items of a JSON array, found without decoding it. This splits a page of VI/JSON into events.
//!
//! The scan counts brackets and skips strings, nothing else. Whether the page is valid JSON is for
//! the decoder to decide.

use std::ops::Range;

use memchr::memchr2;

/// An item of an array, or the empty text between two commas.
pub(super) struct ArrayItem {
    pub range: Range<usize>,
    /// The values in the item, itself apart: its commas, and its opening brackets and braces.
    pub values: usize,
    /// The levels of brackets and braces in the item.
    pub depth: usize,
}

/// The items of a page, one after the other.
pub(super) struct ArrayItems<'p> {
    page: &'p [u8],
    /// The start of the latest item.
    start: usize,
    at: usize,
    state: Scan,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Scan {
    Inside,
    /// The array has ended, with nothing behind it.
    Whole,
    /// The page ends before the array does, or has something behind it.
    Broken,
}

impl<'p> ArrayItems<'p> {
    /// `None` if `page` is not an array.
    pub fn new(page: &'p [u8]) -> Option<Self> {
        let open = page.iter().position(|byte| !byte.is_ascii_whitespace())?;
        (page[open] == b'[').then_some(ArrayItems {
            page,
            start: open + 1,
            at: open + 1,
            state: Scan::Inside,
        })
    }

    /// True once the array was read to its end and nothing follows it.
    pub fn is_whole(&self) -> bool {
        self.state == Scan::Whole
    }

    /// The text that is left when no further item follows.
    pub fn rest(&self) -> Range<usize> {
        let text = self.page[self.start..].trim_ascii_start();
        let start = self.page.len() - text.len();
        start..start + text.trim_ascii_end().len()
    }

    fn item(&self, start: usize, end: usize, values: usize, depth: usize) -> ArrayItem {
        let text = self.page[start..end].trim_ascii_start();
        let start = end - text.len();
        ArrayItem { range: start..start + text.trim_ascii_end().len(), values, depth }
    }
}

impl Iterator for ArrayItems<'_> {
    type Item = ArrayItem;

    fn next(&mut self) -> Option<ArrayItem> {
        if self.state != Scan::Inside {
            return None;
        }
        let start = self.at;
        self.start = start;
        let (mut depth, mut deepest, mut values) = (0_usize, 0, 0);
        while let Some(byte) = self.page.get(self.at) {
            match byte {
                b'"' => match string_end(self.page, self.at + 1) {
                    Some(end) => self.at = end,
                    None => break,
                },
                b'[' | b'{' => {
                    (depth, values) = (depth + 1, values + 1);
                    deepest = deepest.max(depth);
                }
                b']' if depth == 0 => {
                    let end = self.at;
                    self.start = end + 1;
                    let behind = &self.page[self.start..];
                    self.state = if behind.trim_ascii().is_empty() { Scan::Whole } else { Scan::Broken };
                    return Some(self.item(start, end, values, deepest));
                }
                b']' | b'}' => depth = depth.saturating_sub(1),
                b',' if depth == 0 => {
                    self.at += 1;
                    return Some(self.item(start, self.at - 1, values, deepest));
                }
                b',' => values += 1,
                _ => {}
            }
            self.at += 1;
        }
        self.state = Scan::Broken;
        None
    }
}

/// Calls `each` with the range of every item of the array `page`. Returns false if `page` is not an
/// array or ends before the array does.
pub(super) fn items(page: &[u8], mut each: impl FnMut(Range<usize>)) -> bool {
    let Some(mut items) = ArrayItems::new(page) else { return false };
    items.by_ref().filter(|item| !item.range.is_empty()).for_each(|item| each(item.range));
    items.is_whole()
}

/// The values in any JSON text, at most: they are counted without decoding it.
pub fn values(text: &[u8]) -> usize {
    let (mut at, mut values) = (0, 1);
    while let Some(byte) = text.get(at) {
        match byte {
            b'"' => match string_end(text, at + 1) {
                Some(end) => at = end,
                None => break,
            },
            b'[' | b'{' | b',' => values += 1,
            _ => {}
        }
        at += 1;
    }
    values
}

/// Returns the offset of the quote that ends a string; `at` is inside the string.
fn string_end(page: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr2(b'"', b'\\', page.get(at..)?)?;
        if page[at] == b'"' {
            return Some(at);
        }
        // A backslash and the character that it escapes.
        at += 2;
    }
}

/// Returns true if `page` is one array from its first bracket to its last.
pub fn is_whole(page: &[u8]) -> bool {
    items(page, |_| {})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_found_without_decoding() {
        let check = |page: &str, whole: bool, expected: &[&str]| {
            let mut found = Vec::new();
            assert_eq!(items(page.as_bytes(), |range| found.push(&page[range])), whole, "{page}");
            assert_eq!(found, expected, "{page}");
        };
        check("[]", true, &[]);
        check(" [ ] \n", true, &[]);
        check("[1]", true, &["1"]);
        check(
            "[ {\"a\":[1,{}]} ,\n{\"b\":\"],[\\\"\\\\\"}]",
            true,
            &["{\"a\":[1,{}]}", "{\"b\":\"],[\\\"\\\\\"}"],
        );
        check("[{\"a\":1},{\"b\":[2]", false, &["{\"a\":1}"]);
        check("[{\"a\":\"\\", false, &[]);
        check("[1]x", false, &["1"]);
        check("{\"a\":[]}", false, &[]);
        check("", false, &[]);
        check("  ", false, &[]);
    }

    #[test]
    fn values_are_counted_before_they_are_decoded() {
        let check = |text: &str, expected: &[(usize, usize)]| {
            let found: Vec<_> = ArrayItems::new(text.as_bytes())
                .into_iter()
                .flatten()
                .map(|item| (item.values, item.depth))
                .collect();
            assert_eq!(found, expected, "{text}");
        };
        check("[]", &[(0, 0)]);
        check(r#"[1,"[,{",{"a":[1,2],"b":{}}]"#, &[(0, 0), (0, 0), (5, 2)]);
        assert_eq!(values(br#"{"a":[1,2,3],"b":"[,{","c":null}"#), 7);
        assert_eq!(values(b"\"cut"), 1);
    }
}
