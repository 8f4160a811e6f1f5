//! xsd:dateTime as vCenter writes it: RFC 3339 with an offset and any number of fraction digits.
//!
//! ```text
//! 2024-01-02T03:04:05.1200Z        page
//! 2024-01-02T03:04:05.12Z          as Go marshals it
//! └────── kept ─────────┘
//! ```

use super::json::Sink;

/// A parsed time, with the facts needed to write it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time {
    /// Microseconds since 1970 UTC, rounded down.
    pub micros: i64,
    /// The number of bytes to copy: date, time and at most nine fraction digits without trailing
    /// zeros.
    pub kept: usize,
    /// True if the offset is zero in any spelling.
    pub utc: bool,
}

/// Parses `2024-01-02T03:04:05.120Z`. A time without an offset could mean any instant and gives
/// `None`.
pub(super) fn parse(text: &[u8]) -> Option<Time> {
    parse_prefix(text).filter(|(_, len)| *len == text.len()).map(|(time, _)| time)
}

/// Parses a time at the start of `text`, and returns its length as well.
#[inline]
pub(super) fn parse_prefix(text: &[u8]) -> Option<(Time, usize)> {
    let head: &[u8; 19] = text.first_chunk()?;
    let (date, rest) = head.split_first_chunk().expect("8 of 19 bytes");
    let (_, clock) = head.split_last_chunk().expect("8 of 19 bytes");
    let date = Digits::of(*date, *b"0000-00-")?;
    // Bytes that the other words contain stand for the missing ones.
    let day = Digits::of([rest[0], rest[1], rest[2], b'0', b'0', b'0', b'0', b'0'], *b"00T00000")?;
    let clock = Digits::of(*clock, *b"00:00:00")?;
    let (year, month, day) = (date.pair(0) * 100 + date.pair(2), date.pair(5), day.pair(0));
    let (hour, minute, second) = (clock.pair(0), clock.pair(3), clock.pair(6));
    let in_range = hour < 24 && minute < 60 && second < 60 && day >= 1 && (1..13).contains(&month);
    if !in_range || day > 28 && day > days_in_month(year, month) {
        return None;
    }
    let (mut kept, mut len, mut micros) = (19, 19, 0);
    if text.get(19) == Some(&b'.') {
        let Fraction { digits, significant, micros: found } = fraction(&text[20..])?;
        kept += if significant == 0 { 0 } else { 1 + significant };
        (len, micros) = (20 + digits, found);
    }
    let (offset, zone) = match *text.get(len..)? {
        [b'Z', ..] => (0, 1),
        [sign @ (b'+' | b'-'), h1, h2, b':', m1, m2, ..]
            if [h1, h2, m1, m2].iter().all(u8::is_ascii_digit) =>
        {
            let value = |tens: u8, ones: u8| i64::from(tens - b'0') * 10 + i64::from(ones - b'0');
            let (hours, minutes) = (value(h1, h2), value(m1, m2));
            if hours > 23 || minutes > 59 {
                return None;
            }
            (if sign == b'-' { -(hours * 60 + minutes) } else { hours * 60 + minutes }, 6)
        }
        _ => return None,
    };
    let seconds = days_since_1970(year, month, day) * 86_400 + i64::from(hour * 3_600 + minute * 60 + second)
        - offset * 60;
    Some((Time { micros: seconds * 1_000_000 + micros, kept, utc: offset == 0 }, len + zone))
}

/// Every byte of a word.
const fn each(byte: u8) -> u64 {
    u64::from_le_bytes([byte; 8])
}

/// Eight characters, the first one in the lowest byte: digits as their values, and zeros in place
/// of the punctuation.
#[derive(Clone, Copy)]
struct Digits(u64);

impl Digits {
    /// Reads `text` in the form of `pattern`, in which a `0` stands for a digit. All eight bytes
    /// are checked at once.
    #[inline]
    fn of(text: [u8; 8], pattern: [u8; 8]) -> Option<Self> {
        let values = u64::from_le_bytes(text) ^ u64::from_le_bytes(pattern);
        // A byte leaves its lower half if it is above 9, or above 0 in place of punctuation.
        let room = u64::from_le_bytes(pattern.map(|byte| if byte == b'0' { 6 } else { 15 }));
        let is_right = (values | values.wrapping_add(room)) & each(0xF0) == 0;
        is_right.then_some(Digits(values))
    }

    /// The number of the two digits from `at` on.
    #[inline]
    fn pair(self, at: u32) -> u32 {
        let pairs = self.0 * 10 + (self.0 >> 8);
        (pairs >> (8 * at)) as u32 & 0xFF
    }
}

/// The digits after a decimal point.
struct Fraction {
    /// Number of all digits, at least 1.
    digits: usize,
    /// The position of the last digit among the first nine that is not zero; 0 if there is none.
    significant: usize,
    /// The fraction of a second in microseconds, rounded down.
    micros: i64,
}

#[inline]
fn fraction(text: &[u8]) -> Option<Fraction> {
    let Some(word) = text.first_chunk::<8>() else { return long_fraction(text) };
    let values = u64::from_le_bytes(*word) ^ each(b'0');
    // The lowest bit that is set belongs to the first byte that is no digit.
    let others = (values | values.wrapping_add(each(6))) & each(0xF0);
    let digits = others.trailing_zeros() / 8;
    if digits == 0 {
        return None;
    }
    let values = values & (u64::MAX >> (64 - 8 * digits));
    let (mut digits, mut significant) = (digits as usize, 8 - values.leading_zeros() as usize / 8);
    // vCenter writes up to six digits, govmomi nine.
    if digits == 8 {
        match &text[8..] {
            [b'0'..=b'9', b'0'..=b'9', ..] => return long_fraction(text),
            [last @ b'0'..=b'9', ..] => {
                digits = 9;
                significant = if *last == b'0' { significant } else { 9 };
            }
            _ => {}
        }
    }
    // Pairs of digits, then the pairs as four and eight digits.
    let pairs = values * 10 + (values >> 8);
    let first = (pairs & 0x0000_00FF_0000_00FF).wrapping_mul(100 + (1_000_000 << 32));
    let second = ((pairs >> 16) & 0x0000_00FF_0000_00FF).wrapping_mul(1 + (10_000 << 32));
    let eight_digits = (first.wrapping_add(second) >> 32) as u32;
    let micros = i64::from(eight_digits / 100);
    Some(Fraction { digits, significant, micros })
}

/// As [`fraction`], one digit after the other.
#[cold]
fn long_fraction(text: &[u8]) -> Option<Fraction> {
    let (mut micros, mut unit, mut significant) = (0, 100_000, 0);
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    for (at, byte) in text[..digits].iter().enumerate().take(9) {
        micros += i64::from(byte - b'0') * unit;
        unit /= 10;
        if *byte != b'0' {
            significant = at + 1;
        }
    }
    (digits > 0).then_some(Fraction { digits, significant, micros })
}

impl Time {
    /// Appends `text`, from which this time was parsed, as Go marshals a `time.Time`: no trailing
    /// zeros, `Z` for UTC.
    pub(super) fn write(self, out: &mut impl Sink, text: &[u8]) {
        out.put_bytes(&text[..self.kept]);
        out.put_bytes(if self.utc { b"Z" } else { &text[text.len() - 6..] });
    }
}

fn days_in_month(year: u32, month: u32) -> u32 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        _ => 31,
    }
}

/// Days from 1970-01-01 in the proleptic Gregorian calendar. The year begins in March here, so that
/// the leap day is its last day.
fn days_since_1970(year: u32, month: u32, day: u32) -> i64 {
    // Four centuries more, which have 146,097 days, keep the year before 0000 positive.
    let year = year + 400 - u32::from(month <= 2);
    let month_from_march = if month <= 2 { month + 9 } else { month - 3 };
    // Five months from March on have 153 days. 0000-03-01 is 719,468 days before 1970-01-01.
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month_from_march + 2) / 5 + day - 1;
    i64::from(days) - 719_468 - 146_097
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_normalised_and_keep_their_offset() {
        let check = |text: &str, expected: Option<&str>| {
            let written = parse(text.as_bytes()).map(|time| {
                let mut out = Vec::new();
                time.write(&mut out, text.as_bytes());
                String::from_utf8(out).unwrap()
            });
            assert_eq!(written.as_deref(), expected, "{text}");
        };
        check("2024-01-02T03:04:05Z", Some("2024-01-02T03:04:05Z"));
        check("2024-01-02T03:04:05.000Z", Some("2024-01-02T03:04:05Z"));
        check("2024-01-02T03:04:05.1200Z", Some("2024-01-02T03:04:05.12Z"));
        check("2024-01-02T03:04:05.123456789Z", Some("2024-01-02T03:04:05.123456789Z"));
        check("2024-01-02T03:04:05.1234567899Z", Some("2024-01-02T03:04:05.123456789Z"));
        check("2024-01-02T03:04:05.0000000001Z", Some("2024-01-02T03:04:05Z"));
        check("2024-01-02T03:04:05.1+01:00", Some("2024-01-02T03:04:05.1+01:00"));
        check("2024-01-02T03:04:05.1234567+01:00", Some("2024-01-02T03:04:05.1234567+01:00"));
        check("2024-01-02T03:04:05.12345678+01:00", Some("2024-01-02T03:04:05.12345678+01:00"));
        check("2024-01-02T03:04:05.1Z", Some("2024-01-02T03:04:05.1Z"));
        check("2024-01-02T03:04:05.5+05:30", Some("2024-01-02T03:04:05.5+05:30"));
        check("2024-01-02T03:04:05-00:00", Some("2024-01-02T03:04:05Z"));
        check("2024-02-29T23:59:59+00:00", Some("2024-02-29T23:59:59Z"));
        for bad in [
            "",
            "2024-01-02",
            "2024-01-02T03:04:05",
            "2024-01-02t03:04:05Z",
            "2024-01-02T03:04:05z",
            "2024-01-02T03:04:05.Z",
            "2023-02-29T00:00:00Z",
            "2024-13-01T00:00:00Z",
            "2024-00-01T00:00:00Z",
            "2024-01-00T00:00:00Z",
            "2024-01-02T24:00:00Z",
            "2024-01-02T03:04:60Z",
            "2024-01-02T03:04:05+0530",
            "2024-01-02T03:04:05+24:00",
            " 2024-01-02T03:04:05Z",
            "2024-01-02T03:04:05Z ",
            "+024-01-02T03:04:05Z",
            "12024-01-02T03:04:05Z",
            "2024-01-02T03:04:05.",
            "2024-01-02T03:04:05.12",
            "2024-01-02T03:04:05./1234567Z",
            "2024-01-02T03:04:05.\u{ff}1234567Z",
            "2024:01-02T03:04:05Z",
            "202:-01-02T03:04:05Z",
            "2024-01-0:T03:04:05Z",
            "2024-01-02T03:04:0/Z",
        ] {
            check(bad, None);
        }
    }

    #[test]
    fn micros_count_from_1970_in_utc() {
        let check =
            |text: &str, micros: i64| assert_eq!(parse(text.as_bytes()).unwrap().micros, micros, "{text}");
        check("1970-01-01T00:00:00Z", 0);
        check("1970-01-01T01:00:00.000001999+01:00", 1);
        check("1969-12-31T23:59:59.5Z", -500_000);
        check("0001-01-01T00:00:00Z", -62_135_596_800_000_000);
        check("9999-12-31T23:59:59.999999Z", 253_402_300_799_999_999);
    }

    proptest::proptest! {
        #[test]
        fn agrees_with_a_calendar(seconds in -62_135_596_800i64..253_402_300_799) {
            let text = jiff::Timestamp::from_second(seconds).unwrap().to_string();
            proptest::prop_assert_eq!(parse(text.as_bytes()).unwrap().micros, seconds * 1_000_000);
        }

        /// The word of eight digits and the slow way give the same fraction.
        #[test]
        fn fractions_agree_with_the_slow_way(text in "[0-9]{0,10}(Z|\\+01:00)[0-9<a-zA-Z\u{80}-\u{ff}]{0,9}") {
            let facts = |found: Option<Fraction>| found.map(|f| (f.digits, f.significant, f.micros));
            let text = text.as_bytes();
            proptest::prop_assert_eq!(facts(fraction(text)), facts(long_fraction(text)));
        }

        /// One wrong character anywhere in date and time is found.
        #[test]
        fn a_wrong_character_is_refused(at in 0usize..19, byte in proptest::num::u8::ANY) {
            let mut text = *b"2024-12-21T13:14:15Z";
            let was = std::mem::replace(&mut text[at], byte);
            let is_digit = was.is_ascii_digit() && byte.is_ascii_digit();
            proptest::prop_assert!(is_digit || byte == was || parse(&text).is_none(), "{:?}", text);
        }
    }
}
