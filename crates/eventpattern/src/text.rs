//! Wildcards and case-insensitive comparison.

use memchr::memmem::Finder;

/// A text with `*`: literals with any text between them.
#[derive(Clone, Debug)]
pub struct Glob {
    /// The literal before the first star, or the whole text if it has no star.
    first: Box<str>,
    /// The literals between stars. Their searchers are built once, because building one costs
    /// several times as much as searching a short text.
    middle: Box<[Finder<'static>]>,
    /// The literal after the last star; `None` if there is no star.
    last: Option<Box<str>>,
}

/// A syntax error in a wildcard, with its byte offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GlobError {
    Adjacent(usize),
    Escape(usize),
}

impl Glob {
    /// Parses `wildcard`, in which a backslash escapes `*` and itself, or (without `escapes`) the
    /// `shellstyle` of quamina.
    pub fn parse(text: &str, escapes: bool) -> Result<Self, GlobError> {
        let mut literals = Vec::new();
        let mut literal = String::new();
        let mut chars = text.char_indices().peekable();
        while let Some((offset, c)) = chars.next() {
            match c {
                '*' => {
                    if chars.peek().is_some_and(|&(_, next)| next == '*') {
                        return Err(GlobError::Adjacent(offset));
                    }
                    literals.push(std::mem::take(&mut literal).into_boxed_str());
                }
                '\\' if escapes => match chars.next() {
                    Some((_, escaped @ ('*' | '\\'))) => literal.push(escaped),
                    _ => return Err(GlobError::Escape(offset)),
                },
                c => literal.push(c),
            }
        }
        literals.push(literal.into_boxed_str());
        let mut literals = literals.into_iter();
        let first = literals.next().unwrap_or_default();
        let last = literals.next_back();
        Ok(Glob {
            first,
            middle: literals.map(|literal| Finder::new(literal.as_bytes()).into_owned()).collect(),
            last,
        })
    }

    /// The literals at the start and at the end; a text that matches has both.
    pub fn affixes(&self) -> (&str, &str) {
        (&self.first, self.last.as_deref().unwrap_or_default())
    }

    pub fn matches(&self, text: &str) -> bool {
        let Some(last) = &self.last else { return *self.first == *text };
        let Some(rest) = text.strip_prefix(&*self.first).and_then(|rest| rest.strip_suffix(&**last)) else {
            return false;
        };
        // The leftmost occurrence of a literal leaves the most text for the literals after it.
        let mut rest = rest.as_bytes();
        for finder in &self.middle {
            match finder.find(rest) {
                Some(at) => rest = &rest[at + finder.needle().len()..],
                None => return false,
            }
        }
        true
    }
}

/// Text that matches in any case. As in Event Ruler, every character of the *pattern* stands for
/// its lower-case and its upper-case form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Folded {
    Ascii(Box<str>),
    /// Both forms of each character. A form may have several characters (`ß`, `SS`).
    Unicode(Box<[(Box<str>, Box<str>)]>),
}

impl Folded {
    pub fn new(text: &str) -> Self {
        if text.is_ascii() {
            return Folded::Ascii(text.into());
        }
        let forms = text
            .chars()
            .map(|c| (c.to_lowercase().collect::<Box<str>>(), c.to_uppercase().collect::<Box<str>>()));
        Folded::Unicode(forms.collect())
    }

    /// The text, if it is ASCII.
    pub fn as_ascii(&self) -> Option<&str> {
        match self {
            Folded::Ascii(text) => Some(text),
            Folded::Unicode(_) => None,
        }
    }

    pub fn equals(&self, text: &str) -> bool {
        match self {
            Folded::Ascii(folded) => folded.eq_ignore_ascii_case(text),
            Folded::Unicode(_) => self.strip_prefix(text) == Some(""),
        }
    }

    pub fn is_prefix_of(&self, text: &str) -> bool {
        match self {
            Folded::Ascii(folded) => text
                .as_bytes()
                .get(..folded.len())
                .is_some_and(|head| head.eq_ignore_ascii_case(folded.as_bytes())),
            Folded::Unicode(_) => self.strip_prefix(text).is_some(),
        }
    }

    pub fn is_suffix_of(&self, text: &str) -> bool {
        match self {
            Folded::Ascii(folded) => {
                let tail = text.len().checked_sub(folded.len()).map(|start| &text.as_bytes()[start..]);
                tail.is_some_and(|tail| tail.eq_ignore_ascii_case(folded.as_bytes()))
            }
            Folded::Unicode(forms) => {
                let mut rest = text;
                forms.iter().rev().all(|(lower, upper)| {
                    let stripped = rest.strip_suffix(&**lower).or_else(|| rest.strip_suffix(&**upper));
                    rest = stripped.unwrap_or(rest);
                    stripped.is_some()
                })
            }
        }
    }

    /// The rest of `text` after the pattern. Neither form of a character is a prefix of the other,
    /// so the first form that fits is the only one.
    fn strip_prefix<'t>(&self, text: &'t str) -> Option<&'t str> {
        let Folded::Unicode(forms) = self else { return None };
        forms.iter().try_fold(text, |rest, (lower, upper)| {
            rest.strip_prefix(&**lower).or_else(|| rest.strip_prefix(&**upper))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards() {
        let check = |glob: &str, text: &str, expected: bool| {
            assert_eq!(Glob::parse(glob, true).unwrap().matches(text), expected, "{glob} on {text}");
        };
        check("*", "", true);
        check("*", "anything", true);
        check("a*", "a", true);
        check("a*", "ba", false);
        check("*a", "ba", true);
        check("a*a", "a", false);
        check("a*a", "aa", true);
        check("*/lib/*", "/usr/lib/x", true);
        check("*/lib/*", "/usr/lib", false);
        check("a*b*c", "a-b-b-c", true);
        check("a*b*c", "a-c-b", false);
        check("*ab*ab*", "abab", true);
        check("*ab*ab*", "abb", false);
        check(r"a\*b", "a*b", true);
        check(r"a\*b", "axb", false);
        check(r"a\\*", r"a\x", true);
        check("plain", "plain", true);
        check("plain", "plains", false);
        check("", "", true);
        check("", "x", false);
        check("日*語", "日本語", true);
    }

    #[test]
    fn wildcard_errors() {
        assert_eq!(Glob::parse("a**", true).err(), Some(GlobError::Adjacent(1)));
        assert_eq!(Glob::parse(r"a\x", true).err(), Some(GlobError::Escape(1)));
        assert_eq!(Glob::parse("a\\", true).err(), Some(GlobError::Escape(1)));
        assert!(Glob::parse(r"a\x*", false).unwrap().matches(r"a\x-y"));
    }

    #[test]
    fn folding() {
        let check = |pattern: &str, text: &str, equals: bool, prefix: bool, suffix: bool| {
            let folded = Folded::new(pattern);
            assert_eq!(folded.equals(text), equals, "{pattern} equals {text}");
            assert_eq!(folded.is_prefix_of(text), prefix, "{pattern} begins {text}");
            assert_eq!(folded.is_suffix_of(text), suffix, "{pattern} ends {text}");
        };
        check("EventB", "eventb", true, true, true);
        check("EventB", "EVENTBRIDGE", false, true, false);
        check("tBridge", "EVENTBRIDGE", false, false, true);
        check("Ünï", "üNÏ", true, true, true);
        check("ünï", "ÜNÏx", false, true, false);
        check("ünï", "xÜNÏ", false, false, true);
        check("straße", "STRASSE", true, true, true);
        check("é", "x", false, false, false);
        // The length of an ASCII pattern may fall inside a character of the text.
        check("ab", "aé", false, false, false);
    }
}
