//! Where the items of a JSON array lie: what a page of VI/JSON is cut into without decoding it.
//!
//! Brackets are counted and strings skipped, nothing else is looked at: the decoder says whether it is JSON.

use std::ops::Range;

use memchr::memchr2;

/// Calls `each` with the place of every item of the array that `page` is; false where the page ends before the array does, or is none.
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

/// Where the quote stands that ends the string which goes on at `at`.
fn string_end(page: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr2(b'"', b'\\', page.get(at..)?)?;
        if page[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// Whether `page` is an array from its first bracket to its last.
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
