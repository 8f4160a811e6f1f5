//! Runs one page through both decoders and compares the results text by text. Their arenas may have
//! different layouts.

use vsphere::{Decoded, EventRecord, Span};

use vsphere::Wire;
use vsphere::decode::{Quota, decode_first, decode_within, reference};

pub fn check(page: &[u8]) {
    check_tight(page);
    let (mut fast, mut slow) = (Decoded::default(), Decoded::default());
    let results = (decode_first(page, &mut fast), reference::decode(page, &mut slow));
    assert_eq!(results.0, results.1);
    assert_same(page, &fast, &slow);
}

/// Bounds that a small page meets apply to both decoders alike.
fn check_tight(page: &[u8]) {
    let tight = || Quota::bounded(320 + 3 * page.len(), 1 + page.len() / 32);
    let (mut fast, mut slow) = (Decoded::default(), Decoded::default());
    let result = decode_within(Wire::Soap, page, &mut tight(), &mut fast);
    assert_eq!(result, reference::decode_within(page, &mut tight(), &mut slow).map(drop));
    assert_same(page, &fast, &slow);
}

fn assert_same(page: &[u8], fast: &Decoded, slow: &Decoded) {
    assert_eq!(fast.records.len(), slow.records.len());
    assert_eq!((fast.misfits, fast.unknown_classes), (slow.misfits, slow.unknown_classes));
    let text = |decoded: &Decoded, span: Span| String::from_utf8(decoded.bytes(span).to_vec()).expect("the arena is UTF-8");
    for (a, b) in fast.records.iter().zip(&slow.records) {
        assert_eq!(text(fast, a.data), text(slow, b.data));
        assert_eq!((a.key, a.chain_id, a.created_us, a.category, a.raw), (b.key, b.chain_id, b.created_us, b.category, b.raw));
        let spans = |record: &EventRecord| [record.class, record.subject, record.entity, record.user, record.created_text];
        for (a, b) in spans(a).into_iter().zip(spans(b)) {
            assert_eq!(text(fast, a), text(slow, b));
        }
        assert!(is_json(fast.bytes(a.data)), "{}", text(fast, a.data));
        assert!(page[a.raw.range()].starts_with(b"<"));
    }
}

/// Returns true if `text` is one JSON object. The check only finds missing commas, quotes and
/// escapes; without serde the fuzzer stays fast.
fn is_json(text: &[u8]) -> bool {
    let mut rest = text;
    value(&mut rest, 0) && rest.is_empty() && text.first() == Some(&b'{')
}

fn value(rest: &mut &[u8], depth: usize) -> bool {
    assert!(depth < 1_000, "nests deeper than any page may");
    match rest.first() {
        Some(b'{') => sequence(rest, b'}', |rest| string(rest) && eat(rest, b":") && value(rest, depth + 1)),
        Some(b'[') => sequence(rest, b']', |rest| value(rest, depth + 1)),
        Some(b'"') => string(rest),
        Some(b'-' | b'0'..=b'9') => {
            let len = rest.iter().take_while(|byte| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'0'..=b'9')).count();
            let number = std::str::from_utf8(&rest[..len]).expect("ASCII");
            *rest = &rest[len..];
            number.parse::<f64>().is_ok_and(f64::is_finite)
        }
        _ => eat(rest, b"true") || eat(rest, b"false") || eat(rest, b"null"),
    }
}

fn sequence(rest: &mut &[u8], end: u8, mut item: impl FnMut(&mut &[u8]) -> bool) -> bool {
    *rest = &rest[1..];
    if eat(rest, &[end]) {
        return true;
    }
    loop {
        if !item(rest) {
            return false;
        }
        if eat(rest, &[end]) {
            return true;
        }
        if !eat(rest, b",") {
            return false;
        }
    }
}

fn string(rest: &mut &[u8]) -> bool {
    if !eat(rest, b"\"") {
        return false;
    }
    while let Some((byte, after)) = rest.split_first() {
        *rest = after;
        match byte {
            b'"' => return true,
            b'\\' => match rest.first() {
                Some(b'u') if rest.len() >= 5 && rest[1..5].iter().all(u8::is_ascii_hexdigit) => *rest = &rest[5..],
                Some(b'"' | b'\\' | b'n' | b'r' | b't') => *rest = &rest[1..],
                _ => return false,
            },
            0..0x20 => return false,
            _ => {}
        }
    }
    false
}

fn eat(rest: &mut &[u8], token: &[u8]) -> bool {
    match rest.strip_prefix(token) {
        Some(after) => {
            *rest = after;
            true
        }
        None => false,
    }
}
