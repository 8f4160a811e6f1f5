//! Text that other machines wrote: a server's answer, a fault, an event. Before it reaches a log, a
//! page, a table or an error, it is redacted, escaped and cut, in this order.
//!
//! INVARIANT: the results have no control character, no line or paragraph separator and no mark
//! that reorders text. Such text can neither forge a line nor control a terminal.

mod address;

use std::borrow::Cow;
use std::fmt::{self, Write};

pub use self::address::{hidden_parts, readable, secret_name, secret_parts};
use crate::limits::CELL_CHARS_MAX;
use crate::redact::redact;

/// Stands for the part of a text that was cut off.
const CUT: char = '…';

/// Makes a text safe to show, in at most `max` bytes.
pub fn text(text: &str, max: usize) -> String {
    // A secret that begins before `max` is found whole, or by its beginning at the end.
    let end = (0..=text.len().min(2 * max)).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    cut(&escaped(&redact(&text[..end])), max, end < text.len())
}

/// Makes a value safe to show, in at most `max` bytes. A long value is not rendered to its end.
pub fn display(value: impl fmt::Display, max: usize) -> String {
    let mut beginning = BoundedText { text: String::new(), max: 2 * max, is_cut: false };
    // Only `BoundedText` fails here, when it is full.
    let _ = write!(beginning, "{value}");
    let BoundedText { text, is_cut, .. } = beginning;
    cut(&escaped(&redact(&text)), max, is_cut)
}

/// Makes bytes of unknown encoding safe to show, in at most `max` bytes.
pub fn bytes(bytes: &[u8], max: usize) -> String {
    text(&String::from_utf8_lossy(&bytes[..bytes.len().min(4 * max)]), max)
}

/// A cell of a table, at most [`CELL_CHARS_MAX`] wide.
pub fn cell(value: &str) -> String {
    let value = text(value, 4 * CELL_CHARS_MAX);
    match value.char_indices().nth(CELL_CHARS_MAX) {
        None => value,
        Some(_) => value.chars().take(CELL_CHARS_MAX - 1).chain([CUT]).collect(),
    }
}

/// Escapes a text of several lines, of which each stays one.
pub fn lines(text: &str) -> String {
    let lines = text.split('\n').map(|line| escaped(line).into_owned());
    lines.collect::<Vec<_>>().join("\n")
}

/// Escapes characters that end lines, control terminals or reorder text, as Rust writes them.
pub fn escaped(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for char in text.chars() {
        match is_unsafe(char) {
            true => out.extend(char.escape_default()),
            false => out.push(char),
        }
    }
    Cow::Owned(out)
}

/// Escapes the same characters within JSON, where each stands for itself. The value stays the same.
pub fn escaped_json(json: &str) -> Cow<'_, str> {
    if !json.chars().any(is_unsafe) {
        return Cow::Borrowed(json);
    }
    let mut out = String::with_capacity(json.len() + 16);
    for char in json.chars() {
        match is_unsafe(char) {
            true => out.push_str(&format!("\\u{:04x}", u32::from(char))),
            false => out.push(char),
        }
    }
    Cow::Owned(out)
}

fn is_unsafe(char: char) -> bool {
    char.is_control()
        || matches!(char,
            '\u{2028}' | '\u{2029}'
            // Marks, embeddings, overrides and isolates of bidirectional text.
            | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Cuts a text to `max` bytes. `is_cut` is true if some of it is missing already.
fn cut(text: &str, max: usize, is_cut: bool) -> String {
    if text.len() <= max && !is_cut {
        return text.to_owned();
    }
    let room = max.saturating_sub(CUT.len_utf8()).min(text.len());
    let end = (0..=room).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    let kept = text[..end].trim_end_matches(CUT);
    format!("{kept}{CUT}")
}

/// Keeps the first `max` bytes of what is written into it.
struct BoundedText {
    text: String,
    max: usize,
    is_cut: bool,
}

impl Write for BoundedText {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = (self.max - self.text.len()).min(part.len());
        let end = (0..=room).rev().find(|at| part.is_char_boundary(*at)).unwrap_or(0);
        self.text.push_str(&part[..end]);
        self.is_cut |= end < part.len();
        if self.is_cut { Err(fmt::Error) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn text_cannot_forge_lines_or_control_a_terminal() {
        let check = |given: &str, expected: &str| assert_eq!(text(given, 100), expected);
        check("plain ä密🔒 \\ text", "plain ä密🔒 \\ text");
        check("a\r\nb\tc\0", "a\\r\\nb\\tc\\u{0}");
        check("\u{1b}[31m\u{7f}\u{9b}\u{85}", "\\u{1b}[31m\\u{7f}\\u{9b}\\u{85}");
        check("\u{2028}\u{2029}\u{202e}\u{2066}\u{200f}", "\\u{2028}\\u{2029}\\u{202e}\\u{2066}\\u{200f}");
        assert_eq!(lines("one\ntwo\u{1b}\n"), "one\ntwo\\u{1b}\n");
        assert_eq!(escaped_json("{\"a\":\"\u{202e}\u{9b}ä\"}"), "{\"a\":\"\\u202e\\u009bä\"}");
    }

    #[test]
    fn text_is_bounded_before_it_is_rendered() {
        assert_eq!(text(&"ä".repeat(5_000_000), 9), "äää…");
        assert_eq!(text("123456789", 9), "123456789");
        assert_eq!(text("1234567890", 9), "123456…");
        struct Endless;
        impl fmt::Display for Endless {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                loop {
                    f.write_str("again ")?;
                }
            }
        }
        assert_eq!(display(Endless, 12), "again aga…");
        assert_eq!(cell(&"x".repeat(70_000)).chars().count(), CELL_CHARS_MAX);
    }

    #[test]
    fn a_secret_at_the_bound_is_not_shown_in_part() {
        let secret: std::sync::Arc<str> = "outside-test-secret-of-some-length".into();
        crate::redact::register(&secret);
        for before in 0..60 {
            let said = format!("{}{secret} and more", ".".repeat(before));
            let shown = text(&said, 30);
            assert!(shown.len() <= 30 && !shown.contains("outs"), "{shown}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_text_becomes_one_bounded_line(given in any::<String>(), max in 3usize..200) {
            let shown = text(&given, max);
            prop_assert!(shown.len() <= max && !shown.chars().any(is_unsafe));
            prop_assert_eq!(display(&given, max).len() <= max, true);
        }
    }
}
