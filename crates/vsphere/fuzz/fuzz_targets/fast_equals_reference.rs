//! Real pages with plausible changes: tags, text and attributes are cut, doubled, swapped and
//! replaced. Both decoders must agree about each page.
//!
//! Changes of single bytes would seldom leave a page well-formed. Here libFuzzer's own changes
//! alternate with changes of whole pieces of markup.
#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

#[path = "same.rs"]
mod same;

fuzz_target!(|page: &[u8]| same::check(page));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random(u64::from(seed) | 1 << 40);
    if random.below(4) == 0 {
        return fuzzer_mutate(data, size, max_size);
    }
    let mut pieces = split(&data[..size]);
    for _ in 0..=random.below(3) {
        change(&mut pieces, &mut random);
    }
    let page = pieces.concat();
    let len = page.len().min(max_size);
    data[..len].copy_from_slice(&page[..len]);
    len
});

/// Splits a page into tags and the texts between them.
fn split(page: &[u8]) -> Vec<Vec<u8>> {
    let mut pieces: Vec<Vec<u8>> = vec![Vec::new()];
    for byte in page {
        if *byte == b'<' {
            pieces.push(Vec::new());
        }
        let last = pieces.len() - 1;
        pieces[last].push(*byte);
        if *byte == b'>' {
            pieces.push(Vec::new());
        }
    }
    pieces
}

/// Makes one random change.
fn change(pieces: &mut Vec<Vec<u8>>, random: &mut Random) {
    let at = random.below(pieces.len());
    match random.below(8) {
        // Double, remove or swap a tag or a text.
        0 => pieces.insert(at, pieces[at].clone()),
        1 => drop(pieces.remove(at)),
        2 => {
            let other = random.below(pieces.len());
            pieces.swap(at, other);
        }
        3 | 4 => {
            // Double or move a whole element, which leaves the page well-formed.
            let Some(range) = element(pieces, at) else { return };
            let copy = pieces[range.clone()].to_vec();
            if random.below(2) == 0 {
                pieces.drain(range.clone());
            }
            let starts: Vec<_> = (0..pieces.len()).filter(|i| pieces[*i].starts_with(b"<")).collect();
            if let Some(to) = starts.get(random.below(starts.len().max(1))) {
                pieces.splice(*to..*to, copy);
            }
        }
        5 => {
            // Add an attribute.
            if pieces[at].starts_with(b"<") && !pieces[at].starts_with(b"</") && pieces[at].ends_with(b">") {
                let end = pieces[at].len() - 1;
                pieces[at].splice(end..end, ATTRIBUTES[random.below(ATTRIBUTES.len())].bytes());
            }
        }
        _ => {
            // Replace a text.
            if !pieces[at].starts_with(b"<") {
                let text = TEXTS[random.below(TEXTS.len())].as_bytes();
                let keep = random.below(pieces[at].len() + 1);
                pieces[at].truncate(keep);
                pieces[at].extend_from_slice(text);
            }
        }
    }
    if pieces.is_empty() {
        pieces.push(Vec::new());
    }
}

/// The range of the element that begins at `at`.
fn element(pieces: &[Vec<u8>], at: usize) -> Option<std::ops::Range<usize>> {
    let mut depth = 0;
    for (i, piece) in pieces.iter().enumerate().skip(at) {
        if piece.starts_with(b"</") {
            depth -= 1;
        } else if piece.starts_with(b"<") && !piece.ends_with(b"/>") && !piece.starts_with(b"<!") && !piece.starts_with(b"<?") {
            depth += 1;
        }
        if depth <= 0 {
            return (depth == 0 && i > at).then_some(at..i + 1);
        }
    }
    None
}

const ATTRIBUTES: &[&str] = &[
    " xsi:type=\"xsd:int\"",
    " xsi:type=\"VirtualMachine\"",
    " xsi:type=\"MethodFault\"",
    " xsi:nil=\"true\"",
    " type=\"VirtualMachine\"",
    " xmlns:xsi=\"urn:x\"",
    " xmlns:xsd=\"urn:x\"",
    " xmlns:p=\"http://www.w3.org/2001/XMLSchema-instance\" p:type=\"NotFound\"",
    " p:type=\"Description\"",
    " a='b'",
    "/",
    " ",
];

const TEXTS: &[&str] = &[
    "",
    " ",
    "0",
    "-1",
    "007",
    "2147483648",
    "9223372036854775807",
    "true",
    "1",
    "1e21",
    "0.5",
    "2024-01-02T03:04:05.120Z",
    "2024-02-30T03:04:05+02:00",
    "&amp;&lt;&#65;",
    "&nope;",
    "]]>",
    "\u{2028}\u{fffd}\u{ffff}",
    "a\"b\\c\nd\r\n",
    "<!-- c -->",
    "<![CDATA[<&]]>",
    "<?p i?>",
    "<x/>",
    "日本語 ünï",
];

/// Xorshift: the same seed gives the same changes.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}
