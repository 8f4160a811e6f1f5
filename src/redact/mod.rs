//! Finds the secrets of this process in text, in whatever escaping, and removes them.
//!
//! ```text
//! config::Secret ──┐                         ┌── outside::text: reasons, pages, tables
//! sessions, AWS ───┼─► Weak ─► Matcher ◄─────┤
//! URLs ────────────┘   (KNOWN)  (text)       └── telemetry::log: every field of every line
//! ```
//!
//! Each secret registers itself when it comes into being, so no caller can forget it. The registry
//! does not keep it alive; a [`Former`] does so for values that are rotated, since a server may
//! still mention the last one.
//!
//! Redaction happens on failures and in log lines, never for an event that is delivered. Its text
//! must be bounded by the caller.
//!
//! INVARIANT: a secret of at least [`SECRET_CHARS_MIN`] characters that lives is found in the
//! result of no function here: plain, escaped for JSON, XML, HTML or a URL, in base64 or hex, or in
//! [`ENCODINGS_CERTAIN`] of these inside one another. [`ENCODINGS_NESTED_MAX`] are undone as well,
//! unless the text is long and made to have very many decodings.

mod decodings;
mod former;

use std::collections::HashSet;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use aho_corasick::AhoCorasick;
use arc_swap::ArcSwapOption;

use self::decodings::{Decoding, Encoding};
pub use self::former::Former;
use crate::limits::{DECODED_BYTES_MAX, ENCODINGS_CERTAIN, ENCODINGS_NESTED_MAX, SECRET_CHARS_MIN};

/// Stands for a secret.
const HIDDEN: &str = "…";

/// The secrets of this process. Its size is bounded by what keeps them alive.
static KNOWN: Mutex<Vec<Weak<str>>> = Mutex::new(Vec::new());
/// Made from `KNOWN` when it is needed; `None` if there are no secrets.
static MATCHER: ArcSwapOption<Matcher> = ArcSwapOption::const_empty();
static IS_STALE: AtomicBool = AtomicBool::new(false);

/// Returns true if a secret is long enough to be redacted.
pub fn is_redactable(secret: &str) -> bool {
    secret.chars().nth(SECRET_CHARS_MIN - 1).is_some()
}

/// Redacts `secret` from now on, as long as it lives.
pub fn register(secret: &Arc<str>) {
    if !is_redactable(secret) {
        return;
    }
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    // Make room only when the list would grow, so that registering stays cheap.
    if known.len() == known.capacity() {
        known.retain(|known| known.strong_count() > 0);
    }
    known.push(Arc::downgrade(secret));
    IS_STALE.store(true, Ordering::Release);
}

/// Removes all secrets from `text`. It may be cut anywhere, so the beginning of a secret at its end
/// is removed as well.
pub fn redact(text: &str) -> String {
    match matcher() {
        Some(matcher) if !text.is_empty() => matcher.redact(text),
        _ => text.to_owned(),
    }
}

fn matcher() -> Option<Arc<Matcher>> {
    if IS_STALE.load(Ordering::Acquire) {
        // Others wait meanwhile, so that none of them uses a matcher without the newest secret.
        let known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if IS_STALE.load(Ordering::Acquire) {
            let secrets: Vec<Arc<str>> = known.iter().filter_map(Weak::upgrade).collect();
            MATCHER.store(Matcher::new(&secrets).map(Arc::new));
            IS_STALE.store(false, Ordering::Release);
        }
    }
    MATCHER.load_full()
}

/// Searches text for a set of secrets.
struct Matcher {
    secrets: Vec<String>,
    search: AhoCorasick,
}

impl Matcher {
    fn new(secrets: &[Arc<str>]) -> Option<Self> {
        // Servers trim values, so a secret is also found without the white space around it.
        let both = secrets.iter().flat_map(|secret| [&**secret, secret.trim()]);
        let distinct: HashSet<&str> = both.filter(|secret| is_redactable(secret)).collect();
        let secrets: Vec<String> = distinct.into_iter().map(ToOwned::to_owned).collect();
        let search = AhoCorasick::new(&secrets).expect("secrets of fewer than 2^31 bytes");
        (!secrets.is_empty()).then_some(Matcher { secrets, search })
    }

    fn redact(&self, text: &str) -> String {
        let mut hidden = self.find(text);
        hidden.sort_by_key(|range| range.start);
        // Join parts that overlap or touch, and leave out the result.
        let mut out = String::with_capacity(text.len());
        let mut shown = 0;
        for range in hidden {
            let start = (0..=range.start).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            let end = (range.end..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
            if end <= shown {
                continue;
            }
            if start > shown || (start == shown && shown == 0) {
                out.push_str(&text[shown..start]);
                out.push_str(HIDDEN);
            }
            shown = end;
        }
        out.push_str(&text[shown..]);
        out
    }

    /// The parts of `text` that hold a secret, in any order.
    fn find(&self, text: &str) -> Vec<Range<usize>> {
        let mut hidden = Vec::new();
        let mut seen = HashSet::new();
        // Breadth first, so that the bound leaves out only the most unusual nestings.
        let mut queue = VecDeque::from([Decoding::of(text)]);
        let mut decoded = 0;
        while let Some(decoding) = queue.pop_front() {
            self.search(&decoding, text, &mut hidden);
            if decoding.depth == ENCODINGS_NESTED_MAX {
                continue;
            }
            for encoding in Encoding::ALL {
                if decoding.depth >= ENCODINGS_CERTAIN {
                    decoded += decoding.bytes.len();
                    if decoded > DECODED_BYTES_MAX {
                        break;
                    }
                }
                let Some(next) = decoding.undo(encoding) else { continue };
                if seen.insert(next.clone()) {
                    queue.push_back(next);
                }
            }
        }
        hidden
    }

    fn search(&self, decoding: &Decoding, text: &str, hidden: &mut Vec<Range<usize>>) {
        let bytes = &decoding.bytes;
        for found in self.search.find_overlapping_iter(bytes) {
            hidden.push(decoding.place(found.start()..found.end()));
        }
        // The beginning of a secret at the end.
        let begun = self.secrets.iter().filter_map(|secret| {
            let longest = (secret.len() - 1).min(bytes.len());
            (1..=longest).rev().find(|length| {
                bytes.ends_with(&secret.as_bytes()[..*length])
                    && String::from_utf8_lossy(&secret.as_bytes()[..*length]).chars().count()
                        >= SECRET_CHARS_MIN
            })
        });
        if let Some(length) = begun.max() {
            hidden.push(decoding.place(bytes.len() - length..bytes.len()).start..text.len());
        }
    }
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::prelude::{BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD};
    use proptest::prelude::*;

    use super::*;

    fn matcher(secrets: &[&str]) -> Matcher {
        let secrets: Vec<Arc<str>> = secrets.iter().map(|secret| Arc::from(*secret)).collect();
        Matcher::new(&secrets).unwrap()
    }

    /// All escapings of every character by one notation.
    fn each(secret: &str, escape: impl Fn(char) -> String) -> String {
        secret.chars().map(escape).collect()
    }

    fn units(char: char, format: impl Fn(u16) -> String) -> String {
        char.encode_utf16(&mut [0; 2]).iter().map(|unit| format(*unit)).collect()
    }

    /// The forms of a secret that a server may repeat.
    fn forms(secret: &str) -> Vec<String> {
        let bytes = |format: fn(u8) -> String| secret.bytes().map(format).collect::<String>();
        let mut forms = vec![
            secret.to_owned(),
            serde_json::to_string(secret).unwrap().trim_matches('"').to_owned(),
            each(secret, |char| units(char, |unit| format!("\\u{unit:04x}"))),
            each(secret, |char| units(char, |unit| format!("\\u{unit:04X}"))),
            each(secret, |char| format!("\\u{{{:x}}}", u32::from(char))),
            each(secret, |char| format!("&#{};", u32::from(char))),
            each(secret, |char| format!("&#x{:x};", u32::from(char))),
            each(secret, |char| format!("&#X{:06X};", u32::from(char))),
            secret.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;").replace('\'', "&apos;"),
            bytes(|byte| format!("%{byte:02x}")),
            bytes(|byte| format!("%{byte:02X}")),
            bytes(|byte| {
                if byte.is_ascii_alphanumeric() { char::from(byte).into() } else { format!("%{byte:02X}") }
            }),
            bytes(|byte| format!("{byte:02x}")),
            format!("{secret:?}").trim_matches('"').to_owned(),
            url::form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
        ];
        for around in ["", "u", "user:", "ab"] {
            for engine in [BASE64_STANDARD, BASE64_STANDARD_NO_PAD, BASE64_URL_SAFE, BASE64_URL_SAFE_NO_PAD] {
                forms.push(engine.encode(format!("{around}{secret}")));
                forms.push(engine.encode(format!("{around}{secret} and more")));
            }
        }
        forms
    }

    const SECRETS: [&str; 6] =
        ["hunter2", "p&<\"'>\\/=+%", "pässwörd-密码-🔒", "50%25 + 7", "a b+c/d=", "\\u0041&amp;%41"];

    #[test]
    fn a_secret_is_found_in_every_form_and_every_form_of_a_form() {
        for secret in SECRETS {
            let matcher = matcher(&[secret]);
            for form in forms(secret) {
                let text = format!("refused ({form}), sorry");
                assert_eq!(matcher.redact(&text), "refused (…), sorry", "{text}");
                for again in forms(&form) {
                    let text = format!("refused ({again}), sorry");
                    assert_eq!(matcher.redact(&text), "refused (…), sorry", "{text}");
                }
            }
        }
    }

    #[test]
    fn the_beginning_of_a_secret_at_the_end_is_removed() {
        for secret in ["correct-horse-battery", "p&<\"'>\\/=+%-and-more"] {
            let matcher = matcher(&[secret]);
            for form in forms(secret) {
                let text = format!("cut: {form}");
                for end in 0..=text.len() {
                    let Some(cut) = text.get(..end) else { continue };
                    let redacted = matcher.redact(cut);
                    let shown = redacted.trim_end_matches('…');
                    // Three characters may stay: of base64 four for three, of escapes twelve each.
                    assert!(shown.len() <= "cut: ".len() + 3 * 12 + 11, "{cut} became {redacted}");
                    assert!(!redacted.contains(&secret[..4]), "{cut} became {redacted}");
                }
            }
        }
        assert_eq!(matcher(&["hunter2"]).redact("a hun"), "a hun", "as good as nothing");
    }

    #[test]
    fn overlapping_secrets_are_removed_as_one() {
        let check = |secrets: &[&str], text: &str, expected: &str| {
            assert_eq!(matcher(secrets).redact(text), expected, "{text}");
        };
        check(&["hunter2", "hunter2-and-more"], "hunter2-and-more, hunter2", "…, …");
        check(&["abcdef", "defghi"], "xabcdefghix", "x…x");
        check(&["abcd"], "abcdabcd", "…");
        check(&["abcd"], "ä abcd ä", "ä … ä");
        check(&[" three \n"], "is three not", "is … not");
    }

    #[test]
    fn a_live_secret_is_known_to_the_process_and_a_short_one_is_not() {
        let (secret, short): (Arc<str>, Arc<str>) = ("registry-test-s3cret".into(), "abc".into());
        register(&secret);
        register(&short);
        assert_eq!(redact("it is registry-test-s3cret, abc"), "it is …, abc");
        let later: Arc<str> = "registry-test-later".into();
        register(&later);
        assert_eq!(redact("registry-test-later"), "…");
    }

    /// A text beside the secret must not use up the work for it.
    #[test]
    fn no_decoy_hides_a_secret() {
        let matcher = matcher(&["hunter2"]);
        // Every encoding finds something in it, and again in what it or another one has decoded.
        let all = "\\\\t\\u0026lt;\\u002541&#92;t&amp;lt;&#37;41%5Ct%26lt;%2541%252b+41424344";
        let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
        let base64 = |text: &str| BASE64_STANDARD_NO_PAD.encode(text);
        let (in_base64, in_hex) = (base64(all), hex(all));
        let decoy = format!("{all} {in_base64} a{in_base64} aa{in_base64} aaa{in_base64} {in_hex} a{in_hex}");
        let check = |form: &str| {
            let redacted = matcher.redact(&format!("{decoy} ({form})"));
            assert!(redacted.ends_with("…)"), "{form}: {redacted}");
        };
        // Some of them: each takes all the work that the bounds allow.
        for form in forms("hunter2").iter().step_by(6) {
            forms(form).iter().step_by(19).for_each(|again| check(again));
            check(&format!("a{}", hex(form)));
        }
        // At every offset of a run.
        check(&format!("a{}", hex(&format!("a{}", hex("hunter2")))));
        for before in ["x", "xx", "xxx"] {
            check(&format!("a{}", hex(&format!("{before}{}", base64("hunter2")))));
        }
    }

    #[test]
    fn hostile_text_takes_bounded_work() {
        let matcher = matcher(&["hunter2"]);
        for part in ["\\u0026#x25;41+QUJDREVG", "%25", "&amp;", "\\\\", "AAAA", "\\ud83d", "&#", "%u00"] {
            let text = part.repeat(1 + (8 << 10) / part.len());
            assert!(!matcher.redact(&text).is_empty());
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn text_without_a_secret_stays(text in "[ -~äß\\n]{0,80}") {
            let matcher = matcher(&["§-never-in-text-§"]);
            prop_assert_eq!(matcher.redact(&text), text);
        }

        #[test]
        fn any_text_is_redacted_without_a_panic(text in any::<String>(), secret in "[a-b%&\\\\]{4}") {
            prop_assert!(!matcher(&[&secret]).redact(&text).contains(&secret));
        }
    }
}
