//! The items of a JSON array, found without decoding it. This splits a page of VI/JSON into events.
//!
//! The scan counts brackets and skips strings, nothing else. Whether the page is valid JSON is for
//! the decoder to decide.

use std::ops::Range;

use memchr::memchr2;

/// Calls `each` with the range of every item of the array `page`. Returns false if `page` is not an
/// array or ends before the array does.
pub(super) fn items(page: &[u8], mut each: impl FnMut(Range<usize>)) -> bool {
    let Some(open) = page.iter().position(|byte| !byte.is_ascii_whitespace()) else { return false };
    if page[open] != b'[' {
        return false;
    }
    let (mut at, mut start, mut depth) = (open + 1, open + 1, 0_usize);
    let mut item = |start: usize, end: usize| {
        let text = page[start..end].trim_ascii_start();
        let start = end - text.len();
        let end = start + text.trim_ascii_end().len();
        if start < end {
            each(start..end);
        }
    };
    while let Some(byte) = page.get(at) {
        match byte {
            b'"' => match string_end(page, at + 1) {
                Some(end) => at = end,
                None => return false,
            },
            b'[' | b'{' => depth += 1,
            b']' if depth == 0 => {
                item(start, at);
                return page[at + 1..].trim_ascii().is_empty();
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                item(start, at);
                start = at + 1;
            }
            _ => {}
        }
        at += 1;
    }
    false
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
}
